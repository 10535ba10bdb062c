"""FIB619: a penalty that holds nothing back."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.expression import Call, Const, Expr, inputs_of
from fibc.ir.functions import derivative
from fibc.ir.simplify import simplified
from fibc.lints.lint import Finding, lint
from fibc.typed import TokenValue
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB619",
    "idle-penalty",
    "a penalty that holds nothing back",
    why="A penalty is subtracted. One that is never above 0 rewards moving away, mostly by a "
    "minus too many. One whose gradient is the same at every token, as that of k1, does nothing on "
    "average: the mean of d log p under the policy itself is 0, however far it has moved, so that "
    "only noise is added. The gradients of k2 and k3 pull back.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  penalty 0.04 * k1(ref_logp - logp)
  reduce mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(0.2) pessimistic }
  penalty 0.04 * k3(ref_logp - logp)
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def idle_penalty(facts: Facts) -> Iterator[Finding]:
    penalty = facts.objective.penalty
    if penalty is None:
        return
    span = penalty.span or facts.objective.span
    slope = _slope(penalty)
    if facts.ranges.of["penalty"].high <= 0:
        yield Finding(
            span,
            "the penalty is never above 0, so it rewards what it should hold back",
            "a penalty is subtracted already: leave out the minus",
        )
    elif slope is not None and not inputs_of(slope) and slope != Const(0.0):
        yield Finding(
            span,
            "the penalty's gradient is the same at every token, so that on average it does nothing",
            "take `k2` or `k3`, whose gradients grow with the distance; `k1` belongs into rewards",
        )


def _slope(value: TokenValue) -> Expr | None:
    """The derivative by the log-probability; None where aggregates have a part in it."""
    if any(name.endswith(")") for name in value.inputs):
        return None
    whole: Expr = Const(0.0)
    for index, name in enumerate(value.inputs):
        if name in ("logp", "log_ratio"):
            whole = Call("+", (whole, derivative(value.expr, index)))
    return simplified(whole)
