"""Batches whose gated ratios are as large or as small as the gates let them be.

y is a sum over levels of piecewise-linear functions of residuals, so where it is bounded it is
extreme where each residual is at an end of a piece. The residuals of all levels are tried at those
ends, and far out, under the constraint that an aggregate of a sign channel is not negative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fibc.analysis.facts import Facts
from fibc.analysis.witnesses.designs import Path, build
from fibc.analysis.witnesses.lab import Trial, evaluate, trials
from fibc.gates.use import case_value
from fibc.ir.scalar import Scalar, leaning
from fibc.ir.scalar import evaluate as scalar_value
from fibc.typed import TypedGate
from fibdsl.types import TOKEN, Channels, Signal

# How many of the best candidates are built, for each end and each sign of the advantage.
_BUILT = 6
_FAR = {Signal.LOG_RATIO: (6.0, 40.0), Signal.RATIO: (12.0, 1e7)}
_CHILDREN = 4


def extreme_trials(facts: Facts) -> Iterator[Trial]:
    """Trials, most extreme first; then those with one deviating level, then random ones."""
    for advantage, largest in itertools.product((1.0, -1.0), (True, False)):
        for path in extreme_paths(facts, advantage, largest):
            for minimum in (2, 6, 16):
                wide = dict.fromkeys(facts.objective.level_names, minimum)
                built = build(facts.objective, [path], facts.top, [advantage], wide)
                if built is not None:
                    yield evaluate(facts, built)
                    break
    yield from trials(facts)


def extreme_paths(facts: Facts, advantage: float, largest: bool) -> list[Path]:
    """Paths whose token has the most extreme y, by the gates alone, best first."""
    objective = facts.objective
    sign = 1.0 if largest else -1.0
    if objective.channels is Channels.NET:
        chains = _Chain(facts, None, advantage).best(sign, None)
        return [Path(tuple((s, 0.0) for s in S[1:]), S[0]) for _, S in chains]
    plus, minus = (_Chain(facts, channel, advantage) for channel in (1, -1))
    # The token is in one channel, and at 0 in the other.
    found = []
    for in_plus in (True, False):
        ups = plus.best(sign, None if in_plus else 0.0)
        downs = minus.best(-sign, 0.0 if in_plus else None)
        for (a, up), (b, down) in itertools.product(ups[:3], downs[:3]):
            drifts = tuple(zip(up[1:], down[1:], strict=True))
            found.append((sign * (a - b), Path(drifts, up[0] if in_plus else -down[0])))
    found.sort(key=lambda pair: -pair[0])
    return [path for _, path in found[:_BUILT]]


@dataclass(frozen=True)
class _Chain:
    """One channel of the gated levels above a token, as a function of their aggregates."""

    facts: Facts
    channel: int | None
    advantage: float
    known: dict[Scalar | None, float] = field(default_factory=dict)

    def best(self, sign: float, token: float | None) -> list[tuple[float, tuple[float, ...]]]:
        """The most extreme sums of gates and the aggregates that give them, token first; `token`
        fixes the token's own signal."""
        objective = self.facts.objective
        names = objective.level_names
        levels = names[: names.index(objective.coarsest_gated) + 1]
        beyond = names.index(self.facts.top) - names.index(objective.coarsest_gated)
        beam: list[tuple[float, tuple[float, ...]]] = [(0.0, ())]
        for level in reversed(levels):
            gate = objective.gates[level]
            grown = []
            for total, S in beam:
                coarse = S[0] if S else 0.0
                for residual in self.residuals(level, gate, coarse, token):
                    if self.possible(coarse + residual):
                        y = total + self.gated(gate, residual)
                        grown.append((y, (coarse + residual, *S)))
            # Of equal sums the one with the larger aggregate leaves more room below it.
            grown.sort(key=lambda pair: (-sign * pair[0], -abs(pair[1][0])))
            beam = grown if level == TOKEN else _diverse(grown)
        return [(y, S + (S[-1],) * beyond) for y, S in beam[:_BUILT]]

    @cached_property
    def room(self) -> float:
        """An aggregate so large that every finer level can fall below it by its budget."""
        gates = self.facts.objective.gates.values()
        bounds = [b for g in gates if g.budget for b in g.budget.bounds]
        values = [self.facts.value(b) for b in bounds]
        return 2.5 * sum(v for v in values if math.isfinite(v))

    def residuals(
        self, level: str, gate: TypedGate, coarse: float, token: float | None
    ) -> Sequence[float]:
        if level == TOKEN and token is not None:
            return [token - coarse]
        budgets = gate.budget.bounds if gate.budget else ()
        finite = [C for C in map(self.facts.value, budgets) if math.isfinite(C)]
        sizes = {0.0, self.room, *(t * C for C in finite for t in (1.0, 1.5, 3.0))}
        held = len(finite) == 2 and not gate.pessimistic and not gate.rule.neighbours
        if not held:
            # Only where nothing holds the gate: a witness had better be a likely batch.
            sizes |= set(_FAR[self.facts.objective.signal])
        # Where the aggregate is just what finer gates can take away from it.
        sizes |= {S - coarse for S in self.below(level)}
        low = [-0.9985 - coarse] if self.facts.objective.signal is Signal.RATIO else [-coarse]
        return sorted({s * a for a in sizes for s in (1.0, -1.0)} | set(low))

    def below(self, level: str) -> set[float]:
        """The aggregates from which the finer levels, each at an end of its budget, lead to 0."""
        names = self.facts.objective.level_names
        found = {0.0}
        for finer in names[: names.index(level)]:
            gate = self.facts.objective.gates[finer]
            bounds = gate.budget.bounds if gate.budget else ()
            finite = [C for C in map(self.facts.value, bounds) if math.isfinite(C)]
            found = {S + t * C for S in found for C in finite for t in (1.0, 1.5)} | found
        return set(sorted(found)[:16])

    def possible(self, S: float) -> bool:
        ratio = self.facts.objective.signal is Signal.RATIO
        if self.channel is None:
            return S > -0.999 or not ratio
        return S >= -1e-12 and (self.channel > 0 or not ratio or S < 0.999)

    def gated(self, gate: TypedGate, x: float) -> float:
        """The gate's value, with as many children as a small cell has."""
        a, sign = abs(x), 1.0 if x >= 0 else -1.0
        C = math.inf
        if gate.budget is not None:
            upper = x >= 0 if self.channel is None else self.channel > 0
            bound = gate.budget.upper if upper else gate.budget.lower
            C = self.facts.value(leaning(bound, 1 if self.advantage >= 0 else -1))
        k = self.steepness(gate.steepness)
        value = x
        if not gate.rule.pieces:
            value = case_value(gate, x, self.facts.values or {}, self.advantage)
        for piece in gate.rule.pieces:
            value = sign * float(piece.intercept(C, k) + piece.slope(C, k) * a)
            end = piece.until(C, k) if piece.until else math.inf
            if a < end or (piece.inclusive and a == end):
                break
        if gate.pessimistic:
            lowers = self.advantage * (self.channel or 1) > 0
            return min(value, x) if lowers else max(value, x)
        return value

    def steepness(self, scalar: Scalar | None) -> float:
        """k, with as many children as a small cell has."""
        if scalar not in self.known:
            counts = {"size": _CHILDREN, "tokens": _CHILDREN}
            values = self.facts.values or {}
            lean = 1 if self.advantage >= 0 else -1
            chosen = leaning(scalar, lean) if scalar else None
            self.known[scalar] = float(scalar_value(chosen, values, counts)) if chosen else 1.0
        return self.known[scalar]


def _diverse(
    beam: list[tuple[float, tuple[float, ...]]], width: int = 24
) -> list[tuple[float, tuple[float, ...]]]:
    """The best sum for each aggregate of the finest level so far."""
    best: dict[float, tuple[float, tuple[float, ...]]] = {}
    for y, S in beam:
        best.setdefault(round(S[0], 9), (y, S))
    return list(best.values())[: 4 * width]
