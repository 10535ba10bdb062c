"""First-order agreement: at r = 1 the Jacobian dG/dr is the identity (arXiv 2603.08239).

Of an objective that has a surrogate it is that of the surrogate with respect to log-ratios, the
weight aside. Proved by linear forms (fibc.analysis.proofs.first_order): if every gate is the
identity around 0, the hierarchy telescopes to the signal. Refuted by the Jacobian of a batch at
r = 1.
"""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.first_order import agrees
from fibc.analysis.proofs.shape import shape
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Label


def prove(facts: Facts, promise: Promise) -> str | None:
    if not agrees(facts):
        return None
    if facts.objective.exact and facts.objective.surrogate is None:
        return "every gate is the identity around 0, so the sum over the levels is the signal"
    return "around r = 1 what multiplies the advantage follows the token's own log-ratio, slope 1"


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc.analysis.witnesses.designs import Path, build
    from fibc.analysis.witnesses.lab import evaluate

    above = len(facts.objective.level_names[: facts.objective.level_names.index(facts.top)])
    path = Path(((0.0, 0.0),) * above, 0.0)
    for advantage in (1.0, -1.0):
        built = build(facts.objective, [path], facts.top)
        if built is None:
            return None
        # One advantage only: the gradient then shows a row of the Jacobian.
        built.tensors["advantages"] = np.zeros_like(built.tensors["advantages"])
        built.tensors["advantages"][built.at[0]] = advantage
        trial = evaluate(facts, built)
        weight = trial.run.values.get("weight")
        own_weight = 1.0 if weight is None else trial.token(trial.run.batch.scatter(weight))
        if own_weight == 0:
            continue  # it hides what it weighs
        jacobian = trial.jacobian / own_weight
        identity = np.zeros_like(jacobian)
        identity[built.at[0]] = 1.0
        error = jacobian - identity
        if np.abs(error).max() > 1e-9:
            row, column = divmod(int(np.abs(error).argmax()), error.shape[1])
            own = "its own ratio" if (row, column) == built.at[0] else f"that of {row, column}"
            return trial.witness(
                promise.property,
                f"at r = 1 token {built.at[0]} has dG/dr = {jacobian[row, column]:g} with "
                f"respect to {own}, and the policy gradient {identity[row, column]:g}",
            )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    for level, gate in facts.objective.gates.items():
        if gate.rule.pieces and not shape(gate.rule).identity_at_zero:
            slope = shape(gate.rule).pieces[0].slope.constant
            shown = "another slope" if slope is None else f"slope {float(slope):g}"
            return Because(
                f"`{gate.rule.name}` at `{level}` has {shown} at r = 1, and the policy gradient "
                "has 1",
                f"use a gate at `{level}` that passes small deviations, or delete this line",
                (Label(gate.span, "this gate"),),
            )
    return Because(
        "around r = 1 what multiplies the advantage does not follow the token's own log-ratio with "
        "slope 1, or that is not seen from the expressions",
        "delete this line",
    )


FIRST_ORDER_AGREEMENT = Property(
    "first_order_agreement",
    "first_order_agreement",
    (),
    "at r = 1 the Jacobian dG/dr is the identity, so the first step is the policy gradient",
    prove,
    refute,
    because,
)
