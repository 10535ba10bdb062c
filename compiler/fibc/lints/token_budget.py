"""FIB603: the token clip should act before the coarser gates (epsilon well below the budgets)."""

from __future__ import annotations

from fibc.ir.scalar import evaluate
from fibc.typed import Budget, TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.types import TOKEN


def token_budget(objective: TypedObjective, diagnostics: Diagnostics) -> None:
    token = objective.gates.get(TOKEN)
    if token is None or token.budget is None or objective.coarsest_gated == TOKEN:
        return

    def smallest(budget: Budget) -> float:
        values = (evaluate(s, objective.defaults, {}) for s in (budget.upper, budget.lower))
        return float(min(values))

    epsilon = smallest(token.budget)
    for level, gate in objective.gates.items():
        if level == TOKEN or gate.budget is None:
            continue
        if epsilon >= smallest(gate.budget):
            diagnostics.add(
                "FIB603",
                f"the token budget {epsilon:g} is not below the budget "
                f"{smallest(gate.budget):g} at `{level}`",
                token.span,
                f"with epsilon this large `{level}` is gated before any token is; make it smaller",
            )
