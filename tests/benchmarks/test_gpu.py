"""What can run without a GPU of the part for one."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import fibdsl
from benchmarks.fused import batches, gpu


def test_buffers_leave_the_cache_of_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.l2_bytes("cpu") == 0
    seen = SimpleNamespace(L2_cache_size=50_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: seen)
    assert gpu.l2_bytes("cuda") == 50_000_000


def test_the_floor_reads_four_and_writes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    batch = batches.padded(3, 5)
    found = gpu.floor().run(batch)
    assert isinstance(found, Tensor)
    assert torch.equal(found, batch.logp + batch.old_logp * batch.advantages + batch.mask)
    assert not found.requires_grad


def test_both_losses_from_logits_get_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger-Kernel's function is replaced by one with its signature."""
    seen: list[dict[str, Any]] = []

    def triton_grpo_loss(
        logits: Tensor,
        old_logp: Tensor,
        ref_logp: Tensor | None,
        completion_ids: Tensor,
        advantages: Tensor,
        completion_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, list[Tensor]]:
        rows, length = completion_ids.shape
        assert logits.shape == (rows, length + 1, gpu.VOCABULARY)
        assert advantages.shape == (rows,)
        assert old_logp.shape == (rows, length)
        assert ref_logp is None
        assert completion_mask is not None
        seen.append(options)
        return logits.sum(), []

    module: Any = types.ModuleType("liger_kernel.transformers.grpo_loss")
    module.triton_grpo_loss = triton_grpo_loss
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(gpu, "VOCABULARY", 11)

    theirs, ours = gpu.liger(fibdsl.load("grpo").compile(backend=None))
    batch = batches.padded(4, 6)
    theirs.run(batch)
    ours.run(batch)
    assert seen[0]["beta"] == 0.0
    assert seen[0]["loss_type"] == "grpo"
    assert batch.logp.grad is None
