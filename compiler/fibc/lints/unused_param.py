"""FIB601: a parameter that changes nothing is a typo waiting to be tuned."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.scalar import references
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB601",
    "unused-param",
    "a parameter that no gate uses",
    why="Setting it does nothing, so a sweep over it compares a loss with itself. Most often a "
    "budget was meant to use it.",
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
    for gate in facts.objective.gates.values():
        budget = (gate.budget.upper, gate.budget.lower) if gate.budget else ()
        for scalar in (*budget, gate.steepness):
            if scalar is not None:
                used |= references(scalar)
    for param in facts.objective.params:
        if param.name not in used:
            yield Finding(
                param.span, f"no gate uses the parameter `{param.name}`", "use it or delete it"
            )
