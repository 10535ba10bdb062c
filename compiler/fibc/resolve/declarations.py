"""The signal and the parameters."""

from __future__ import annotations

from collections.abc import Sequence

from fibc.resolve.names import Names
from fibc.resolved import ResolvedParam
from fibdsl.builtins import RESERVED
from fibdsl.syntax import ast
from fibdsl.types import Channels, Signal, Space


def declared_signal(statement: ast.SignalStatement, names: Names) -> tuple[Signal, Channels] | None:
    """The signal and how its signs meet; None where the signal is not known."""
    channels = Channels.NET
    word = statement.channels
    if word and names.word(word, [c.value for c in Channels], "channel"):
        channels = Channels(word.text)
    if not names.word(statement.signal, [s.value for s in Signal], "signal"):
        return None
    return Signal(statement.signal.text), channels


def declared_params(
    statements: Sequence[ast.Param], usual: Space, names: Names
) -> dict[str, ResolvedParam]:
    """The parameters by their names; `usual` is the space of those whose own is not known."""
    params: dict[str, ResolvedParam] = {}
    for p in statements:
        name = p.name.text
        if name in params:
            names.diagnostics.add(
                "FIB103", f"a second `param {name}`", p.name.span, "rename or delete this one"
            )
            continue
        if name in RESERVED:
            names.diagnostics.add(
                "FIB104",
                f"`{name}` is a word of the language",
                p.name.span,
                "choose another name for the parameter",
            )
        # A misspelt space is taken for the usual one; uses are not judged by it.
        good = names.word(p.space, [s.value for s in Space], "space")
        space = Space(p.space.text) if good else usual
        params[name] = ResolvedParam(name, space, p.default, p.range, p.name.span, good)
    return params
