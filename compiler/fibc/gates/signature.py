"""The parameters of a gate definition: their names, spaces and defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fibc.gates.rule import Parameter
from fibc.ir.expression import Call, Const, Expr, Input
from fibc.ir.simplify import simplified
from fibc.units import unit_of
from fibdsl.builtins import CELL_COUNTS, RESERVED
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.syntax import ast
from fibdsl.types import Space


def signature(
    definition: ast.GateDefinition, diagnostics: Diagnostics
) -> tuple[Space | None, tuple[Parameter, ...]]:
    """The space of what is gated, None for that of any signal, and the other parameters.

    Raises:
        ReportedError: one of them is wrong.
    """
    x, *others = definition.parameters
    _distinct(definition.parameters, diagnostics)
    return _signal(x, diagnostics), tuple(_parameter(p, diagnostics) for p in others)


def _distinct(parameters: Sequence[ast.Parameter], diagnostics: Diagnostics) -> None:
    """Every parameter has a name that nothing else has."""
    seen: set[str] = set()
    for p in parameters:
        name = p.name.text
        if name in RESERVED - {"k"}:
            raise diagnostics.bad(
                "FIB104",
                f"`{name}` is a word of the language",
                p.name.span,
                "choose another name for the parameter",
            )
        if name in seen:
            raise diagnostics.bad(
                "FIB103", f"a second parameter `{name}`", p.name.span, "rename it"
            )
        seen.add(name)


def _signal(x: ast.Parameter, diagnostics: Diagnostics) -> Space | None:
    if x.default is not None:
        raise diagnostics.bad(
            "FIB401",
            "what is gated has no default",
            x.default.span,
            "delete the default; what is given to a gate begins with its second parameter",
        )
    if x.space is None:
        return None
    spaces = (Space.LOG.value, Space.DEVIATION.value)
    if x.space.text not in [s.value for s in Space]:
        help = nearest(x.space.text, spaces)
        raise diagnostics.bad("FIB106", f"unknown space `{x.space.text}`", x.space.span, help)
    if x.space.text not in spaces:
        raise diagnostics.bad(
            "FIB304",
            f"what is gated is a log or a deviation, not a {unit_of(Space(x.space.text))}",
            x.space.span,
            "write `: log` for `signal log_ratio`, `: deviation` for `signal ratio`, or "
            "nothing for either",
        )
    return Space(x.space.text)


def _parameter(p: ast.Parameter, diagnostics: Diagnostics) -> Parameter:
    space = None
    if p.space is not None:
        spaces = [s.value for s in Space]
        if p.space.text not in spaces:
            help = nearest(p.space.text, spaces)
            raise diagnostics.bad("FIB106", f"unknown space `{p.space.text}`", p.space.span, help)
        space = Space(p.space.text)
    default = None if p.default is None else _default(p.default, space, diagnostics)
    return Parameter(p.name.text, space, default)


def _default(written: ast.Expr, space: Space | None, diagnostics: Diagnostics) -> Expr:
    """A default: numbers, and for a plain number counts of the cell; a budget is positive."""
    counts = CELL_COUNTS if space is Space.PURE else {}
    value = simplified(_arithmetic(written, tuple(counts), diagnostics))
    if space is not None and isinstance(value, Const) and not math.isfinite(value.value):
        raise diagnostics.bad("FIB402", "this default is infinite", written.span, "write a number")
    if space is None and not (isinstance(value, Const) and value.value > 0):
        raise diagnostics.bad(
            "FIB402",
            "a default budget is not positive",
            written.span,
            "a budget is a magnitude: a number above 0, without its sign",
        )
    return value


def _arithmetic(expr: ast.Expr, counts: tuple[str, ...], diagnostics: Diagnostics) -> Expr:
    """Numbers and counts of the cell, these as inputs in the order of `CELL_COUNTS`."""
    match expr:
        case ast.Number(value, _):
            return Const(value)
        case ast.Reference("inf", _):
            return Const(math.inf)
        case ast.Reference(name, _) if name in counts:
            return Input(list(CELL_COUNTS).index(name))
        case ast.Negative(operand, _):
            return Call("-", (Const(0.0), _arithmetic(operand, counts, diagnostics)))
        case ast.Binary(operator, left, right, span):
            divisor = _arithmetic(right, counts, diagnostics)
            if operator == "/" and simplified(divisor) == Const(0.0):
                raise diagnostics.bad("FIB302", "division by zero", span, "mend the divisor")
            return Call(operator, (_arithmetic(left, counts, diagnostics), divisor))
    made = "numbers, `size` and `tokens`" if counts else "numbers only"
    raise diagnostics.bad(
        "FIB101",
        f"a default is made of {made}",
        expr.span,
        "write the number out, or no default",
    )
