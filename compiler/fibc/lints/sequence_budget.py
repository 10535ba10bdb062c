"""FIB608: a budget of a token's size on the ratio of a sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.shape import shape
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import TRAJECTORY, Channels, Signal

RULE = Rule(
    "FIB608",
    "sequence-budget",
    "a budget of a token's size on the ratio of a whole sequence",
    why="The ratio of a sequence is exp(mean log r). The mean of T tokens that move by 0.2 in "
    "random directions moves by 0.2 / sqrt(T), 0.006 at T = 1000, so a bound of 0.2 hardly ever "
    "acts and the objective is as good as unclipped. GSPO's bounds are 3e-4 and 4e-4, where GRPO's "
    "are 0.2 and 0.27 (arXiv 2507.18071, section 5.1).",
    example="""\
objective o {
  signal log_ratio
  levels token < trajectory
  at trajectory { base  clip(+0.28, -0.2) pessimistic }
  at token      { fiber drop }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio
  levels token < trajectory
  at trajectory { base  clip(+ratio(1.0004), -ratio(0.9997)) pessimistic }
  at token      { fiber drop }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)

LARGE = 0.05
"""nats: over a hundred times GSPO's bounds, a quarter of GRPO's."""


@lint(RULE)
def sequence_budget(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    gate = objective.gates.get(TRAJECTORY)
    if (objective.signal, objective.channels) != (Signal.LOG_RATIO, Channels.NET):
        return
    if gate is None or gate.budget is None:
        return
    finer = objective.level_names[: objective.level_names.index(TRAJECTORY)]
    if any(not shape(objective.gates[level].rule).zero for level in finer):
        return
    bounds = (facts.value(gate.budget.upper), facts.value(gate.budget.lower))
    large = [bound for bound in bounds if LARGE <= bound < math.inf]
    if large:
        yield Finding(
            gate.span,
            f"a budget of {max(large):g} nats is a token's, but here it bounds exp(mean log r) of "
            "a whole sequence, which moves far less",
            "GSPO's bounds are `+ratio(1.0004), -ratio(0.9997)`; if the ratio of each token was "
            f"meant, as in GRPO, write `signal ratio` and `at token {{ base {gate.rule.name}(...) "
            "pessimistic }`, without this gate",
        )
