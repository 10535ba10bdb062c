"""What is different on a GPU: the floor, and a kernel to compare with.

Written for CUDA; the numbers of the other files come from the same code on either device.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case

VOCABULARY = 4096
"""Liger-Kernel's loss begins at logits; small, so that the loss is not all about them."""


def l2_bytes(device: str) -> int:
    """The size of the cache that buffers have to leave between two calls; 0 on a CPU, where a
    batch stays in the cache as it would in training a small model."""
    if device == "cpu":
        return 0
    return int(torch.cuda.get_device_properties(device).L2_cache_size)


def floor() -> Case:
    """Reads four arrays and writes one, as one compiled pointwise kernel."""

    def read_four_write_one(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return a + b * c + d

    kernel = torch.compile(read_four_write_one, fullgraph=True, dynamic=True)

    def run(batch: Batch) -> object:
        with torch.no_grad():
            return kernel(batch.logp.detach(), batch.old_logp, batch.advantages, batch.mask)

    return Case("floor", run)


def has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def liger(module: Any) -> list[Case]:
    """GRPO from logits: Liger-Kernel's fused loss, and torch's log-softmax before `module`.

    Args:
        module: the compiled loss of `grpo`.
    """
    # Not imported by name: hardly any environment has it.
    theirs_of = importlib.import_module("liger_kernel.transformers.grpo_loss").triton_grpo_loss
    made: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def inputs(batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B, T + 1, V), the last of a row unused as Liger has it, and sampled ids."""
        shape = tuple(batch.logp.shape)
        if shape not in made:
            rows, length = shape
            logits = torch.randn(rows, length + 1, VOCABULARY, device=batch.logp.device)
            ids = torch.randint(VOCABULARY, shape, device=batch.logp.device)
            made[shape] = logits.requires_grad_(), ids
        return made[shape]

    def differentiated(loss: Callable[[Batch, Tensor, Tensor], Tensor]) -> Callable[[Batch], None]:
        def run(batch: Batch) -> None:
            logits, ids = inputs(batch)
            loss(batch, logits, ids).backward()  # type: ignore[no-untyped-call]
            logits.grad = None

        return run

    def theirs(batch: Batch, logits: Tensor, ids: Tensor) -> Tensor:
        value: Tensor = theirs_of(
            logits,
            batch.old_logp,
            None,
            ids,
            batch.advantages[:, 0].contiguous(),
            completion_mask=batch.mask,
            temperature=1.0,
            beta=0.0,
            eps_low=0.2,
            eps_high=0.2,
            inplace=False,
            loss_type="grpo",
            reduce=True,
        )[0]
        return value

    def ours(batch: Batch, logits: Tensor, ids: Tensor) -> Tensor:
        logp = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[..., None]).squeeze(-1)
        advantages = batch.advantages[:, :1].expand_as(logp).contiguous()
        value: Tensor = module(logp, batch.old_logp, advantages, batch.mask).loss
        return value

    return [
        Case("GRPO from logits, Liger-Kernel", differentiated(theirs)),
        Case("GRPO from logits, log-softmax + grpo", differentiated(ours)),
    ]
