"""FIB606: tokens are gated one by one and averaged a response at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.diagnostic import Label
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import TOKEN, TRAJECTORY

RULE = Rule(
    "FIB606",
    "token-ratio-sequence-mean",
    "token ratios are gated, and averaged within each trajectory first",
    why="Each token of a response of T tokens counts 1/T. Among right answers the short ones are "
    "pushed up harder, and among wrong ones the long ones are pushed down less, so wrong answers "
    "grow longer (Dr. GRPO, arXiv 2503.20783, section 3.1). And what is gated, a token's ratio, is "
    "not the unit that is averaged and rewarded, the response (GSPO, arXiv 2507.18071, section 3). "
    "GRPO as published is exactly this: allow it where that is what you want.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def token_ratio_sequence_mean(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    if objective.coarsest_gated != TOKEN or objective.sums:
        return
    for outer, inner in itertools.pairwise(objective.reduce):
        if (outer.level, inner.level, inner.reduction) == (TRAJECTORY, TOKEN, "mean"):
            yield Finding(
                objective.reduce_span,
                "this divides by the length of the trajectory, but only single tokens are gated: "
                "each token of a long response counts less",
                "write `reduce mean over token`, or gate the trajectory, as GSPO and FiberPO do",
                (Label(objective.gates[TOKEN].span, "the only gate"),),
            )
