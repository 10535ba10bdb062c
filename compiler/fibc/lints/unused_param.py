"""FIB601: a parameter that changes nothing is a typo waiting to be tuned."""

from __future__ import annotations

from fibc.ir.scalar import references
from fibc.typed import TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics


def unused_param(objective: TypedObjective, diagnostics: Diagnostics) -> None:
    used: frozenset[str] = frozenset()
    for gate in objective.gates.values():
        budget = (gate.budget.upper, gate.budget.lower) if gate.budget else ()
        for scalar in (*budget, gate.steepness):
            if scalar is not None:
                used |= references(scalar)
    for param in objective.params:
        if param.name not in used:
            diagnostics.add(
                "FIB601",
                f"no gate uses the parameter `{param.name}`",
                param.span,
                "use it or delete it",
            )
