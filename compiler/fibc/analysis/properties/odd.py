"""Oddness: deviations of the opposite sign are gated to the opposite: log G (or, for the signal
`ratio`, G - 1) changes sign with the signal of the whole batch, at fixed advantages.

Every gate of the table is odd on its own; budgets that differ and pessimism break it.
"""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Budget, Promise
from fibdsl.diagnostics.diagnostic import Label

_TOLERANCE = 1e-9


def prove(facts: Facts, promise: Promise) -> str | None:
    objective = facts.objective
    gates = [*objective.gates.values(), *([] if objective.after is None else [objective.after])]
    if objective.bypasses:
        return None
    for gate in gates:
        if not gate.rule.odd or gate.pessimistic:
            return None
        if not all(_even(given, facts) for given in gate.arguments.values()):
            return None
    return "every gate is odd and has one budget for both signs"


def _even(budget: Budget, facts: Facts) -> bool:
    upper, lower = facts.bounds(budget.upper), facts.bounds(budget.lower)
    point = upper.low == upper.high
    return budget.upper == budget.lower or (point and upper == lower)


def refute(facts: Facts, promise: Promise) -> Witness | None:
    from fibc.analysis.witnesses.designs import build
    from fibc.analysis.witnesses.lab import deviation, deviations, evaluate

    objective = facts.objective
    for _, _, path in deviations(facts):
        for advantage in (1.0, -1.0):
            twins = [path, path.mirrored(objective.channels)]
            built = build(objective, twins, facts.top, [advantage])
            if built is None:
                continue
            trial = evaluate(facts, built)
            a, b = (deviation(trial.token(trial.gated_ratio, i), objective.signal) for i in (0, 1))
            if abs(a + b) > _TOLERANCE:
                what = "log G" if objective.signal == "log_ratio" else "G - 1"
                return trial.witness(
                    promise.property,
                    f"tokens {built.at[0]} and {built.at[1]} mirror each other, "
                    f"but {what} is {a:.6g} and {b:.6g}",
                )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    for level, gate in facts.objective.gates.items():
        if gate.pessimistic:
            return Because(
                f"`pessimistic` lets the gate at `{level}` act on one side only",
                "delete `pessimistic`, or this line",
                (Label(gate.span, "acts on one side"),),
            )
        if gate.budget is not None and not _even(gate.budget, facts):
            return Because(
                f"the gate at `{level}` has another budget above than below",
                "give it one budget for both sides, or delete this line",
                (Label(gate.span, "two budgets"),),
            )
    return Because("no gate is uneven", "delete this line")


ODD = Property(
    "odd",
    "odd",
    (),
    "mirrored deviations are gated to mirrored ones, at fixed advantages",
    prove,
    refute,
    because,
)
