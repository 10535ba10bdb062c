"""Expressions: functions of the values that an operation is given, cell by cell.

What gates, bypasses, weights, surrogates and penalties say, with names resolved: leaves are
numbers, parameters, and the inputs of the operation by their place. `fibc.ir.functions` has what
each function means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fibc.ir import scalar as arithmetic
from fibc.ir.scalar import Const, Param, Scalar


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the operation, by its place."""

    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `fibc.ir.functions`, operators included."""

    function: str
    arguments: tuple[Expr, ...]


Expr = Const | Param | Input | Call

__all__ = ["Call", "Const", "Expr", "Input", "Param"]


def fold(
    expr: Expr,
    param: Callable[[str], Any],
    given: Callable[[int], Any],
    const: Callable[[float], Any],
    call: Callable[[str, list[Any]], Any],
) -> Any:
    """Evaluates an expression in whatever the functions make of its leaves."""
    match expr:
        case Const(value):
            return const(value)
        case Param(name):
            return param(name)
        case Input(index):
            return given(index)
        case Call(function, arguments):
            return call(function, [fold(a, param, given, const, call) for a in arguments])


def of_scalar(scalar: Scalar, count: Callable[[str], Expr]) -> Expr:
    """Arithmetic on parameters as an expression; `count` says what counts of members are."""
    match scalar:
        case Const() | Param():
            return scalar
        case arithmetic.Count(of):
            return count(of)
        case arithmetic.Negate(operand):
            return Call("-", (Const(0.0), of_scalar(operand, count)))
        case arithmetic.Binary(operator, left, right):
            return Call(operator, (of_scalar(left, count), of_scalar(right, count)))
        case arithmetic.Log(operand):
            return Call("log", (of_scalar(operand, count),))
        case _:
            raise AssertionError(scalar)


def substituted(expr: Expr, inputs: Sequence[Expr]) -> Expr:
    """The expression with other expressions in place of its inputs."""
    match expr:
        case Input(index):
            return inputs[index]
        case Call(function, arguments):
            return Call(function, tuple(substituted(a, inputs) for a in arguments))
        case _:
            return expr


def size(expr: Expr) -> int:
    """How many functions, numbers and names an expression is made of, written out."""
    known: dict[int, int] = {}

    def of(e: Expr) -> int:
        # By identity: what stands in several places is often one object.
        if id(e) not in known:
            known[id(e)] = 1 + sum(map(of, e.arguments)) if isinstance(e, Call) else 1
        return known[id(e)]

    return of(expr)


def replaced(expr: Expr, part: Expr, other: Expr) -> Expr:
    """The expression with another one wherever a part of it stands."""
    if expr == part:
        return other
    match expr:
        case Call(function, arguments):
            return Call(function, tuple(replaced(a, part, other) for a in arguments))
        case _:
            return expr


def parts(expr: Expr) -> Iterator[Expr]:
    """The expression and all that stands in it, from the outside in."""
    yield expr
    if isinstance(expr, Call):
        for argument in expr.arguments:
            yield from parts(argument)


def inputs_of(expr: Expr) -> frozenset[int]:
    """The places of the inputs that an expression uses."""
    match expr:
        case Input(index):
            return frozenset({index})
        case Call(_, arguments):
            return frozenset().union(*map(inputs_of, arguments))
        case _:
            return frozenset()


def params_of(expr: Expr) -> frozenset[str]:
    """The names of the parameters that an expression uses."""
    match expr:
        case Param(name):
            return frozenset({name})
        case Call(_, arguments):
            return frozenset().union(*map(params_of, arguments))
        case _:
            return frozenset()


_OPERATORS = {"+": 1, "-": 1, "*": 2, "/": 2, "<": 0, "<=": 0, "and": -1, "or": -2}


def show(expr: Expr, names: Sequence[str]) -> str:
    """An expression as text, its inputs by these names."""

    def go(e: Expr, above: int) -> str:
        match e:
            case Const(value):
                return f"{value:g}"
            case Param(name):
                return name
            case Input(index):
                return names[index]
            case Call("where", (condition, yes, no)):
                return f"({go(yes, 0)} if {go(condition, 0)} else {go(no, 0)})"
            case Call(function, arguments) if function in _OPERATORS:
                own = _OPERATORS[function]
                left, right = go(arguments[0], own), go(arguments[1], own + 1)
                text = f"{left} {function} {right}"
                return f"({text})" if own < above else text
            case Call(function, arguments):
                return f"{function}({', '.join(go(a, 0) for a in arguments)})"

    return go(expr, 0)
