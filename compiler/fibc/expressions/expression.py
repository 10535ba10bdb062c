"""Expressions: numbers, names, arithmetic and functions of these, each with its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from fibc.expressions.functions import applied, check_name, takes_bounds
from fibc.expressions.scope import ADVANTAGE, Scope, Typed
from fibc.ir.expression import Call, Const
from fibc.units import DEVIATION, PURE, RATIO, Unit, conversion, same
from fibdsl.builtins import REDUCTIONS
from fibdsl.diagnostics.diagnostic import collected
from fibdsl.syntax import ast


def typed(expr: ast.Expr, scope: Scope, bound: bool = False) -> Typed:
    """An expression and its unit.

    Args:
        bound: whether it may be `inf`, as the bound of something.
    """
    match expr:
        case ast.Number(value, span):
            if math.isinf(value):
                raise scope.diagnostics.bad(
                    "FIB302", "no float is as large as this number", span, "write a smaller one"
                )
            return Const(value), None
        case ast.Reference("inf", span):
            if not bound:
                raise scope.diagnostics.bad(
                    "FIB302",
                    "`inf` is a bound, not a number to calculate with",
                    span,
                    "give it to `min`, `max`, `clip`, `truncate` or `mask`, or write a number",
                )
            return Const(math.inf), None
        case ast.Reference(name, span):
            return scope.reference(name, span)
        case ast.Negative(operand, _):
            inner, unit = typed(operand, scope, bound)
            return Call("*", (Const(-1.0), inner)), unit
        case ast.Binary():
            return _binary(expr, scope)
        case ast.Call():
            return _call(expr, scope, bound)
    raise AssertionError(expr)


def each(exprs: Sequence[ast.Expr], scope: Scope, bound: bool = False) -> list[Typed]:
    """All of several expressions, so that all that is wrong in them is said."""
    return collected([partial(typed, e, scope, bound) for e in exprs])


def _binary(expr: ast.Binary, scope: Scope) -> Typed:
    (left, a), (right, b) = each((expr.left, expr.right), scope)
    value = Call(expr.operator, (left, right))
    if expr.operator in "+-":
        plus = expr.operator == "+"
        if (a, right) == (RATIO, Const(1.0)) and not plus:
            return value, DEVIATION
        if (a, right) == (DEVIATION, Const(1.0)):
            return value, RATIO if plus else DEVIATION
        if (left, b) == (Const(1.0), DEVIATION):
            return value, RATIO
        if (a, b) == (RATIO, DEVIATION) or ((a, b) == (DEVIATION, RATIO) and plus):
            return value, RATIO
        return value, same(f"`{expr.operator}`", (a, b), scope.diagnostics, expr.span)
    if expr.operator == "/":
        scope.judge("/", right, expr.right)
        if right == Const(0.0):
            raise scope.diagnostics.bad("FIB302", "division by zero", expr.span, "mend the divisor")
    if a is None or b is None:
        unit = b if a is None else a
        if expr.operator == "/" and a is None and b is not None and b != RATIO:
            return value, Unit(b.space, -b.power) if b.power else None
        # A number times a factor is still a number of whatever unit it meets.
        return value, None if unit == PURE else unit
    if a == b == RATIO:
        return value, RATIO  # of ratios products and quotients are ratios
    power = a.power + b.power if expr.operator == "*" else a.power - b.power
    if a.power and b.power and a.space != b.space:
        if scope.free:
            return value, None
        raise scope.diagnostics.bad(
            "FIB302",
            f"{a} {expr.operator} {b} has no meaning",
            expr.span,
            f"convert one: {conversion(b, a)}",
        )
    space = a.space if a.power else b.space
    return value, Unit(space, power) if power else PURE


def _call(call: ast.Call, scope: Scope, bound: bool) -> Typed:
    name = call.function.text
    if name in REDUCTIONS and scope.aggregate is not None:
        return scope.aggregate(call)
    check_name(call, scope)
    if name == "sign" and len(call.arguments) == 1 and scope.is_advantage(call.arguments[0]):
        return Call("sign", (scope.input(ADVANTAGE),)), None
    return applied(call, each(call.arguments, scope, takes_bounds(name, bound)), scope)
