"""FIB617: a surrogate or weight that has the advantage as a factor."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.expression import Call, Expr, Input
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB617",
    "advantage-twice",
    "the advantage is multiplied by itself",
    why="A token adds weight * surrogate * advantage: a surrogate is what papers multiply by the "
    "advantage. With the advantage in it too, tokens count by the square of it, and those of a "
    "negative one are pushed up. A surrogate may look at its sign.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) }
  surrogate min(ratio * advantage, gated_ratio * advantage)
  reduce mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) }
  surrogate by_advantage(min(ratio, gated_ratio), max(ratio, gated_ratio))
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def advantage_twice(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    for word, value in (("surrogate", objective.surrogate), ("weight", objective.weight)):
        if value is None or "advantage" not in value.inputs:
            continue
        if _counts(value.expr, value.inputs.index("advantage")):
            yield Finding(
                value.span or objective.span,
                f"the {word} has the advantage in it, and is multiplied by the advantage besides",
                "leave the advantage out; what hangs on its sign is `by_advantage(A, B)`, or "
                "`when advantage < 0`",
            )


def _counts(expr: Expr, index: int) -> bool:
    """Whether more than the sign of an input counts."""
    match expr:
        case Input(place):
            return place == index
        case Call("sign" | "<" | "<=" | "and" | "or", _):
            return False
        case Call("where", (_, yes, no)):
            return _counts(yes, index) or _counts(no, index)
        case Call(_, arguments):
            return any(_counts(a, index) for a in arguments)
        case _:
            return False
