"""FIB2xx: the chain of levels, and where on it gates and means stand."""

from __future__ import annotations

from fibdsl.diagnostics.rules.rule import Rule

_GOOD = """\
objective o {
  signal log_ratio split
  levels token < trajectory < group by uid
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
"""
_APC = """\
objective o {
  param delta : deviation = 0.1 in (0, 2)
  signal ratio
  levels token < state by state_id
  at token { base censor(delta, over state) }
  reduce mean over token
}
"""

RULES = (
    Rule(
        "FIB201",
        "unknown-level",
        "a level that is not in `levels`",
        why="Which tokens are one cell of it is not known.",
        example=_GOOD.replace("mean over trajectory", "mean over trajectroy"),
        mended=_GOOD,
    ),
    Rule(
        "FIB202",
        "level-order",
        "levels that do not form one chain from token upwards",
        why="Aggregates are formed from fine to coarse and gated values handed down from coarse to "
        "fine, so every level needs one next finer and one next coarser neighbour.",
        example=_GOOD.replace("token < trajectory <", "trajectory < token <"),
        mended=_GOOD,
    ),
    Rule(
        "FIB203",
        "level-key",
        "a missing, superfluous or repeated key of a level",
        why="The ids of a batch say which tokens are one cell. Without a key there are none; with "
        "the key of another level the two are the same level.",
        example=_GOOD.replace("group by uid", "group"),
        mended=_GOOD,
    ),
    Rule(
        "FIB204",
        "base-or-fiber",
        "base where fiber belongs, or the other way round",
        why="`base` gates an aggregate, `fiber` the deviation from the gated level above. With two "
        "bases the drift of a trajectory would be counted at both levels; with none nothing "
        "bounds it (arXiv 2603.08239).",
        example=_GOOD.replace("fiber clip", "base  clip"),
        mended=_GOOD,
    ),
    Rule(
        "FIB205",
        "ungated-level",
        "a level below the coarsest gated one without a gate",
        why="Letting the deviations of tokens through (FiberPO without its clip) and dropping them "
        "(GSPO) are different objectives; which one is meant has to be said.",
        example=_GOOD.replace("  at token      { fiber clip(0.02) }\n", ""),
        mended=_GOOD,
    ),
    Rule(
        "FIB206",
        "reduce-order",
        "reduce steps that are not nested, coarse to fine",
        why="The outermost mean comes first, and the innermost is over tokens. Read the other way "
        "round, other tokens would count more.",
        example=_GOOD.replace(
            "mean over trajectory, mean over token", "mean over token, mean over trajectory"
        ),
        mended=_GOOD,
    ),
    Rule(
        "FIB207",
        "aggregate-level",
        "an aggregate over a level that is not finer",
        why="A cell's aggregate is a mean over what is inside it.",
        example=_GOOD.replace("-0.1) }", "-0.1) aggregate mean over group }"),
        mended=_GOOD.replace("-0.1) }", "-0.1) aggregate mean over token }"),
    ),
    Rule(
        "FIB208",
        "neighbour-level",
        "a censor over a level that is not coarser",
        why="The budget of a censor is shared by all members of a coarser cell; a cell of one "
        "member has nobody to share with (arXiv 2603.08239, definition 3.2).",
        example=_APC.replace("over state)", "over token)"),
        mended=_APC,
    ),
    Rule(
        "FIB209",
        "wrong-place",
        "something that is not known where it is asked for",
        why="A gate of a trajectory sees one number, the aggregate; which of its tokens' "
        "probabilities would be meant cannot be said. And a gate sees which sign the advantage "
        "has, but not its size: what it does would no longer be a gate on ratios.",
        example="gate held(x, C) { min(x, C * prob) }\n"
        + _GOOD.replace("rollback(+0.2, -0.1)", "held(0.2)"),
        mended="gate held(x, C) { min(x, C) }\n"
        + _GOOD.replace("rollback(+0.2, -0.1)", "held(0.2)"),
    ),
)
