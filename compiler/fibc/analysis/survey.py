"""Everything that is known of an objective: all properties, at its values and over its ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibc.analysis.properties.trust_region import largest_deviation
from fibc.analysis.property import Verdict
from fibc.ir.interval import Interval
from fibc.ir.scalar import Const
from fibc.typed import Promise
from fibdsl.types import TOKEN

# An end of a range counts as reached within this, relative to it: budgets may be logarithms.
_REACHED = 1e-6
# What counts for infinity, and for the 0 that an exponential or a ratio only approaches.
_HUGE, _TINY = 1e6, 2e-3


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One property: how it would be required, and what is known of it."""

    promise: str
    at_values: Verdict
    over_ranges: Verdict


@dataclass(frozen=True, slots=True)
class Extent:
    """The range of G for one sign of the advantage.

    Attributes:
        advantage: ">= 0" or "< 0".
        low, high: an enclosure; no batch leaves it.
        least, largest: what was found in batches; equal to the enclosure where that is exact.
    """

    advantage: str
    low: float
    high: float
    least: float
    largest: float

    @property
    def exact(self) -> bool:
        """Whether both ends are reached; an infinite one, or 0 by an exponential, is approached."""
        high = self.largest >= self.high * (1 - _REACHED) or self.largest > _HUGE
        least = self.low * (1 + _REACHED) if self.low > 0 else _TINY
        return high and self.least <= least


def survey(facts: Facts) -> tuple[Surveyed, ...]:
    """All properties, each as it would be promised of this objective."""
    everywhere = Facts.over_ranges(facts.objective)
    return tuple(
        Surveyed(text, _decided(facts, text, promise), _decided(everywhere, text, promise))
        for text, promise in _promises(facts)
    )


def verdicts(facts: Facts) -> dict[str, Verdict]:
    """The verdicts at the facts' values alone, each by how the property would be promised."""
    return {text: _decided(facts, text, promise) for text, promise in _promises(facts)}


def _decided(facts: Facts, text: str, promise: Promise) -> Verdict:
    """The verdict, its witness named by the whole promise: a property may be asked of levels."""
    verdict = PROPERTIES[promise.property].decide(facts, promise)
    if verdict.witness is None:
        return verdict
    name = f"{facts.objective.name}.{text}"
    return replace(verdict, witness=replace(verdict.witness, name=name))


def _promises(facts: Facts) -> Iterator[tuple[str, Promise]]:
    objective = facts.objective
    span = objective.span
    for name, rule in PROPERTIES.items():
        plain = Promise(name, span)
        if "at" in rule.takes:
            for level in reversed(list(objective.gates)):
                yield f"{name} at {level}", replace(plain, at=level)
        elif "over" in rule.takes:
            for level in objective.level_names:
                yield f"{name} over {level}", replace(plain, over=level)
        elif "tv" in rule.takes:
            yield from _trust_region(facts, plain)
        elif "in" not in rule.takes:
            yield name, plain


def _trust_region(facts: Facts, plain: Promise) -> Iterator[tuple[str, Promise]]:
    """The tightest total variation there is a reason for: a censor's, or that of the range of G."""
    gate = facts.objective.gates[TOKEN]
    if gate.rule.neighbours and gate.budget is not None:
        yield (
            f"trust_region tv <= {facts.value(gate.budget.upper):g} over {gate.over}",
            replace(plain, tv=gate.budget.upper, over=gate.over),
        )
        return
    most = float(largest_deviation(facts))
    if 0 < most < float("inf"):
        # Up, to three digits: a bound that a person would write.
        unit = 10.0 ** (math.floor(math.log10(most)) - 2)
        rounded = float(f"{math.ceil(most / unit) * unit:.6g}")
        yield f"trust_region tv <= {rounded:g}", replace(plain, tv=Const(rounded))


def extents(facts: Facts) -> tuple[Extent, Extent]:
    """The range of G for advantages >= 0 and for those < 0, and how far batches fill it."""
    from fibc.analysis.witnesses.extremes import extreme_trials

    found = {True: [math.inf, -math.inf], False: [math.inf, -math.inf]}
    for trial in extreme_trials(facts):
        for favoured, ends in found.items():
            tensors = trial.built.tensors
            here = tensors["mask"] & ((tensors["advantages"] >= 0) == favoured)
            G = trial.gated_ratio[here]
            if G.size:
                ends[:] = min(ends[0], float(G.min())), max(ends[1], float(G.max()))
    up, down = facts.tight_ranges
    return _extent(">= 0", up, found[True]), _extent("< 0", down, found[False])


def _extent(advantage: str, G: Interval, found: list[float]) -> Extent:
    return Extent(advantage, float(G.low), float(G.high), found[0], found[1])
