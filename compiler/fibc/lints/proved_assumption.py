"""FIB615: an `assume` that can be proved."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Rule

RULE = Rule(
    "FIB615",
    "proved-assumption",
    "an `assume` of something that is proved",
    why="`assume` accepts what could not be decided. What is proved should be required, so that a "
    "later change that breaks it is an error.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  reduce mean over token
  assume first_order_agreement
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  reduce mean over token
  require first_order_agreement
}
""",
)


@lint(RULE)
def proved_assumption(facts: Facts) -> Iterator[Finding]:
    for promise in facts.objective.promises:
        if promise.assumed and PROPERTIES[promise.property].prove(facts, promise):
            yield Finding(promise.span, f"`{promise.property}` is proved", "write `require`")
