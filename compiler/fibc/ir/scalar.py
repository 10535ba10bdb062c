"""Arithmetic over parameters: budgets, steepness. Frozen, typed, with floats and with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar

from fibc.ir.interval import Interval, hull
from fibdsl.diagnostics.errors import InternalError


@dataclass(frozen=True, slots=True)
class Const:
    value: float


@dataclass(frozen=True, slots=True)
class Param:
    name: str


@dataclass(frozen=True, slots=True)
class Count:
    """What is known of a cell of the level where the scalar stands: the number of `of` members,
    at least 1 (`size`, `tokens`), or its own `budget`."""

    of: str


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Scalar


@dataclass(frozen=True, slots=True)
class Binary:
    operator: Literal["+", "-", "*", "/"]
    left: Scalar
    right: Scalar


@dataclass(frozen=True, slots=True)
class Log:
    """The natural logarithm: a ratio in nats."""

    operand: Scalar


@dataclass(frozen=True, slots=True)
class ByAdvantage:
    """One of two quantities, by the sign of the advantage; lowered twice, once for each."""

    up: Scalar
    down: Scalar


Scalar = Const | Param | Count | Negate | Binary | Log | ByAdvantage

Value = TypeVar("Value")

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


def fold(
    scalar: Scalar,
    const: Callable[[float], Value],
    param: Callable[[str], Value],
    count: Callable[[str], Value],
    log: Callable[[Value], Value],
) -> Value:
    """Evaluates `scalar` in any number type with + - * / and unary minus."""

    def go(s: Scalar) -> Any:
        match s:
            case Const(value):
                return const(value)
            case Param(name):
                return param(name)
            case Count(of):
                return count(of)
            case Negate(operand):
                return -go(operand)
            case Binary(operator, left, right):
                return OPERATORS[operator](go(left), go(right))
            case Log(operand):
                return log(go(operand))
            case ByAdvantage():
                raise InternalError("a quantity by the sign of the advantage was not chosen")

    result: Value = go(scalar)
    return result


def evaluate(scalar: Scalar, params: Mapping[str, float], counts: Mapping[str, Any]) -> Any:
    """The value in float64; an array where `scalar` counts the members of cells."""
    return fold(
        scalar,
        lambda v: v,
        lambda name: params[name],
        lambda of: counts[of],
        lambda v: math.log(v),
    )


def bounds(scalar: Scalar, ranges: Mapping[str, Interval]) -> Interval:
    """An interval that holds every value `scalar` can take; counts are 1 or more."""
    several = variants(scalar)
    if len(several) > 1:
        return hull(bounds(one, ranges) for one in several)

    def counted(of: str) -> Interval:
        if of in ranges:
            return ranges[of].exactly()
        return Interval(Fraction(1), math.inf, high_open=True)

    return fold(
        several[0], Interval.exact, lambda name: ranges[name].exactly(), counted, Interval.log
    )


def leaning(scalar: Scalar, lean: int) -> Scalar:
    """What a scalar is for advantages >= 0 (1) or below 0 (-1)."""
    match scalar:
        case ByAdvantage(up, down):
            return leaning(up if lean > 0 else down, lean)
        case Negate(operand):
            return Negate(leaning(operand, lean))
        case Log(operand):
            return Log(leaning(operand, lean))
        case Binary(operator, left, right):
            return Binary(operator, leaning(left, lean), leaning(right, lean))
        case _:
            return scalar


def variants(scalar: Scalar) -> tuple[Scalar, ...]:
    """What a scalar is for either sign of the advantage; one if that makes no difference."""
    return tuple(dict.fromkeys((leaning(scalar, 1), leaning(scalar, -1))))


def references(scalar: Scalar) -> frozenset[str]:
    """The names of the params `scalar` uses."""
    match scalar:
        case Param(name):
            return frozenset({name})
        case Negate(operand) | Log(operand):
            return references(operand)
        case Binary(_, left, right) | ByAdvantage(left, right):
            return references(left) | references(right)
        case _:
            return frozenset()


def counted(scalar: Scalar) -> frozenset[str]:
    """The levels whose members `scalar` counts."""
    match scalar:
        case Count(of):
            return frozenset({of})
        case Negate(operand) | Log(operand):
            return counted(operand)
        case Binary(_, left, right) | ByAdvantage(left, right):
            return counted(left) | counted(right)
        case _:
            return frozenset()


def show_scalar(scalar: Scalar) -> str:
    """The arithmetic as text."""
    match scalar:
        case Const(value):
            return f"{value:.17g}"
        case Param(name) | Count(name):
            return name
        case Negate(operand):
            return f"-({show_scalar(operand)})"
        case Log(operand):
            return f"log({show_scalar(operand)})"
        case ByAdvantage(up, down):
            return f"by_advantage({show_scalar(up)}, {show_scalar(down)})"
        case Binary(operator, left, right):
            return f"({show_scalar(left)} {operator} {show_scalar(right)})"
