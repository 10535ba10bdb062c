"""Candidate batches and what the reference interpreter makes of them: the source of refutations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibc import interp
from fibc.analysis.facts import Facts
from fibc.analysis.witnesses.designs import Built, Path, build, random_tensors, single_deviations
from fibc.analysis.witnesses.witness import Witness
from fibc.batch import Batch, Table, budget_entry, make_batch
from fibc.ir import nodes as ir
from fibc.lower.values import AFTER
from fibdsl.types import Signal

_TENSORS = ("logp", "old_logp", "advantages", "mask")
# Multiples of a budget: inside, just beyond, in a rollback of few and of many children, far out.
_TIMES = (0.5, 1.02, 1.1, 1.3, 1.6, 3.0, 8.0)
_WITHOUT_BUDGET = (0.1, 1.0)
_RANDOM = 24


@dataclass(frozen=True)
class Trial:
    """One candidate, evaluated; `named` says which budget the cells of a level have."""

    facts: Facts
    built: Built
    run: interp.Run
    named: str | None = None

    @cached_property
    def gated_ratio(self) -> NDArray[np.float64]:
        """G, (B, T); 1 under the mask, as of a token that nothing is known of."""
        batch = self.run.batch
        return batch.scatter(self.run.gated_ratio - 1.0) + 1.0

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """What each token's advantage is multiplied with, (B, T); 1 under the mask."""
        batch = self.run.batch
        return batch.scatter(self.run.values[self.run.program.factor] - 1.0) + 1.0

    @cached_property
    def penalty(self) -> NDArray[np.float64]:
        """What is taken from each token's term, (B, T)."""
        [term] = [op for op in self.run.program.ops if isinstance(op, ir.Term)]
        if term.penalty is None:
            return np.zeros(self.built.tensors["mask"].shape)
        return self.run.batch.scatter(self.run.values[term.penalty])

    @cached_property
    def gradient(self) -> NDArray[np.float64]:
        """d loss / d logp, (B, T): what `fib eval --out` writes."""
        slope = interp.pullback(self.run, self.run.program.objective, -np.ones(1))
        return self.run.batch.scatter(slope)

    @cached_property
    def jacobian(self) -> NDArray[np.float64]:
        """Of the path's token: d (what its advantage is multiplied with) / d log-ratio, (B, T)."""
        row, column = self.built.at[0]
        seed = np.zeros(self.built.tensors["mask"].shape)
        seed[row, column] = 1.0
        batch, name = self.run.batch, self.run.program.factor
        return batch.scatter(interp.pullback(self.run, name, seed.ravel()[batch.where]))

    @cached_property
    def penalty_jacobian(self) -> NDArray[np.float64]:
        """Of the path's token: d penalty / d log-ratio, (B, T)."""
        [term] = [op for op in self.run.program.ops if isinstance(op, ir.Term)]
        shape = self.built.tensors["mask"].shape
        if term.penalty is None:
            return np.zeros(shape)
        seed = np.zeros(shape)
        seed[self.built.at[0]] = 1.0
        batch = self.run.batch
        return batch.scatter(interp.pullback(self.run, term.penalty, seed.ravel()[batch.where]))

    @cached_property
    def cells(self) -> dict[str, NDArray[np.int64]]:
        """The cell of each token at each level of the objective, as the interpreter counts them."""
        return _cells(self.run.batch, self.facts.objective.level_names)

    def token(self, values: NDArray[Any], path: int = 0) -> float:
        """The entry of a (B, T) array at the token of a path."""
        return float(values[self.built.at[path]])

    def ratio(self, path: int = 0) -> float:
        tensors = self.built.tensors
        return math.exp(self.token(tensors["logp"] - tensors["old_logp"], path))

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The batch as `fib eval` reads it."""
        shape = self.built.tensors["mask"].shape
        budgets = budgets_of(self.facts, self.named)
        full = {budget_entry(level): np.full(shape, b) for level, b in budgets.items()}
        return {**self.built.tensors, **full}

    def witness(self, name: str, shows: str) -> Witness:
        return Witness(f"{self.facts.objective.name}.{name}", self.tensors, shows)


def evaluate(facts: Facts, built: Built, named: str | None = None) -> Trial:
    """A batch under the reference interpreter, at the facts' parameter values."""
    assert facts.values is not None
    batch = batch_of(facts, built.tensors, named)
    with np.errstate(all="ignore"):  # what is not finite shows in the values
        values = interp.run(facts.program, batch, facts.values)
    return Trial(facts, built, values, named)


def batch_of(facts: Facts, tensors: Mapping[str, NDArray[Any]], named: str | None = None) -> Batch:
    """The batch as the interpreter takes it; `named` as in `budgets_of`."""
    objective = facts.objective
    keys = {key: tensors[key] for key in objective.keys}
    logp, old_logp, advantages, mask = (tensors[name] for name in _TENSORS)
    others = {name: tensors[name] for name in objective.tensors}
    budgets = {level: Table({}, b, ()) for level, b in budgets_of(facts, named).items()}
    return make_batch(
        objective.levels, logp, old_logp, advantages, mask, keys, None, others, budgets
    )


def budgets_of(facts: Facts, named: str | None = None) -> dict[str, float]:
    """By level, where budgets are per cell, the one that all cells have: that of the cell `named`
    so, or `else`, or the largest, which is the one that `Setting.value` says."""
    found = {}
    for level, budget in facts.program.budgets.items():
        values = dict(zip(budget.words, map(facts.value, budget.scalars), strict=True))
        largest = max(values.values())
        found[level] = largest if named is None else values.get(named, values.get("else", largest))
    return found


def magnitudes(facts: Facts) -> dict[str, list[float]]:
    """For each gated level, the sizes of deviation at which its gate does something of its own."""
    found: dict[str, list[float]] = {}
    for level, gate in facts.objective.gates.items():
        budgets = [b for name in gate.rule.budgets for b in gate.arguments[name].bounds]
        values = {facts.value(b) for b in budgets} - {math.inf}
        sizes = {v * t for v in values for t in _TIMES} or set(_WITHOUT_BUDGET)
        found[level] = sorted(sizes)
    return found


def deviations(facts: Facts) -> Iterator[tuple[str, int, Path]]:
    """Paths on which one level deviates: the level, the sign, the path."""
    return single_deviations(facts.objective, magnitudes(facts), facts.top)


def trials(facts: Facts) -> Iterator[Trial]:
    """Batches with one deviating level, each with advantages of either sign, then random ones."""
    for _, _, path in deviations(facts):
        for advantage in (1.0, -1.0):
            built = build(facts.objective, [path], facts.top, [advantage])
            if built is not None:
                yield evaluate(facts, built)
    yield from random_trials(facts)


def random_trials(facts: Facts) -> Iterator[Trial]:
    for seed, scale in itertools.product(range(_RANDOM // 3), (0.01, 0.2, 2.0)):
        tensors = random_tensors(facts.objective, seed, scale)
        batch = batch_of(facts, tensors)
        cells = _cells(batch, facts.objective.level_names)
        built = Built(tensors, ((0, 0),), cells)
        yield evaluate(facts, built)


def _cells(batch: Batch, names: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
    """The cell of each token at each level, (B, T); -1 under the mask."""
    ids = np.arange(batch.sizes[names[0]])
    found = {names[0]: ids}
    for fine, coarse in itertools.pairwise(names):
        found[coarse] = ids = batch.parents[fine, coarse][ids]
    cells = {}
    for name, ids in found.items():
        cells[name] = np.full(batch.shape, -1, np.int64)
        cells[name].reshape(-1)[batch.where] = ids
    return cells


def gate_ops(facts: Facts, level: str) -> list[ir.Gate]:
    """The gates at a level: one for each channel and each lean of the advantage."""
    gates = [op for op in facts.program.ops if isinstance(op, ir.Gate) and op.level == level]
    return [op for op in gates if not op.name.startswith(AFTER)]


def deviation(value: float, signal: Signal) -> float:
    """What gates make of a token: log G, or G - 1."""
    if signal is Signal.RATIO:
        return value - 1.0
    return math.log(value) if value > 0 else -math.inf if value == 0 else math.nan
