"""What a split must not lose: normalizers of the whole, the first step, types and layouts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import fibdsl
from tests.compiled.cases import Case, Result, random_case, reference
from tests.distributed.harness import gathered
from tests.distributed.splits import called, handed, in_micro_batches, take

# --- normalizers ----------------------------------------------------------------------------------

ROWS = [[0, 3], [1, 2]]
"""Of each of two ranks; rows of 3, 1, 2 and 0 tokens, the first two in one group."""

BY_HAND = {
    "mean over token": (1 / 6, 1 / 6, 1 / 6),
    "mean over trajectory, mean over token": (1 / 9, 1 / 3, 1 / 6),
    "mean over trajectory, sum over token": (1 / 3, 1 / 3, 1 / 3),
    "mean over group, mean over token": (1 / 8, 1 / 8, 1 / 4),
    "mean over group, mean over trajectory, mean over token": (1 / 12, 1 / 4, 1 / 4),
    "mean over group, sum over trajectory, mean over token": (1 / 6, 1 / 2, 1 / 4),
    "sum over token": (1, 1, 1),
    "sum over trajectory, mean over token": (1 / 3, 1, 1 / 2),
    "sum over group, mean over token": (1 / 4, 1 / 4, 1 / 2),
}
"""The weight of a token of each row that has any."""


def objective_of(reduce: str) -> Any:
    return fibdsl.load_text(
        "objective plain { signal ratio levels token < trajectory < group by uid "
        f"at token {{ base pass }} reduce {reduce} }}"
    )


def plain_batch() -> Case:
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 0])[:, None]
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    return Case(zeros, zeros, zeros + 1, mask, {"uid": torch.tensor([5, 5, -2, 9])})


def all_reduces(rank: int) -> list[tuple[Result, Result]]:
    answers = []
    case = take(plain_batch(), torch.tensor(ROWS[rank]))
    for reduce in BY_HAND:
        loss_fn = objective_of(reduce).compile(
            backend=None, process_group=dist.group.WORLD, gradients="summed"
        )
        parts = [torch.tensor([0]), torch.tensor([1])]
        call = called(loss_fn, case, "padded")
        answers.append((call, in_micro_batches(loss_fn, case, "padded", parts, case.logp)))
    return answers


def test_every_reduce_counts_the_whole_batch() -> None:
    """At r = 1 and A = 1 the gradient is minus the weight of the token, and J the sum of these."""
    mask = plain_batch().mask.double().numpy()
    answers = gathered(2, all_reduces)
    for number, (reduce, weights) in enumerate(BY_HAND.items()):
        expected = -mask * np.array([*weights, 0])[:, None]
        for rank, rows in enumerate(ROWS):
            call, micro_batches = answers[rank][number]
            for result in (call, micro_batches):
                assert result.gradient == pytest.approx(expected[rows], abs=1e-15), reduce
            assert call.loss == pytest.approx(expected.sum(), rel=1e-15), reduce
        both = [answers[rank][number][1].loss for rank in range(2)]
        assert both == pytest.approx([expected.sum()] * 2, rel=1e-15), reduce


def pieces_beside(rank: int) -> Result:
    case = plain_batch()
    case.keys.update(trajectory=torch.tensor([1, 1, 0, 0]), state_id=torch.zeros(4, 3).long())
    objective = fibdsl.load_text(
        "objective beside { signal ratio levels token < state by state_id at token { base pass } "
        "reduce mean over trajectory, mean over token }"
    )
    loss_fn = objective.compile(backend=None, process_group=dist.group.WORLD, gradients="averaged")
    return called(loss_fn, take(case, torch.tensor(ROWS[rank])), "packed")


def test_pieces_beside_the_chain_are_one_trajectory() -> None:
    """Two trajectories, of 4 and 2 tokens, the first one on both ranks: 1/8 and 1/4 a token, times
    two ranks that are averaged."""
    first, second = gathered(2, pieces_beside)
    assert first.loss == second.loss == pytest.approx(-1)
    assert first.gradient == pytest.approx(-np.array([[1, 1, 1], [0, 0, 0]]) / 4)
    assert second.gradient == pytest.approx(-np.array([[1, 0, 0], [2, 2, 0]]) / 4)


# --- packed rows as many as tokens ----------------------------------------------------------------


def test_ids_of_rows_that_are_as_many_as_tokens() -> None:
    """Four pieces with 2, 0, 1 and 1 tokens: (4,) is one id a row, not one a token."""
    objective = fibdsl.load_text(
        "objective o { signal log_ratio net levels token < turn by turn_id < trajectory < group "
        "by uid at group { base clip(0.01) } at trajectory { fiber clip(0.02) } at turn { fiber "
        "clip(0.01) } at token { fiber clip(0.01) } reduce mean over group, mean over token }"
    )
    x = torch.tensor([0.1, 0.2, -0.3, 0.05], dtype=torch.float64)
    advantages = torch.tensor([1.0, 1.0, -1.0, 2.0], dtype=torch.float64)
    tokens = (x, torch.zeros_like(x), advantages, torch.ones(4, dtype=torch.bool))
    keys = {
        "trajectory": torch.tensor([7, 8, 7, 9]),
        "uid": torch.tensor([1, 2, 1, 3]),
        "turn_id": torch.tensor([0, 1, 1, 0]),
    }
    cu = torch.tensor([0, 2, 2, 3, 4])
    expected = objective.evaluate(*tokens, keys, cu_seqlens=cu)
    out = objective.compile(backend=None)(*tokens, keys, cu_seqlens=cu)
    assert out.loss.item() == pytest.approx(expected.loss, rel=1e-14)
    metrics = {name: value.item() for name, value in out.metrics.items()}
    assert metrics == pytest.approx(expected.metrics, rel=1e-14)


# --- the first step, and passes that differ by rounding -------------------------------------------


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_first_step_needs_no_pass_of_its_own(layout: str) -> None:
    """Sampled and trained policy are one: the batch is weighed at old_logp."""
    objective, case = fibdsl.load("fiberpo_domain"), random_case(8, 9, seed=4)
    first = Case(case.old_logp, case.old_logp, case.advantages, case.mask, case.keys)
    expected = reference(objective, first)
    loss_fn = objective.compile(backend=None)
    parts = list(torch.arange(8).tensor_split(3))
    result = in_micro_batches(loss_fn, first, layout, parts, first.old_logp)
    assert np.abs(result.gradient - expected.gradient).max() <= 1e-15
    assert result.loss == pytest.approx(expected.loss, rel=1e-13)


def test_weights_are_those_of_the_pass_they_were_weighed_with() -> None:
    """A second pass that rounds otherwise changes neither weights nor gradient; nor does what is
    under its mask."""
    objective, case = fibdsl.load("fiberpo_domain"), random_case(8, 9, seed=4)
    expected = reference(objective, case)
    weights = objective.compile(backend=None).weigh(*case.tokens, keys=case.keys)
    rounding = torch.linspace(-0.02, 0.02, case.logp.numel()).view_as(case.logp).double()
    logp = (case.logp + rounding).nan_to_num(nan=torch.inf).requires_grad_()
    out: Any = weights.part(logp, torch.ones(8, dtype=torch.bool))
    out.loss.backward()
    assert logp.grad is not None
    assert np.abs(logp.grad.numpy() - expected.gradient).max() <= 1e-15
    assert out.loss.item() == pytest.approx(expected.loss, rel=1e-13)
    assert out.metrics["recomputed/max"] == rounding[case.mask].abs().max()


# --- what ranks may bring -------------------------------------------------------------------------


def low_precision(rank: int) -> list[tuple[float, str]]:
    """bfloat16 log-probabilities with float32 advantages; the second rank has no rows."""
    case = random_case(5, 6, seed=1).to(torch.bfloat16)
    case = take(case, torch.arange(5 if rank == 0 else 0))
    answers = []
    for layout in ("padded", "packed"):
        batch = handed(case, layout)
        logp, old, advantages, mask = batch.tokens
        loss_fn = fibdsl.load("fiberpo_domain").compile(
            backend=None, process_group=dist.group.WORLD, gradients="averaged"
        )
        logp = logp.clone().requires_grad_()
        out: Any = loss_fn(logp, old, advantages.float(), mask, batch.keys, **batch.options)
        out.loss.backward()
        assert logp.grad is not None
        assert logp.grad.shape == logp.shape
        answers.append((out.loss.item(), str(logp.grad.dtype)))
    return answers


def test_a_rank_without_rows_has_the_types_of_the_others() -> None:
    case = random_case(5, 6, seed=1).to(torch.bfloat16).to(torch.float32)
    expected = reference(fibdsl.load("fiberpo_domain"), case).loss
    for answers in gathered(2, low_precision):
        for loss, dtype in answers:
            assert loss == pytest.approx(expected, rel=1e-5)
            assert dtype == "torch.bfloat16"


def mixed_layouts(rank: int) -> Result:
    case = take(random_case(9, 70, seed=3), torch.arange(rank, 9, 2))
    loss_fn = fibdsl.load("fiberpo_domain").compile(
        backend=None, process_group=dist.group.WORLD, gradients="summed"
    )
    return called(loss_fn, case, ("padded", "packed")[rank])


def test_one_rank_may_pack_and_another_pad() -> None:
    expected = reference(fibdsl.load("fiberpo_domain"), random_case(9, 70, seed=3))
    for rank, result in enumerate(gathered(2, mixed_layouts)):
        assert result.loss == pytest.approx(expected.loss, rel=1e-13)
        assert np.abs(result.gradient - expected.gradient[rank::2]).max() <= 1e-14
        assert result.metrics == pytest.approx(expected.metrics, rel=1e-12)


# --- the generated module by itself ---------------------------------------------------------------


def from_a_file(rank: int, path: str) -> Result:
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    loss_fn = module.Loss(None, process_group=dist.group.WORLD, gradients="averaged")
    case = take(random_case(9, 8, seed=6), torch.arange(rank, 9, 3))
    parts = list(torch.arange(3).tensor_split(2))
    return in_micro_batches(loss_fn, case, "packed", parts, case.logp)


def test_the_source_in_a_file_takes_a_group(tmp_path: Path) -> None:
    objective = fibdsl.load("fiberpo_domain")
    file = tmp_path / "generated.py"
    file.write_text(objective.source(), encoding="utf-8")
    expected = reference(objective, random_case(9, 8, seed=6))
    for rank, result in enumerate(gathered(3, from_a_file, str(file))):
        assert result.loss == pytest.approx(expected.loss, rel=1e-13)
        assert np.abs(result.gradient / 3 - expected.gradient[rank::3]).max() <= 1e-14
        assert result.metrics == pytest.approx(expected.metrics, rel=1e-12)
