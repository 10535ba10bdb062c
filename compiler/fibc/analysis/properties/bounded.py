"""Boundedness: one number bounds G, or what stands in its place as a surrogate, on every batch, for
advantages of either sign."""

from __future__ import annotations

import math

from fibc.analysis.facts import Facts
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.ir.interval import hull
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Label

# What a witness of an unbounded G shows; the reason says that it grows beyond.
_HUGE = 1e6
_FAR_LOG, _FAR_DEVIATION = 20.0, 1e7
# How much larger it is by half as far again; what is bounded, if high, is not. Where it is as large
# as numbers are it was not bounded before.
_FURTHER, _GROWN, _LARGEST = 1.5, 1.2, 1e300


def prove(facts: Facts, promise: Promise) -> str | None:
    G = hull(facts.ranges.factor)
    return None if math.isinf(G.high) or math.isinf(G.low) else f"{what_bounds(facts)} is in {G}"


def what_bounds(facts: Facts) -> str:
    """What the advantage is multiplied with, in words."""
    if facts.objective.weight is not None:
        return "weight times surrogate"
    return "G" if facts.objective.surrogate is None else "the surrogate"


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc.analysis.witnesses.designs import build, single_deviations
    from fibc.analysis.witnesses.lab import evaluate

    far = _FAR_LOG if facts.objective.signal == "log_ratio" else _FAR_DEVIATION
    near, further = (
        single_deviations(
            facts.objective, {level: [size] for level in facts.objective.gates}, facts.top
        )
        for size in (far, far * _FURTHER)
    )
    for (*_, path), (*_, beyond) in zip(near, further, strict=True):
        for advantage in (1.0, -1.0):
            built = build(facts.objective, [path], facts.top, [advantage])
            other = build(facts.objective, [beyond], facts.top, [advantage])
            if built is None or other is None:
                continue
            trial = evaluate(facts, built)
            G = np.abs(trial.factor)
            if G.max() < _HUGE:
                continue
            grown = np.abs(evaluate(facts, other).factor).max() >= _GROWN * G.max()
            if grown or G.max() >= _LARGEST:
                where = tuple(int(i) for i in np.unravel_index(G.argmax(), G.shape))
                return trial.witness(
                    promise.property,
                    f"where A {'>=' if advantage > 0 else '<'} 0, token {where} has "
                    f"{what_bounds(facts)} = {trial.factor[where]:.4g}",
                )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    for gate in facts.objective.gates.values():
        if gate.rule.neighbours:
            return Because(
                f"a cell of n tokens may spend n times the budget of `{gate.rule.name}` on one of "
                "them, so what bounds G grows with the cell",
                "promise `trust_region tv <= ...`, which bounds the mean, or delete this line",
                (Label(gate.span, "shares its budget in a cell"),),
            )
    found = facts.ranges
    sides = [
        f"where A {sign} 0"
        for sign, G in zip((">=", "<"), found.factor, strict=True)
        if math.isinf(G.high) or math.isinf(G.low)
    ]
    labels = tuple(
        Label(gate.span, "bounds one side")
        for gate in facts.objective.gates.values()
        if gate.pessimistic
    )
    return Because(
        f"nothing bounds {what_bounds(facts)} {' and '.join(sides)}",
        "delete `pessimistic`, gate the level that passes, or delete this line",
        labels,
    )


BOUNDED = Property(
    "bounded",
    "bounded",
    (),
    "one number bounds G on every batch, for advantages of either sign",
    prove,
    refute,
    because,
)
