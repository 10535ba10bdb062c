"""A fixed run that every output format is tested on: seven specs, six with findings.

The findings are made by hand, not by the checker, so that the goldens change with the formats only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fibc.analysis.witnesses.witness import Witness
from fibdsl.diagnostics.diagnostic import Diagnostic, Label
from fibdsl.diagnostics.render.report import FailOn, Report
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.source import Source, Span

SYNTAX = Rule("FIB001", "syntax-error", "the text is not of the language's form")
NAME = Rule("FIB101", "unknown-name", "a name that is not declared here")
LEVEL = Rule("FIB201", "unknown-level", "a level that is not in `levels`")
REFUTED = Rule(
    "FIB501",
    "refuted",
    "a `require` that does not hold",
    why="The objective is not what it says it is.",
    fix=Fix.NONE,
)
NO_OBJECTIVE = Rule("FIB004", "no-objective", "a file with no objective")
LINT = Rule(
    "FIB601",
    "unused-param",
    "a parameter that no gate uses",
    why="Setting it does nothing, 100% of the time.",
    example="objective o { param a : log = 1 }\n",
    mended="objective o { }\n",
    fix=Fix.UNSAFE,
)

CLEAN = Source("specs/clean.fib", "objective clean { }\n")
TWO = Source(
    "specs/two.fib",
    "objective two {\n  at trajectori { base rollback(+c_plsu, -0.1) }\n}\n",
)
LABELS = Source(
    "specs/labels.fib",
    """\
objective labels {
  at trajectory { base rollback(+0.2, -0.1) }
  at token { fiber clip(0.02) }
  reduce mean over token
  require block_diagonal
    over token
  require a, b
}
""",
)
WARNS = Source("specs/a, b: 100%.fib", "objective lint {\n  param spare : log = 0.1\n}\n")
BROKEN = Source("specs/syntax.fib", 'objective syntax {\n  doc "open\n')
NON_ASCII = Source(
    "specs/ε.fib",
    'objective wide {\n  doc "漢字 e\u0301 \x1b[31m"  param ε\n}\n',
)
TABS = Source("specs/tab.fib", "objective tab {\n\tat\ttoken\t{ base\tclipp(0.2) }\n}\n")

WITNESS = Witness(
    "labels.block_diagonal",
    {"logp": np.zeros((1, 2)), "mask": np.ones((1, 2), dtype=bool)},
    "d G[0, 0] / d logp[0, 1] is 0.5",
)


def span(source: Source, text: str) -> Span:
    """Where `text` stands for the first time."""
    start = source.text.index(text)
    return Span(start, start + len(text))


FINDINGS = (
    Diagnostic(
        LEVEL, "unknown level `trajectori`", TWO, span(TWO, "trajectori"), "did you mean it?"
    ),
    Diagnostic(NAME, "unknown name `c_plsu`", TWO, span(TWO, "c_plsu"), "did you mean `c_plus`?"),
    # A place of two lines, labels above it, and one line with three marks.
    Diagnostic(
        REFUTED,
        "`block_diagonal` does not hold",
        LABELS,
        span(LABELS, "require block_diagonal\n    over token\n"),
        None,
        labels=(
            Label(span(LABELS, "rollback(+0.2, -0.1)"), "couples the tokens of a trajectory"),
            Label(span(LABELS, "+0.2"), "up"),
            Label(span(LABELS, "-0.1"), "down"),
        ),
        notes=("token 0 enters the ratio of token 1", "and 100% of it:\nall"),
        witness=WITNESS,
    ),
    Diagnostic(
        NAME,
        "neither `a` nor `b` | `c`",
        LABELS,
        span(LABELS, "b\n}"),
        "write *one*",
        labels=(Label(span(LABELS, "a, b"), "these <two>"), Label(span(LABELS, "a,"), "this")),
    ),
    Diagnostic(LINT, "no gate uses `spare`", WARNS, span(WARNS, "spare"), "use it or delete it"),
    Diagnostic(SYNTAX, 'this `"` opens a text that is not closed', BROKEN, span(BROKEN, '"open')),
    Diagnostic(SYNTAX, "a `}` is missing", BROKEN, Span(30, 30), "write it"),
    Diagnostic(NAME, "unknown name `ε`\x1b", NON_ASCII, span(NON_ASCII, "ε"), "write `epsilon`"),
    Diagnostic(NAME, "unknown gate `clipp`", TABS, span(TABS, "clipp"), "did you mean `clip`?"),
    Diagnostic(NO_OBJECTIVE, "not the objective asked for", TABS, None),
)

FILES = tuple(s.path for s in (CLEAN, TWO, LABELS, WARNS, BROKEN, NON_ASCII, TABS))


def report(
    root: Path,
    *findings: Diagnostic,
    fail_on: FailOn = FailOn.WARNING,
    witness_file: str | None = None,
    colour: bool = False,
) -> Report:
    """These findings, or all, of a run in `root`, which is to be the current folder."""
    return Report(
        FILES,
        findings or FINDINGS,
        root,
        fail_on=fail_on,
        ignored=2,
        witness_files={WITNESS: witness_file} if witness_file else {},
        colour=colour,
    )
