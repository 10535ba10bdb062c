"""FIB613: budgets so wide that G overflows half precision."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB613",
    "half-overflow",
    "budgets so wide that the gated ratio overflows half precision",
    why="exp overflows float16 at an exponent of 11.09. Budgets that let log G get there are not "
    "trust regions any more; a ratio was probably written where a log-ratio belongs.",
    example="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+12, -6) }
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

_FLOAT16_MAX = 65504.0


@lint(RULE)
def half_overflow(facts: Facts) -> Iterator[Finding]:
    high = facts.ranges.by_advantage[0].high
    if _FLOAT16_MAX < high < float("inf"):
        yield Finding(
            facts.objective.span,
            f"G can be {float(high):.3g}, and float16 ends at {_FLOAT16_MAX:g}",
            "budgets are in nats: 0.2 is a ratio of 1.22",
        )
