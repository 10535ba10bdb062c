"""FIB601: a parameter or a budget that changes nothing is a typo waiting to be tuned."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.expression import params_of
from fibc.ir.scalar import references
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB601",
    "unused-param",
    "a parameter, or a budget per cell, that nothing uses",
    why="Setting it does nothing, so a sweep over it compares a loss with itself. Most often a "
    "budget was meant to use it. Budgets per cell have an effect where the gate of their level "
    "uses `budget`.",
    example="""\
objective o {
  param epsilon : deviation = 0.2 in (0, 1)
  param epsilon_high : deviation = 0.28 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(epsilon) pessimistic }
  reduce mean over token
}
""",
    mended="""\
objective o {
  param epsilon : deviation = 0.2 in (0, 1)
  param epsilon_high : deviation = 0.28 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(+epsilon_high, -epsilon) pessimistic }
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def unused_param(facts: Facts) -> Iterator[Finding]:
    used: frozenset[str] = frozenset()
    objective = facts.objective
    gates = [*objective.gates.values(), *([] if objective.after is None else [objective.after])]
    scalars = [scalar for gate in gates for scalar in gate.scalars]
    scalars += [step.divisor for step in objective.reduce if step.divisor is not None]
    for budget in objective.budgets.values():
        scalars += budget.scalars
    for scalar in scalars:
        used |= references(scalar)
    for value in objective.token_values:
        used |= params_of(value.expr)
    for param in facts.objective.params:
        if param.name not in used:
            yield Finding(
                param.span, f"nothing uses the parameter `{param.name}`", "use it or delete it"
            )
    for level, budget in objective.budgets.items():
        if level not in facts.program.budgets:
            yield Finding(
                budget.span,
                f"no gate uses the `budget` of `{level}`",
                "write `budget` where its budget is, or delete these",
            )
