"""FIB5xx: promises."""

from __future__ import annotations

from fibdsl.diagnostics.rules.rule import Fix, Rule

_FIBERPO = """\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
  require block_diagonal over trajectory
}
"""
_CENSOR = """\
objective o {{
  param delta : deviation = 0.1 in (0, 2)
  signal ratio
  levels token < state by state_id
  at token {{ base censor(delta, over state) }}
  reduce mean over token
  require {}
}}
"""

_GATE = """\
gate soft(x, C) odd {{
  {first}
  sign(x) * C otherwise;
}}

objective o {{
  signal ratio
  levels token < trajectory
  at token {{ base soft(0.2) pessimistic }}
  reduce mean over token
}}
"""

RULES = (
    Rule(
        "FIB501",
        "refuted",
        "a `require` that does not hold",
        why="The objective does not do what is said of it: a batch shows it where one can. Either "
        "the promise is too strong or the gates are not the ones meant.",
        example=_FIBERPO.replace("over trajectory\n}", "over token\n}"),
        mended=_FIBERPO,
        fix=Fix.UNSAFE,
    ),
    Rule(
        "FIB502",
        "undecided",
        "a `require` that could not be decided",
        why="It may hold, but nobody knows: no proof was found and no batch that breaks it. What "
        "bounds a censored ratio, for one, grows with the size of its cell, so no number is proved "
        "and none is refuted by a tiny batch. A promise that may stay unproved is an `assume`.",
        example=_CENSOR.format("bounded"),
        mended=_CENSOR.format("trust_region tv <= delta over state"),
        fix=Fix.UNSAFE,
    ),
    Rule(
        "FIB503",
        "unknown-property",
        "a `require` of a property the checker does not have",
        why="A promise that nothing decides would read as one that holds.",
        example=_FIBERPO.replace("block_diagonal", "blockdiagonal"),
        mended=_FIBERPO,
    ),
    Rule(
        "FIB504",
        "property-arguments",
        "a `require` with the wrong arguments",
        why="Without its level or its range a property says nothing that could be decided.",
        example=_FIBERPO.replace("block_diagonal over trajectory", "block_diagonal"),
        mended=_FIBERPO,
    ),
    Rule(
        "FIB505",
        "not-odd",
        "a gate that is called `odd` and is not, as far as can be seen",
        why="The proofs, and the channels of a split signal, rely on it: g(-x) = -g(x) for every "
        "x and every budget.",
        example=_GATE.format(first="x when x <= C;"),
        mended=_GATE.format(first="x when |x| <= C;"),
    ),
)
