"""Promises: `require` and `assume` with the arguments their properties take."""

from __future__ import annotations

import math

from fibc.analysis.properties import PROPERTIES
from fibc.ir.interval import Interval
from fibc.ir.scalar import Const, Scalar
from fibc.typecheck.quantities import Quantities
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import ReportedError, nearest
from fibdsl.syntax import ast
from fibdsl.types import Space


def typed_promises(
    requires: tuple[ast.Require, ...], quantities: Quantities
) -> tuple[Promise, ...]:
    """The promises whose arguments fit their properties; findings go to the diagnostics."""
    found: dict[str, Promise] = {}
    for require in requires:
        promise = _promise(require, quantities)
        if promise is not None and str(promise) in found:
            quantities.diagnostics.add(
                "FIB103", f"`{promise}` is promised twice", require.span, "delete this"
            )
        elif promise is not None:
            found[str(promise)] = promise
    return tuple(found.values())


def _promise(require: ast.Require, quantities: Quantities) -> Promise | None:
    name, span = require.property.text, require.span
    if name not in PROPERTIES:
        help = nearest(name, PROPERTIES)
        quantities.diagnostics.add(
            "FIB503", f"unknown property `{name}`", require.property.span, help
        )
        return None
    rule = PROPERTIES[name]
    parts = {
        "at": require.at,
        "tv": require.bound,
        "over": require.over,
        "in": require.range,
    }
    given = {word for word, part in parts.items() if part is not None}
    measured = require.measure is None or require.measure.text == "tv"
    if not set(rule.takes) <= given <= {*rule.takes, *rule.may_take} or not measured:
        word = "assume" if require.assumed else "require"
        help = f"write `{word} {rule.usage}`"
        quantities.diagnostics.add("FIB504", f"`{name}` is not written like this", span, help)
        return None
    try:
        within = _range(require.range, quantities) if require.range is not None else None
        tv = _tv(require.bound, quantities) if require.bound is not None else None
    except ReportedError:
        return None
    return Promise(
        name,
        span,
        require.at.text if require.at else None,
        require.over.text if require.over else None,
        within,
        tv,
        require.assumed,
        require.of,
    )


def _range(range: ast.Range, quantities: Quantities) -> Interval:
    ends = []
    for end in (range.low, range.high):
        match end:
            case ast.Number(value, _):
                ends.append(value)
            case ast.Reference("inf", _):
                ends.append(math.inf)
            case _:
                raise quantities.diagnostics.bad(
                    "FIB504",
                    "a range to prove is made of numbers only",
                    range.span,
                    "write the numbers out",
                )
    interval = Interval(ends[0], ends[1], range.low_open, range.high_open)
    if interval.empty:
        help = "write the smaller end first"
        raise quantities.diagnostics.bad("FIB404", f"no number is in {interval}", range.span, help)
    return interval.exactly()


def _tv(expr: ast.Expr, quantities: Quantities) -> Scalar:
    scalar, space = quantities.expr(expr, what="bound")
    if space not in (None, Space.DEVIATION):
        raise quantities.diagnostics.bad(
            "FIB301",
            f"a total variation is a deviation, and this is a {space}",
            expr.span,
            "give it a number or a `: deviation` parameter",
        )
    quantities.positive(scalar, expr.span, "bound")
    if scalar == Const(math.inf):
        help = "write a number, or delete the promise"
        raise quantities.diagnostics.bad(
            "FIB504", "an infinite bound promises nothing", expr.span, help
        )
    return scalar
