"""A gate as linear pieces of |x|, about which proofs are exact."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

from fibc.analysis.proofs.shape import ZERO, shape
from fibc.gates.rule import Formula, GateRule, Piece
from fibc.ir.expression import Call, Const, Expr, Input, fold, inputs_of
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import Space


def linear_pieces(rule: GateRule) -> tuple[Piece, ...]:
    """The pieces of a gate, in a budget and a steepness; none if it is made of others."""
    plain = [p for p in rule.parameters if p.space is not None]
    if len(rule.budgets) > 1 or len(plain) > 1 or any(p.space is not Space.PURE for p in plain):
        return ()
    places = {"x": None, **dict.fromkeys(rule.budgets, 0), **{p.name: 1 for p in plain}}
    if any(name not in places for name in rule.inputs):
        return ()
    slots = [places[name] for name in rule.inputs]
    pieces = []
    for case in rule.cases:
        linear = _linear(case.value, slots)
        end = (None, False) if case.condition is None else _end(case.condition, slots)
        if linear is None or end is None:
            return ()
        slope, intercept = linear
        until, inclusive = end
        pieces.append(Piece(case.regime, Formula(slope), Formula(intercept), until, inclusive))
    return tuple(pieces) if _in_order(replace(rule, pieces=tuple(pieces))) else ()


def _in_order(rule: GateRule) -> bool:
    """Whether the pieces are multiples of the budget and follow one another, for every k > 0."""
    try:
        pieces = shape(rule).pieces
    except InternalError:
        return False
    k = Interval(Fraction(0), math.inf, True, True)
    ends = [piece.until for piece in pieces if piece.until is not None]
    steps = [after - before for before, after in itertools.pairwise([ZERO, *ends])]
    return all(step.at(k).positive for step in steps)


def _formula(expr: Expr, slots: list[int | None]) -> Expr | None:
    """An expression without x, its inputs by their place in a `Formula`; else None."""
    if any(slots[index] is None for index in inputs_of(expr)) or not _rational(expr):
        return None

    def placed(index: int) -> Expr:
        place = slots[index]
        assert place is not None
        return Input(place)

    moved: Expr = fold(
        expr, lambda name: None, placed, Const, lambda f, arguments: Call(f, tuple(arguments))
    )
    return moved


def _rational(expr: Expr) -> bool:
    match expr:
        case Call(function, arguments):
            return function in "+-*/" and all(map(_rational, arguments))
        case _:
            return True


def _end(condition: Expr, slots: list[int | None]) -> tuple[Formula, bool] | None:
    """The end of a piece: `|x| < end` or `|x| <= end`."""
    match condition:
        case Call(("<" | "<=") as operator, (Call("abs", (Input(0),)), bound)):
            formula = _formula(bound, slots)
            return None if formula is None else (Formula(formula), operator == "<=")
        case _:
            return None


def _linear(expr: Expr, slots: list[int | None]) -> tuple[Expr, Expr] | None:
    """The slope and the intercept of slope * x + intercept * sign(x); None if it is not that."""
    parts = _parts(expr, slots)
    if parts is None:
        return None
    slope, intercept, rest = (simplified(part) for part in parts)
    return (slope, intercept) if rest == Const(0.0) else None


def _parts(expr: Expr, slots: list[int | None]) -> tuple[Expr, Expr, Expr] | None:
    """Factors of x, of sign(x) and of 1."""
    zero, one = Const(0.0), Const(1.0)
    plain = _formula(expr, slots)
    if plain is not None:
        return zero, zero, plain
    match expr:
        case Input(0):
            return one, zero, zero
        case Call("sign", (Input(0),)):
            return zero, one, zero
        case Call(("+" | "-") as operator, (left, right)):
            a, b = _parts(left, slots), _parts(right, slots)
            if a is None or b is None:
                return None
            x, sign, rest = (Call(operator, pair) for pair in zip(a, b, strict=True))
            return x, sign, rest
        case Call("*", (left, right)):
            for factor, other in ((left, right), (right, left)):
                number, parts = _formula(factor, slots), _parts(other, slots)
                if number is not None and parts is not None:
                    x, sign, rest = (Call("*", (number, part)) for part in parts)
                    return x, sign, rest
            return None
        case Call("/", (left, right)):
            number, parts = _formula(right, slots), _parts(left, slots)
            if number is None or parts is None:
                return None
            x, sign, rest = (Call("/", (part, number)) for part in parts)
            return x, sign, rest
        case _:
            return None
