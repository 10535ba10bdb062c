"""FIB3xx: what a number measures."""

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
_APC = """\
objective o {
  signal ratio
  levels token < state by state_id
  at token { base censor(0.1, over state) }
  reduce mean over token
}
"""

_GATED = """\
gate shrink(x, s : pure) {{ clip(x, -0.2, 0.2) / s }}

objective o {{
  param s : pure = 2 in {range}
  signal ratio
  levels token < trajectory
  at token {{ base shrink(s) }}
  reduce mean over token
}}
"""

_LETS = """\
objective o {{
  signal ratio
  levels token < trajectory
  at token {{ base clip(0.2) pessimistic }}
  let x0 = log_ratio + 0.1
{lets}
  penalty x9
  reduce mean over token
}}
"""

RULES = (
    Rule(
        "FIB301",
        "space-mismatch",
        "a quantity of one space where another belongs",
        why="0.2 is a bound of 1.2 as a deviation and of 1.22 in nats, and 1.2 as a ratio is "
        "neither. Code that takes one for the other trains, with a budget nobody chose.",
        example=_GOOD.replace(": deviation", ": log"),
        mended=_GOOD,
    ),
    Rule(
        "FIB302",
        "space-arithmetic",
        "arithmetic between spaces that do not combine, or with the wrong number of arguments",
        why="A deviation plus a log-ratio, or a budget times a budget, is a number that measures "
        "nothing.",
        example=_GOOD.replace("clip(epsilon)", "clip(epsilon * epsilon)"),
        mended=_GOOD.replace("clip(epsilon)", "clip(2 * epsilon)"),
    ),
    Rule(
        "FIB303",
        "conversion",
        "`ratio(...)` where it is not a whole bound",
        why="Half of the bound 1.2 is not half of its logarithm: whether to convert before or "
        "after the arithmetic is not the same bound.",
        example=_GOOD.replace("clip(epsilon)", "clip(epsilon + ratio(1.2))"),
        mended=_GOOD.replace("  param epsilon : deviation = 0.2 in (0, 1)\n", "").replace(
            "clip(epsilon)", "clip(ratio(1 + 0.2))"
        ),
    ),
    Rule(
        "FIB304",
        "signal-mismatch",
        "a gate that does not fit the signal or its channels",
        why="`censor` bounds a total variation, a sum of |r - 1| over both signs. Of log-ratios, "
        "or of one sign alone, the sum is no total variation, and the trust region of APC-Obj is "
        "not enforced (arXiv 2603.08239, definition 3.2). A gate of one's own may say which signal "
        "it is for: `gate g(x : deviation)` is given r - 1, and log r is another number.",
        example=_APC.replace("signal ratio", "signal log_ratio"),
        mended=_APC,
    ),
    Rule(
        "FIB305",
        "no-value",
        "a division, logarithm or root that may have no value",
        why="One token with 0 there makes the loss NaN, in the middle of a run. What an expression "
        "can be follows from the ranges of its parameters and the cases before it.",
        example=_GATED.format(range="[0, 10]"),
        mended=_GATED.format(range="[1, 10]"),
    ),
    Rule(
        "FIB306",
        "large-expression",
        "an expression of more than 1,000 operations, written out",
        why="A `let` is its expression, wherever the name stands: ten of them, each with the one "
        "before twice, are a thousand copies of the first. All of them would have to be checked, "
        "compiled and computed.",
        example=_LETS.format(
            lets="\n".join(f"  let x{i} = tanh(x{i - 1}) * x{i - 1}" for i in range(1, 10))
        ),
        mended=_LETS.format(lets="  let x9 = tanh(x0) * x0"),
    ),
)
