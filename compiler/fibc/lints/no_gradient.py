"""FIB614: nothing of the policy reaches the loss."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.proofs import linear
from fibc.ir.gradient import differentiable
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB614",
    "no-gradient",
    "a hierarchy of gates through which no gradient passes",
    why="If every level is dropped, G is 1 whatever the policy does: the loss is the mean "
    "advantage, and nothing is learnt without any error.",
    example="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  drop }
  at token      { fiber drop }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber drop }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def no_gradient(facts: Facts) -> Iterator[Finding]:
    dropped = facts.forms[linear.gated(facts.program)] == {} and facts.objective.plain
    if dropped:
        yield Finding(
            facts.objective.span,
            "every gate drops its input, so the loss has no gradient",
            "gate at least one level with something else than `drop`",
        )
    elif facts.program.objective not in differentiable(facts.program):
        yield Finding(
            facts.objective.span,
            "nothing that is added up has a gradient, so the loss has none",
            "let something of the policy stand outside of `stopgrad`, and behind gates that do not "
            "all `drop`",
        )
