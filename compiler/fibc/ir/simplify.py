"""Expressions made simpler: arithmetic on numbers is done, choices that are decided are made."""

from __future__ import annotations

import math

from fibc.ir.expression import Call, Const, Expr
from fibc.ir.functions import FUNCTIONS, NUMBERS


def simplified(expr: Expr) -> Expr:
    """The same expression, simpler. What would not be a finite number stays as it is written."""
    match expr:
        case Call(function, arguments):
            return _call(function, tuple(map(simplified, arguments)))
        case _:
            return expr


def _call(function: str, arguments: tuple[Expr, ...]) -> Expr:
    zero, one = Const(0.0), Const(1.0)
    match function, arguments:
        case "where", (Const(decided), yes, no):
            return yes if decided else no
        case "where", (_, yes, no) if yes == no:
            return yes
        case "and", (Const(decided), other) | (other, Const(decided)):
            return other if decided else zero
        case "or", (Const(decided), other) | (other, Const(decided)):
            return one if decided else other
        case "+", (a, b) if zero in (a, b):
            return b if a == zero else a
        case "-", (a, Const(0.0)):
            return a
        case "*", (a, b) if one in (a, b):
            return b if a == one else a
        case "*", (a, b) if zero in (a, b):
            return zero
        case "/", (a, Const(1.0)):
            return a
        case "/", (Const(0.0), Const(b)) if b:
            return zero
        case "stopgrad", (Const() as a,):
            return a
    if all(isinstance(a, Const) for a in arguments):
        values = [a.value for a in arguments if isinstance(a, Const)]
        if function != "/" or values[1]:
            try:
                found = float(FUNCTIONS[function].value(NUMBERS, *values))
            except (ValueError, OverflowError):
                found = math.nan  # no number: reported where the function is judged
            if math.isfinite(found):
                return Const(found)
    return Call(function, arguments)
