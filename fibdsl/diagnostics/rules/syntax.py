"""FIB0xx: the text is not a spec."""

from __future__ import annotations

from fibdsl.diagnostics.rules.rule import Rule

_SPEC = """\
edition {edition}

objective o {{
  param epsilon{colon} deviation = 0.2 in (0, 1)
  signal ratio
  levels token < trajectory
  at token {{ base clip(epsilon) pessimistic }}
  reduce mean over token
}}
"""
_GOOD = _SPEC.format(edition=2026, colon=" :")

RULES = (
    Rule(
        "FIB001",
        "syntax-error",
        "the text is not of the language's form",
        why="What was meant cannot be told from it. After an error the reading goes on at the next "
        "statement, so one check shows all of them; names and spaces are checked once the text can "
        "be read.",
        example=_SPEC.format(edition=2026, colon=""),
        mended=_GOOD,
    ),
    Rule(
        "FIB002",
        "unknown-character",
        "a character the language does not use",
        why="Outside comments and texts a spec is plain ASCII, so that a name that looks the same "
        "is the same. Most often it is a Greek letter from a paper, or a sign of another language: "
        "`&&` is `and` here.",
        example=_GOOD.replace("epsilon", "ε"),
        mended=_GOOD,
    ),
    Rule(
        "FIB003",
        "unknown-edition",
        "an edition this version does not know",
        why="With the same edition a spec keeps its meaning. In an edition that is not known "
        "here the same words may mean another loss.",
        example=_SPEC.format(edition=2025, colon=" :"),
        mended=_GOOD,
    ),
    Rule(
        "FIB004",
        "no-objective",
        "a file with no objective, or not the one asked for",
        why="There is nothing to compute. Where a file has several objectives, one has to be "
        "chosen by name, and a name that is not there chooses none.",
        example="edition 2026\n",
        mended=_GOOD,
    ),
    Rule(
        "FIB005",
        "unusable-file",
        "a `use` or `extends` that leads nowhere, out of the project, or in a circle",
        why="What it would bring is not known. Files outside the project are not there on another "
        "machine, and of two that need each other neither can come first.",
        example='use "fibdsl:fibrepo.fib"\n' + _GOOD.replace("edition 2026\n\n", ""),
        mended='use "fibdsl:fiberpo.fib"\n' + _GOOD.replace("edition 2026\n\n", ""),
    ),
)
