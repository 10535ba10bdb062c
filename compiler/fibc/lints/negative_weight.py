"""FIB618: a weight below 0."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB618",
    "negative-weight",
    "a weight that can be negative",
    why="A weight says how much a token counts: an importance weight, 0 to drop it, 1 to keep it. "
    "Below 0 it turns the token's term around, and what should be learnt is unlearnt. Often an "
    "`exp` is missing around a difference of log-probabilities.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  weight min(old_logp - rollout_logp, 2)
  reduce mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  weight min(exp(old_logp - rollout_logp), 2)
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def negative_weight(facts: Facts) -> Iterator[Finding]:
    weight = facts.objective.weight
    if weight is None:
        return
    found = facts.ranges.of["weight"]
    if found.low < 0:
        yield Finding(
            weight.span or facts.objective.span,
            f"the weight can be negative: it is in {found}",
            "a weight is 0 or more; of log-probabilities take `exp`, of anything else "
            "`max(..., 0)`",
        )
