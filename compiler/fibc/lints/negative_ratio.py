"""FIB616: a gated ratio below 0."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibc.ir.interval import Interval
from fibc.lints.lint import Finding, lint
from fibc.typed import Promise
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB616",
    "negative-ratio",
    "gates of deviations that add up to a gated ratio below 0",
    why="On `signal ratio` gated deviations are added to 1. Where a coarse gate holds back what a "
    "fine one lets through, their sum can fall below -1: G is negative, and the token is pushed "
    "against its advantage.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at trajectory { base  clip(0.2) }
  at token      { fiber clip(1.5) }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio
  levels token < trajectory
  at trajectory { base  clip(0.2) }
  at token      { fiber clip(0.1) }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def negative_ratio(facts: Facts) -> Iterator[Finding]:
    if facts.ranges.gated_ratio.low >= 0:
        return
    positive = Interval.exact(0.0) + Interval(0.0, float("inf"))
    witness = PROPERTIES["gated_ratio"].refute(
        facts, Promise("gated_ratio", facts.objective.span, within=positive)
    )
    if witness is not None:
        yield Finding(
            facts.objective.span,
            f"G can be negative: {witness.shows}",
            "use `signal log_ratio`, or narrower budgets",
        )
