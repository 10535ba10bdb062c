"""FIB4xx: budgets, steepness and the values of parameters."""

from __future__ import annotations

from fibdsl.diagnostics.rules.rule import Rule

_GOOD = """\
objective o {
  param epsilon : deviation = 0.2 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(epsilon) pessimistic }
  reduce mean over token
}
"""
_GSPO = """\
objective o {
  param high : ratio = 1.0004 in (1, 2)
  param low  : ratio = 0.9997 in (0.5, 1)
  signal log_ratio
  levels token < trajectory
  at trajectory { base  clip(+ratio(high), -ratio(low)) pessimistic }
  at token      { fiber drop }
  reduce mean over trajectory, mean over token
}
"""
_ROLLBACK = """\
objective o {
  signal log_ratio split
  levels token < trajectory
  at token { base rollback(+0.2, -0.1, k = 8) }
  reduce mean over token
}
"""

RULES = (
    Rule(
        "FIB401",
        "budget-count",
        "missing, superfluous or unpaired arguments of a gate",
        why="A half pair would leave the other side open, which is a different objective; where "
        "that is meant, the budget of that side is `inf`.",
        example=_GOOD.replace("clip(epsilon)", "clip(+epsilon)"),
        mended=_GOOD,
    ),
    Rule(
        "FIB402",
        "budget-sign",
        "a budget or steepness that is not certainly positive",
        why="A budget is a magnitude: with 0 a gate lets no deviation through, and with a "
        "negative one it is not a gate. It has to be positive for every value its parameters may "
        "take, since they are changed while training runs.",
        example=_GOOD.replace("clip(epsilon)", "clip(epsilon - 0.1)"),
        mended=_GOOD.replace("clip(epsilon)", "clip(epsilon / 2)"),
    ),
    Rule(
        "FIB403",
        "param-range",
        "a default or value outside the parameter's range",
        why="What was checked holds for the range; outside it a bound may be on the wrong side of "
        "1, or a budget negative.",
        example=_GOOD.replace("= 0.2", "= 1.2"),
        mended=_GOOD,
    ),
    Rule(
        "FIB404",
        "empty-range",
        "a range with no number in it",
        why="No value could ever be set. Most often the ends are swapped.",
        example=_GOOD.replace("(0, 1)", "(1, 0)"),
        mended=_GOOD,
    ),
    Rule(
        "FIB405",
        "ratio-bound",
        "a ratio bound on the wrong side of 1",
        why="An upper bound below 1, or a lower one above it, would clip a policy that has not "
        "moved. Most often 0.2 was written where 1.2 was meant.",
        example=_GSPO.replace("1.0004 in (1, 2)", "0.0004 in (0, 2)"),
        mended=_GSPO,
    ),
    Rule(
        "FIB406",
        "steepness",
        "a gate at the token that counts members of its cell",
        why="A token has none. The steepness of a rollback is by default the number of the cell's "
        "children, and a gate of one's own may look at `size` or `tokens`.",
        example=_ROLLBACK.replace(", k = 8", ""),
        mended=_ROLLBACK,
    ),
)
