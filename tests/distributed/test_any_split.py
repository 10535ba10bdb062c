"""Loss, gradient and metrics of a batch are the same under any split into ranks, micro-batches and
pieces of trajectories: random specs, batches and splits, each against the reference interpreter on
the undivided batch. And what each part says by itself, by the same harness, is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

import fibdsl
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests import deep
from tests.compiled.cases import LAYOUTS, Case, Result, random_case, real_case, reference
from tests.distributed.harness import gathered
from tests.distributed.splits import called, dealt, in_micro_batches, in_pieces, take
from tests.property.test_random_specs import random_spec

SEEDS = {1: 20, 2: 20, 3: 14, 4: 12}
PUBLISHED = (
    *("gepo", "vespo", "topr", "gspo_token", "gmpo", "aspo", "dro"),
    *("fiberpo_overlays", "fiberpo_turns", "fiberpo_experts"),
)
"""What aggregates in expressions, sums, weights and penalties there are."""
EXACT = 1e-12


class Scenario(NamedTuple):
    """A spec, a batch, and how it is split.

    Attributes:
        whole: the batch as it is.
        rows: the same, perhaps in pieces of trajectories; `row_of` says which row each is of.
        owned: the rows of each rank; `parts` cuts these into micro-batches.
        options: of `compile`, besides the group; `grouped`, whether there is one.
    """

    text: str
    whole: Case
    rows: Case
    row_of: Tensor
    owned: list[Tensor]
    parts: list[list[Tensor]]
    layout: str
    grouped: bool
    averaged: bool

    def loss_fn(self) -> Any:
        objective = fibdsl.load_text(self.text)
        if not self.grouped:
            return objective.compile(backend=None)
        gradients = "averaged" if self.averaged else "summed"
        group = dist.group.WORLD
        return objective.compile(backend=None, process_group=group, gradients=gradients)

    def gradient(self, parts: list[Result]) -> NDArray[np.float64]:
        """That of the whole batch, from those of the ranks."""
        gradient = np.zeros(self.whole.mask.shape)
        for rows, part in zip(self.owned, parts, strict=True):
            np.add.at(gradient, self.row_of[rows].numpy(), part.gradient)
        return gradient / len(parts) if self.grouped and self.averaged else gradient


def scenario(seed: int, ranks: int, spec: str | None = None) -> Scenario:
    rng = random.Random(f"{seed} {ranks}")
    text = random_spec(rng) if spec is None else shipped_specs()[spec].read_text("utf-8")
    whole = random_case(rng.randint(1, 12), rng.randint(1, 20), seed, drift=rng.choice([0.02, 0.2]))
    rows, row_of = whole, torch.arange(whole.mask.shape[0])
    if rng.random() < 0.5:
        rows, row_of = in_pieces(whole, rng)
    owned = dealt(len(row_of), ranks, rng)
    parts = [dealt(len(own), rng.randint(1, 4), rng) for own in owned]
    layout, averaged = rng.choice(LAYOUTS), rng.random() < 0.5
    grouped = ranks > 1 or rng.random() < 0.5
    return Scenario(text, whole, rows, row_of, owned, parts, layout, grouped, averaged)


def scenarios(ranks: int) -> Iterator[Scenario]:
    """Random objectives, then published ones."""
    yield from (scenario(seed, ranks) for seed in range(SEEDS[ranks]))
    yield from (scenario(seed, ranks, spec) for seed, spec in enumerate(PUBLISHED))


def split_answers(rank: int, ranks: int) -> list[tuple[Result, Result]]:
    """Of each scenario, what one call on each rank says, and what its micro-batches add up to."""
    answers = []
    for s in scenarios(ranks):
        loss_fn, own = s.loss_fn(), take(s.rows, s.owned[rank])
        call = called(loss_fn, own, s.layout)
        answers.append((call, in_micro_batches(loss_fn, own, s.layout, s.parts[rank], own.logp)))
    return answers


@pytest.mark.parametrize("ranks", SEEDS)
def test_any_split_is_the_undivided_batch(ranks: int) -> None:
    answers = gathered(ranks, split_answers, ranks)
    for seed, s in enumerate(scenarios(ranks)):
        expected = reference(fibdsl.load_text(s.text), s.whole)
        for way in (0, 1):
            parts = [answer[seed][way] for answer in answers]
            where = f"seed {seed}, {'calls' if way == 0 else 'micro-batches'}: {s.text}"
            gradient = s.gradient(parts)
            # Gradients that cancel to nothing have the rounding of what cancelled.
            scale = max(np.abs(expected.gradient).max(), abs(expected.loss), 1e-3)
            assert np.abs(gradient - expected.gradient).max() <= EXACT * scale, where
            for own, part in zip(s.owned, parts, strict=True):
                # The micro-batches of a rank without tokens have no share of the loss.
                shared = way == 0 or bool(s.rows.mask[own].any())
                loss = expected.loss if shared else 0.0
                assert part.loss == pytest.approx(loss, rel=EXACT, abs=EXACT), where
                assert part.metrics == pytest.approx(expected.metrics, rel=EXACT, abs=EXACT), where


def test_splits_are_not_trivial() -> None:
    """That the random scenarios have what they are there for."""
    found = [scenario(seed, ranks) for ranks, seeds in SEEDS.items() for seed in range(seeds)]
    many = [s for s in found if len(s.owned) > 1]
    assert sum(any(not len(own) for own in s.owned) for s in many) > 10, "ranks without rows"
    assert sum(len({len(own) for own in s.owned}) > 1 for s in many) > 20, "uneven"
    assert sum("trajectory" in s.rows.keys for s in found) > 20, "pieces"
    assert sum(straddles(s, s.whole.keys["uid"][s.row_of]) for s in many) > 20
    assert sum(straddles(s, s.row_of) for s in many) > 10, "trajectories over ranks"
    for word in ("censor", "rollback", "aggregate", "turn", "domain", "expert", "sum over"):
        assert any(word in s.text for s in many), word


def straddles(s: Scenario, cell: Tensor) -> bool:
    """Whether a cell has tokens on two ranks."""
    alive = s.rows.mask.any(1)
    held = [set(cell[own[alive[own]]].tolist()) for own in s.owned]
    return any(a & b for i, a in enumerate(held) for b in held[:i])


# --- the naive way --------------------------------------------------------------------------------


def by_itself(objective: Objective, case: Case, rows: Tensor) -> Result:
    """A part with its own aggregates and the normalizer of the whole: what trainers do."""
    loss_fn = objective.compile(backend=None)
    counts = {"token": case.mask.sum(), "trajectory": case.mask.any(1).sum()}
    outermost = loss_fn.objective.outermost
    normalizers = {outermost: counts[outermost].item()} if outermost in counts else None
    part = take(case, rows)
    return called(loss_fn, part, "padded", whole_cells=True, normalizers=normalizers)


def rank_by_itself(rank: int, spec: str, case: Case, owned: list[Tensor]) -> Result:
    return by_itself(fibdsl.load(spec), case, owned[rank])


def errors(parts: list[Result], owned: list[Tensor], whole: Result) -> tuple[float, float]:
    """Of loss and gradient, relative."""
    gradient = np.zeros_like(whole.gradient)
    for part, rows in zip(parts, owned, strict=True):
        gradient[rows.numpy()] = part.gradient
    loss = abs(sum(part.loss for part in parts) - whole.loss) / abs(whole.loss)
    largest = np.abs(whole.gradient).max()
    return loss, float(np.abs(gradient - whole.gradient).max() / largest)


@pytest.mark.parametrize("spec", deep.cases(shipped_specs(), lambda index, _: index % 3 == 0))
def test_parts_by_themselves_are_another_objective(spec: str) -> None:
    """Where a cell can lie in two parts; where none can (`split_invariant`), they add up."""
    # At its defaults GSPO clips every sequence of this batch, and has no gradient to compare.
    values = {"low": 0.8, "high": 1.2} if spec in ("gspo", "gspo_token", "luspo") else {}
    objective, case = fibdsl.load(spec, params=values), real_case("far")
    rows, width = case.mask.shape
    case = replace(case, keys={**random_case(rows, width, seed=0).keys, **case.keys})
    whole = reference(objective, case)
    owned = list(torch.randperm(case.mask.shape[0], generator=torch.Generator().manual_seed(0)))
    micro_batches = [rows.flatten() for rows in torch.stack(owned).chunk(4)]
    loss, gradient = errors(
        [by_itself(objective, case, rows) for rows in micro_batches], micro_batches, whole
    )
    print(f"{spec} in 4 naive micro-batches: loss off by {loss:.1e}, gradient by {gradient:.1e}")
    if objective.compile(backend=None).objective.whole is not None:
        assert spec in ("fiberpo_domain", "apc", "gepo", "fiberpo_experts")
        assert gradient > 1e-3
        assert loss > (0 if spec == "apc" else 1e-3)
    else:
        assert max(loss, gradient) <= EXACT


@pytest.mark.parametrize("spec", ["fiberpo", "fiberpo_domain"])
def test_ranks_by_themselves_are_another_objective(spec: str) -> None:
    case = real_case("far")
    whole = reference(fibdsl.load(spec), case)
    owned = [torch.arange(rank, case.mask.shape[0], 2) for rank in range(2)]
    loss, gradient = errors(gathered(2, rank_by_itself, spec, case, owned), owned, whole)
    print(f"{spec} on 2 naive ranks: loss off by {loss:.1e}, gradient by {gradient:.1e}")
    if spec == "fiberpo_domain":
        assert min(loss, gradient) > 1e-3
    else:
        assert max(loss, gradient) <= EXACT
