"""FIB603: the token clip should act before the coarser gates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.interval import Real
from fibc.lints.lint import Finding, lint
from fibc.typed import Budget
from fibdsl.diagnostics.diagnostic import Label
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import TOKEN

RULE = Rule(
    "FIB603",
    "token-budget",
    "the token clip does not act before the coarser gates",
    why="A token that deviates by epsilon moves the mean of its cell of T tokens by epsilon / T. "
    "With epsilon at or above the coarser budget, tokens of short cells are never clipped while "
    "the cell is within its budget: the coarser gate does the work of the token gate, and zeroes "
    "whole cells for single tokens. epsilon << delta is advised (arXiv 2604.03044, section 3.3).",
    example="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.3) }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def token_budget(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    token = objective.gates.get(TOKEN)
    if token is None or token.budget is None or objective.coarsest_gated == TOKEN:
        return

    def smallest(budget: Budget) -> Real:
        return min(facts.bounds(budget.upper).high, facts.bounds(budget.lower).high)

    epsilon = smallest(token.budget)
    if math.isinf(epsilon):
        return  # says itself that no token is clipped
    for level, gate in objective.gates.items():
        if level == TOKEN or gate.budget is None:
            continue
        budget = smallest(gate.budget)
        if epsilon >= budget:
            # |x - S| <= (T - 1) C for a token of T with S within C.
            tokens = math.floor(epsilon / budget) + 1
            yield Finding(
                token.span,
                f"the token budget {float(epsilon):g} is not below the budget {float(budget):g} at "
                f"`{level}`: within that no token of a cell of {tokens} or fewer is ever clipped",
                f"with epsilon this large `{level}` is gated before any token is; make it smaller",
                (Label(gate.span, f"the budget of `{level}`"),),
            )
