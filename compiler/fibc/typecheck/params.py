"""Parameters: the range each may be in, and a default that is in it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

from fibc.ir.interval import Interval
from fibc.resolved import ResolvedParam
from fibc.typecheck.quantities import BY_ADVANTAGE, literal
from fibc.typed import TypedParam
from fibdsl.diagnostics.diagnostic import Diagnostics, ReportedError
from fibdsl.syntax import ast
from fibdsl.types import Space


def typed_params(
    declared: Mapping[str, ResolvedParam], diagnostics: Diagnostics
) -> tuple[tuple[TypedParam, ...], dict[str, Interval]]:
    """The parameters that are sound, and the ranges of all that have a sound one: uses are judged
    by the range, whatever the default is."""
    params: list[TypedParam] = []
    ranges: dict[str, Interval] = {}
    for p in declared.values():
        default: float | None = None
        with contextlib.suppress(ReportedError):
            ranges[p.name] = _range(p, diagnostics)
        with contextlib.suppress(ReportedError):
            default = _constant(p.default, diagnostics)
        interval = ranges.get(p.name)
        if interval is None or default is None:
            continue
        if _fits(default, interval, p, diagnostics):
            params.append(TypedParam(p.name, p.space, default, interval, p.span))
    return tuple(params), ranges


def _fits(default: float, interval: Interval, p: ResolvedParam, diagnostics: Diagnostics) -> bool:
    if math.isinf(default):
        diagnostics.add("FIB403", "the default is infinite", p.default.span, "write a number")
        return False
    if default not in interval:
        diagnostics.add(
            "FIB403",
            f"the default {default:g} is not in {interval}",
            p.default.span,
            "change the default or widen the range",
        )
        return False
    return True


def _range(p: ResolvedParam, diagnostics: Diagnostics) -> Interval:
    """What a parameter may be."""
    if p.range is None:
        ratio = p.space is Space.RATIO
        return Interval(0.0, math.inf, True, True) if ratio else Interval.everything()
    low, high = _constant(p.range.low, diagnostics), _constant(p.range.high, diagnostics)
    interval = Interval(low, high, p.range.low_open, p.range.high_open)
    if interval.empty:
        raise diagnostics.bad(
            "FIB404",
            f"no number is in {interval}",
            p.range.span,
            "write the smaller end first, as in `(0, 1)`",
        )
    if p.space is Space.RATIO and interval.low < 0:
        raise diagnostics.bad(
            "FIB404",
            f"a ratio is positive, but the range {interval} goes below 0",
            p.range.span,
            "use a range inside `(0, inf)`",
        )
    return interval


def _constant(expr: ast.Expr, diagnostics: Diagnostics) -> float:
    """The value of an expression that may not use params."""
    match expr:
        case ast.Number(value, span):
            return literal(value, span, diagnostics)
        case ast.Reference("inf", _):
            return math.inf
        case ast.Negative(operand, _):
            return -_constant(operand, diagnostics)
        case ast.Binary(operator, left, right, span):
            a, b = _constant(left, diagnostics), _constant(right, diagnostics)
            if operator == "/" and b == 0:
                raise diagnostics.bad("FIB302", "division by zero", span, "mend the divisor")
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0.0}[operator]
            if math.isnan(value):
                raise diagnostics.bad("FIB302", "this is no number", span, "write the number out")
            return value
        case ast.Call(function) if function.text == BY_ADVANTAGE:
            help = "declare two parameters; write `by_advantage(a, b)` where a gate gets them"
        case _:
            help = "write the number out"
    raise diagnostics.bad("FIB101", "a default or range is made of numbers only", expr.span, help)
