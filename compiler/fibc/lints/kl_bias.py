"""FIB602: C- should be below C+."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import TOKEN, Channels

RULE = Rule(
    "FIB602",
    "kl-bias",
    "C- is not below C+, though S- exceeds S+ on average",
    why="The mean log-ratio of sampled tokens estimates -KL, so it is negative and S- exceeds S+ "
    "on average. With C- >= C+ the - channel, which drifts more, is also held less "
    "(arXiv 2604.03044, section 3.3).",
    example="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(0.2) }
  at token      { fiber clip(0.02) }
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
def kl_bias(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    if objective.channels is not Channels.SPLIT:
        return
    for level, gate in objective.gates.items():
        if level == TOKEN or gate.budget is None:
            continue
        plus, minus = facts.value(gate.budget.upper), facts.value(gate.budget.lower)
        if math.inf > minus >= plus:
            yield Finding(
                gate.span,
                f"at `{level}` C- = {minus:g} is not below C+ = {plus:g}",
                "S- exceeds S+ on average; give the - channel the smaller budget",
            )
