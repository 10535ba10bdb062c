"""FIB607: means of means of means inside a trajectory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import TRAJECTORY

RULE = Rule(
    "FIB607",
    "mean-of-means",
    "three or more nested means within a trajectory",
    why="Each mean gives every cell of its parent the same say. A token of a turn of 5 tokens then "
    "counts 40 times as much as one of a turn of 200 beside it, and one of a trajectory of 2 turns "
    "5 times as much as one of a trajectory of 10. Short turns (a tool call, `ok`) get far more "
    "than their share of the gradient. One division by the length of the trajectory already has "
    "the bias that Dr. GRPO describes (arXiv 2503.20783, section 3.1).",
    example="""\
objective o {
  signal log_ratio split
  levels token < turn by turn_id < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at turn       { fiber rollback(+0.1, -0.06) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over turn, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio split
  levels token < turn by turn_id < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at turn       { fiber rollback(+0.1, -0.06) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)

_MEANS = 3


@lint(RULE)
def mean_of_means(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    steps = objective.reduce
    means = sum(step.reduction == "mean" for step in steps)
    names = objective.level_names
    if means < _MEANS or TRAJECTORY not in names:
        return
    within = names[: names.index(TRAJECTORY) + 1]
    if any(step.level not in within for step in steps):
        return
    divisors = [
        f"`{inner.level}`s of its `{outer.level}`"
        for outer, inner in itertools.pairwise(steps)
        if inner.reduction == "mean"
    ]
    yield Finding(
        objective.reduce_span,
        f"this is a mean of {means} means: a token counts 1 / ({' x '.join(divisors)})",
        f"keep the unit that is to count once: `mean over {steps[0].level}, mean over token`, "
        "or `mean over token`",
    )
