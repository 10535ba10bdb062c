"""The range of G: every gated ratio of every batch lies in it."""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.ir.interval import hull
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Label

# Rounding in float64 is no refutation.
_TOLERANCE = 1e-9


def prove(facts: Facts, promise: Promise) -> str | None:
    assert promise.within is not None
    G = facts.ranges.gated_ratio
    if not G.within(promise.within):
        G = hull(facts.tight_ranges)
    return f"the gates keep G in {G}" if G.within(promise.within) else None


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc.analysis.witnesses.extremes import extreme_trials

    assert promise.within is not None
    low, high = float(promise.within.low), float(promise.within.high)
    for trial in extreme_trials(facts):
        G = trial.gated_ratio
        excess = np.maximum(
            (G - high) / max(1.0, abs(high)) if high < np.inf else -np.inf,
            (low - G) / max(1.0, abs(low)) if low > -np.inf else -np.inf,
        )
        if excess.max() > _TOLERANCE:
            where = divmod(int(excess.argmax()), G.shape[1])
            sign = ">=" if trial.built.tensors["advantages"][where] >= 0 else "<"
            return trial.witness(
                promise.property, f"token {where}, with A {sign} 0, has G = {G[where]:.6g}"
            )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    G = hull(facts.tight_ranges)
    help = "widen the range, or narrow the budgets"
    gates = facts.objective.gates.values()
    if any(gate.pessimistic for gate in gates):
        help += "; a `pessimistic` gate holds one side only"
    return Because(
        f"the gates keep it in {G}",
        help,
        tuple(Label(g.span, "holds one side") for g in gates if g.pessimistic),
    )


GATED_RATIO = Property(
    "gated_ratio",
    "gated_ratio in [0.7, 1.4]",
    ("in",),
    "every gated ratio of every batch lies in the range",
    prove,
    refute,
    because,
)
