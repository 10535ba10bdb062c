"""The gates of the language: those of grammar/prelude.fib, and the one it cannot say."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from fibc.gates.define import define
from fibc.gates.pieces import linear_pieces
from fibc.gates.rule import Case, GateRule, Parameter
from fibc.ir.expression import Call, Input
from fibc.parse import parse
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.resources import folder
from fibdsl.source import Source

_CENSOR = GateRule(
    "censor",
    "clip to what the other members of the cell leave of its budget, "
    "max(0, n * delta - sum of the others' |x|)",
    "APC-Obj, arXiv 2603.08239, definition 3.2",
    (Parameter("delta", None),),
    ("x", "delta"),
    (
        # What neighbours leave can be nothing at all; then no x passes, 0 included.
        Case("pass", Input(0), Call("<", (Call("abs", (Input(0),)), Input(1)))),
        Case("clipped", Call("*", (Call("sign", (Input(0),)), Input(1))), None),
    ),
    neighbours=True,
)
_CENSOR = replace(_CENSOR, pieces=linear_pieces(_CENSOR))
"""The gate that no definition can say: it looks at other tokens."""


@cache
def builtin_gates() -> dict[str, GateRule]:
    """The gates of the language, by name."""
    path = folder("grammar") / "prelude.fib"
    source = Source(path.name, path.read_text(encoding="utf-8"))
    diagnostics = Diagnostics(source)
    file = parse(source, diagnostics, foreign=True)
    assert file is not None, diagnostics.found
    rules = [define(definition, source, diagnostics) for definition in file.gates]
    assert not diagnostics.found, diagnostics.found
    known = [replace(rule, builtin=True) for rule in (*rules, _CENSOR) if rule is not None]
    return {rule.name: rule for rule in known}
