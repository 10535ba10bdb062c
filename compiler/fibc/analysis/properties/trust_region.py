"""Containment in a trust region: in every cell of a level the mean of |G - 1| stays below a bound.

That mean is the budget of sample-based TV-TRPO, sum |r - 1| <= n delta (arXiv 2603.08239,
definition 3.2). Without `over` the cells are those a censor shares its budget over, else
trajectories, else the coarsest level's.
"""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.shape import shape
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.ir.interval import Real, hull
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Label
from fibdsl.types import TOKEN, TRAJECTORY

_TOLERANCE = 1e-9


def prove(facts: Facts, promise: Promise) -> str | None:
    assert promise.tv is not None
    bound = facts.bounds(promise.tv)
    proof = _by_censor(facts, promise)
    if proof is not None:
        return proof
    largest = largest_deviation(facts)
    return None if largest > bound.low else f"|G - 1| is at most {float(largest):.6g}"


def _by_censor(facts: Facts, promise: Promise) -> str | None:
    """A censor alone, on every token: sum |G_i - 1| <= n delta in each of its cells. (Where the
    deviations sum to more by an excess e, each is lowered by e, or to 0.)"""
    assert promise.tv is not None
    objective = facts.objective
    names = objective.level_names
    gate = objective.gates[TOKEN]
    if not gate.rule.neighbours or objective.coarsest_gated != TOKEN or gate.pessimistic:
        return None
    if not objective.exact:
        return None
    if not shape(gate.rule).clips:
        return None
    assert gate.budget is not None
    assert gate.over is not None
    whole = names.index(gate.over) <= names.index(cells(facts, promise))
    same = gate.budget.upper == promise.tv
    fits = same or facts.bounds(gate.budget.upper).high <= facts.bounds(promise.tv).low
    return f"`censor` holds sum |G - 1| in each `{gate.over}`" if whole and fits else None


def largest_deviation(facts: Facts) -> Real:
    """What |G - 1| is at most, for any token; exact, so that a budget is not above itself."""
    G = hull(facts.tight_ranges)
    return max(G.high - 1, 1 - G.low)


def cells(facts: Facts, promise: Promise) -> str:
    """The level in whose cells the mean is taken."""
    objective = facts.objective
    shared = objective.gates[TOKEN].over
    usual = TRAJECTORY if TRAJECTORY in objective.level_names else objective.level_names[-1]
    return promise.over or shared or usual


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc.analysis.witnesses.extremes import extreme_trials

    assert promise.tv is not None
    level, bound = cells(facts, promise), facts.value(promise.tv)
    for trial in extreme_trials(facts):
        ids = trial.built.cells[level].ravel()
        valid = ids >= 0
        total = np.bincount(ids[valid], np.abs(trial.gated_ratio - 1.0).ravel()[valid])
        mean = total / np.maximum(np.bincount(ids[valid]), 1)
        if mean.max() > bound + _TOLERANCE * max(1.0, bound):
            return trial.witness(
                promise.property,
                f"in `{level}` {int(mean.argmax())} the mean of |G - 1| is {mean.max():.6g}",
            )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    gate = facts.objective.gates[TOKEN]
    if gate.rule.neighbours and gate.budget is not None and not gate.pessimistic:
        held = float(facts.bounds(gate.budget.upper).high)
        return Because(
            f"`{gate.rule.name}` holds the mean of |G - 1| over a `{gate.over}`, at up to {held:g}",
            "raise the bound to the budget of the gate, over the same level",
            (Label(gate.span, "this gate"),),
        )
    largest = float(largest_deviation(facts))
    return Because(
        f"the gates keep |G - 1| at most {largest:.6g} for each token, and no `censor` "
        f"holds its mean over a `{cells(facts, promise)}`",
        "raise the bound, narrow the budgets, or use `censor` over that level",
    )


TRUST_REGION = Property(
    "trust_region",
    "trust_region tv <= 0.1 over state",
    ("tv",),
    "in every cell of the level the mean of |G - 1| is at most the bound",
    prove,
    refute,
    because,
    may_take=("over",),
)
