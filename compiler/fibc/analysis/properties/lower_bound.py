"""The pessimistic bound of PPO: G A <= r A for every token, so that the surrogate never promises
more than the plain one (arXiv 1707.06347, section 3).

A pessimistic gate changes its input only where that lowers the objective, so if all are, or pass
everything, the sum over the levels is on that side of the signal too.
"""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.shape import shape
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Promise, TypedObjective
from fibdsl.diagnostics.diagnostic import Label

_TOLERANCE = 1e-9
# A difference that can be seen in print.
_PLAIN = 1e-2


def prove(facts: Facts, promise: Promise) -> str | None:
    gates = facts.objective.gates.values()
    objective = facts.objective
    if not _of_gates(objective):
        return None
    if all(gate.pessimistic or shape(gate.rule).identity for gate in gates):
        return "no gate acts where it would raise the objective"
    return None


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc.analysis.witnesses.extremes import extreme_trials

    found: Witness | None = None
    what = "G" if facts.objective.surrogate is None else "the surrogate"
    for trial in extreme_trials(facts):
        tensors = trial.built.tensors
        r = np.exp(np.minimum(tensors["logp"] - tensors["old_logp"], 700.0))
        A = np.where(tensors["mask"], tensors["advantages"], 0.0)
        excess = (trial.factor - r) * A / np.maximum(1.0, r)
        if excess.max() <= _TOLERANCE:
            continue
        where = divmod(int(excess.argmax()), excess.shape[1])
        shows = f"token {where}, with A = {A[where]:+g}, has r = {r[where]:.6g} and "
        found = trial.witness(promise.property, f"{shows}{what} = {trial.factor[where]:.6g}")
        if excess.max() > _PLAIN:
            break
    return found


def _of_gates(objective: TypedObjective) -> bool:
    """Whether the gates are all there is to what the advantage is multiplied with."""
    said = (objective.after, objective.surrogate, objective.weight)
    return all(part is None for part in said) and not objective.bypasses


def because(facts: Facts, promise: Promise) -> Because:
    if not _of_gates(facts.objective):
        return Because(
            "a bypass, a surrogate, a weight or a gate before the levels may raise it",
            "delete this line",
        )
    open_ended = [
        (level, gate)
        for level, gate in facts.objective.gates.items()
        if not gate.pessimistic and not shape(gate.rule).identity
    ]
    level = open_ended[0][0] if open_ended else facts.objective.coarsest_gated
    return Because(
        f"the gate at `{level}` also acts where that raises the objective",
        "make every gate `pessimistic`, or delete this line",
        tuple(Label(gate.span, "acts on both sides") for _, gate in open_ended),
    )


LOWER_BOUND = Property(
    "lower_bound",
    "lower_bound",
    (),
    "G A <= r A for every token: the surrogate is a lower bound of the plain one",
    prove,
    refute,
    because,
)
