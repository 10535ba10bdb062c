"""What is written by hand computes what the reference interpreter computes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fibdsl
from benchmarks.fused import agreement, baselines, batches, objectives
from benchmarks.fused.batches import Batch
from benchmarks.fused.limits import Limits
from benchmarks.fused.objectives import FOUR, TWO, Budgets

pytestmark = pytest.mark.slow

TIGHT = {
    # So small that rows stand in every part of the gates, those that pull back included.
    TWO: {"c_plus": 0.02, "c_minus": 0.015, "epsilon": 0.03},
    FOUR: {
        "domain_plus": 0.016,
        "domain_minus": 0.02,
        "group_plus": 0.003,
        "group_minus": 0.002,
        "trajectory_plus": 0.005,
        "trajectory_minus": 0.004,
        "epsilon": 0.03,
    },
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Limits:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    return Limits(tmp_path_factory.mktemp("limits"))


def tight(name: str) -> tuple[fibdsl.Objective, Budgets]:
    objective = fibdsl.load(name, params=TIGHT[name], promises=False)
    prefixes = ("c",) if name == TWO else ("trajectory", "group", "domain")
    values = TIGHT[name]
    pairs = tuple((values[f"{p}_plus"], values[f"{p}_minus"]) for p in prefixes)
    return objective, Budgets(pairs, values["epsilon"])


def reference(objective: fibdsl.Objective, batch: Batch) -> tuple[float, np.ndarray]:
    keys = {key: batch.keys[key] for key in objective.keys}
    tensors = (batch.logp, batch.old_logp, batch.advantages, batch.mask)
    found = objective.evaluate(*tensors, keys, cu_seqlens=batch.cu_seqlens)
    return found.loss, found.gradient


def agrees(loss: float, gradient: Tensor, wanted: tuple[float, np.ndarray]) -> None:
    assert loss == pytest.approx(wanted[0], rel=1e-5)
    error = np.linalg.norm(gradient.numpy() - wanted[1]) / np.linalg.norm(wanted[1])
    assert error < 1e-4


@pytest.mark.parametrize("name", [TWO, FOUR])
def test_kernels_equal_the_reference(kernels: Limits, name: str) -> None:
    objective, budgets = tight(name)
    batch = batches.padded(48, 40)
    wanted = reference(objective, batch)
    assert (
        0
        < objective.evaluate(
            batch.logp, batch.old_logp, batch.advantages, batch.mask, batch.keys
        ).metrics["regime/trajectory/plus/pass"]
        < 1
    )
    for mask in (batch.mask, batch.bool_mask):
        agrees(*kernels.fiberpo(batch, budgets, mask), wanted)


@pytest.mark.parametrize("length", [1, 15, 64, 333, 512])
def test_vectorised_rows_of_any_length_equal_the_reference(kernels: Limits, length: int) -> None:
    """A compiler that vectorises wrongly does so in the body or in the rest of a long loop."""
    batch = batches.padded(24, length)
    for name in (TWO, FOUR):
        wanted = reference(fibdsl.load(name), batch)
        for mask in (batch.mask, batch.bool_mask):
            agrees(*kernels.fiberpo(batch, objectives.budgets(name), mask), wanted)


@pytest.mark.parametrize("name", [TWO, FOUR])
def test_packed_kernels_equal_the_reference(kernels: Limits, name: str) -> None:
    objective, budgets = tight(name)
    dense, _ = batches.packed(24, 3, 60)
    agrees(*kernels.fiberpo(dense, budgets, None), reference(objective, dense))


@pytest.mark.parametrize("name", [TWO, FOUR])
def test_eager_losses_equal_the_reference(name: str) -> None:
    objective, budgets = tight(name)
    batch = batches.padded(48, 40)
    above = len(budgets.pairs) - 1
    sizes = [parent.numel() for parent in batch.parents[1 : above + 1]]
    parents = tuple(zip(batch.parents[:above], sizes, strict=True))
    tensors = (batch.logp, batch.old_logp, batch.advantages, batch.mask)
    loss = baselines.fiberpo(*tensors, parents, budgets)
    (gradient,) = torch.autograd.grad(loss, batch.logp)
    agrees(loss.item(), gradient, reference(objective, batch))


def test_plain_ppo_is_the_grpo_spec_without_its_groups() -> None:
    """Both clip at 0.2 and average over tokens, then over rows."""
    batch = batches.padded(16, 30)
    loss = baselines.plain_ppo(batch.logp, batch.old_logp, batch.advantages, batch.mask)
    (gradient,) = torch.autograd.grad(loss, batch.logp)
    agrees(loss.item(), gradient, reference(fibdsl.load("grpo"), batch))
    trainer = baselines.trainer_ppo(batch.logp, batch.old_logp, batch.advantages, batch.mask)
    assert trainer[0].item() == pytest.approx(loss.item(), rel=1e-6)  # far from its other bounds


def test_the_floor_reads_four_and_writes_one(kernels: Limits) -> None:
    batch = batches.padded(3, 5)
    out = torch.empty(3, 5)
    kernels.floor(batch, out)
    wanted = batch.logp + batch.old_logp * batch.advantages + batch.mask
    assert torch.allclose(out, wanted)


def test_another_loss_is_refused(kernels: Limits) -> None:
    batch = batches.padded(8, 20)
    budgets = objectives.budgets(TWO)
    wider = Budgets(budgets.pairs, 2 * budgets.epsilon)
    wanted = lambda batch: kernels.fiberpo(batch, budgets, batch.mask)  # noqa: E731
    agreement.verify(batch, wanted, {"the same": wanted})
    with pytest.raises(RuntimeError, match="a wider clip is not the loss of the spec"):
        agreement.verify(
            batch,
            wanted,
            {"a wider clip": lambda batch: kernels.fiberpo(batch, wider, batch.mask)},
        )


def test_no_compiler_and_a_failing_one_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match=r"need a C\+\+ compiler"):
        Limits(tmp_path)
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(RuntimeError, match=r"false cannot build limits\.cpp"):
        Limits(tmp_path)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
