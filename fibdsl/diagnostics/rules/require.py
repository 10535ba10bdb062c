"""FIB5xx: promises."""

from __future__ import annotations

from fibdsl.diagnostics.rules.rule import Rule

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
# G is in [exp(-0.12), exp(0.22)]: a + channel below its budget never gets below 0. The ranges of
# the gates, each taken by itself, add up to [exp(-0.14), exp(0.24)].
_CLIPS = """\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  clip(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
  require gated_ratio in [0.86, 1.28]
}
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
    ),
    Rule(
        "FIB502",
        "undecided",
        "a `require` that could not be decided",
        why="It may hold, but nobody knows: no proof was found and no batch that breaks it. The "
        "range of the gated ratio, for one, is found gate by gate and can be wider than what a "
        "batch can reach. A promise that may stay unproved is an `assume`.",
        example=_CLIPS.replace("[0.86, 1.28]", "[0.88, 1.25]"),
        mended=_CLIPS,
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
)
