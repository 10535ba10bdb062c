"""Expressions with their names and units: what gate bodies and the statements at the token say.

A name stands for an input of the expression, in the order they are first used. Units are spaces
with a power, so that x * x / C is a deviation again where x and C are; a bare number takes the unit
it meets, as everywhere in the language.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fibc.ir.expression import Call, Const, Expr, Input, Param
from fibc.quantities import BadExpressionError
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.diagnostics.errors import InternalError
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import Space


@dataclass(frozen=True, slots=True)
class Unit:
    """A space and its power; pure numbers have the power 0.

    Attributes:
        space: one of `Space`, or "signal" in a gate for signals of any space.
    """

    space: str
    power: int = 1

    def __str__(self) -> str:
        if self.power == 0:
            return "pure number"
        what = "value of the signal's space" if self.space == "signal" else self.space
        return what if self.power == 1 else f"{what} to the power {self.power}"


PURE = Unit("pure", 0)
LOG, RATIO, DEVIATION = Unit("log"), Unit("ratio"), Unit("deviation")


def unit_of(space: Space) -> Unit:
    return PURE if space is Space.PURE else Unit(space.value)


Typed = tuple[Expr, Unit | None]

# Functions of one or more arguments in one unit, which is that of the result.
_KEEPING = {"min": 2, "max": 2, "clip": 3, "abs": 1, "stopgrad": 1, "truncate": 2, "mask": 3}
_OTHERS = {"sign": 1, "exp": 1, "log": 1, "sigmoid": 1, "tanh": 1, "sqrt": 1}
_ESTIMATORS = {"k1": 1, "k2": 1, "k3": 1}
FUNCTIONS = {**_KEEPING, **_OTHERS, **_ESTIMATORS, "by_advantage": 2}
"""What an expression may call, and with how many arguments."""
AGGREGATES = ("mean", "sum")

SIGN_ONLY = "advantage"

_EXPONENTIALS = {"ratio": "log_ratio", "prob": "logp", "old_prob": "old_logp"}


@dataclass
class Expressions:
    """Types expressions in one environment.

    Attributes:
        names: the unit of each name that may stand here.
        params: the unit of each parameter of the objective that may.
        sign_only: whether only the sign of the advantage may be looked at.
        aggregate: makes the value of `mean(e over LEVEL)`, or None where none may stand.
        elsewhere: names that mean something in another place, and what to do about it.
        lets: names for expressions.
        free: whether quantities of different spaces multiply, as terms of a loss do.
        inputs: the names that were used, in the order of the inputs.
        used: the lets that were used.
    """

    diagnostics: Diagnostics
    names: Mapping[str, Unit]
    params: Mapping[str, Unit] = field(default_factory=dict)
    sign_only: bool = False
    aggregate: Callable[[ast.Call, Expressions], Typed] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    lets: Mapping[str, Typed] = field(default_factory=dict)
    free: bool = False
    inputs: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def bad(self, code: str, message: str, span: Span, help: str) -> BadExpressionError:
        self.diagnostics.add(code, message, span, help)
        return BadExpressionError()

    def input(self, name: str) -> Expr:
        if name not in self.inputs:
            self.inputs.append(name)
        return Input(self.inputs.index(name))

    # --- expressions ----------------------------------------------------------------------------

    def expr(self, expr: ast.Expr) -> Typed:
        """The expression and its unit; None for a bare number."""
        match expr:
            case ast.Number(value, _):
                return Const(value), None
            case ast.Reference(name, span):
                return self.reference(name, span)
            case ast.Negative(operand, _):
                inner, unit = self.expr(operand)
                return Call("*", (Const(-1.0), inner)), unit
            case ast.Binary():
                return self.binary(expr)
            case ast.Call():
                return self.call(expr)
        raise AssertionError(expr)

    def reference(self, name: str, span: Span) -> Typed:
        if name in self.names:
            if name == SIGN_ONLY and self.sign_only:
                raise self.bad(
                    "FIB209",
                    "a gate sees the sign of the advantage only",
                    span,
                    "compare it with 0, or write `sign(advantage)`",
                )
            if name in _EXPONENTIALS:
                return Call("exp", (self.input(_EXPONENTIALS[name]),)), self.names[name]
            return self.input(name), self.names[name]
        if name == "inf":
            return Const(math.inf), None
        if name in self.lets:
            self.used.add(name)
            return self.lets[name]
        if name in self.params:
            return Param(name), self.params[name]
        if name in self.elsewhere:
            raise self.bad("FIB209", f"`{name}` cannot stand here", span, self.elsewhere[name])
        known = [*self.names, *self.params, *self.lets]
        raise self.bad("FIB101", f"unknown name `{name}`", span, nearest(name, known))

    def binary(self, expr: ast.Binary) -> Typed:
        (left, a), (right, b) = self.expr(expr.left), self.expr(expr.right)
        value = Call(expr.operator, (left, right))
        if expr.operator in "+-":
            if (a, right) == (RATIO, Const(1.0)) and expr.operator == "-":
                return value, DEVIATION
            if (a, right) == (DEVIATION, Const(1.0)) or (left, b) == (Const(1.0), DEVIATION):
                return value, RATIO if expr.operator == "+" else DEVIATION
            return value, self.same(f"`{expr.operator}`", (a, b), expr.span)
        if right == Const(0.0) and expr.operator == "/":
            raise self.bad("FIB302", "division by zero", expr.span, "mend the divisor")
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
            if self.free:
                return value, None
            raise self.bad(
                "FIB302",
                f"{a} {expr.operator} {b} has no meaning",
                expr.span,
                "convert one: `exp` makes a ratio of a log-ratio, `log` the other way round, "
                "`- 1` a deviation of a ratio",
            )
        space = a.space if a.power else b.space
        return value, Unit(space, power) if power else PURE

    def same(self, what: str, units: tuple[Unit | None, ...], span: Span) -> Unit | None:
        """The one unit of several, bare numbers aside."""
        found = list(dict.fromkeys(unit for unit in units if unit is not None))
        if len(found) > 1:
            raise self.bad(
                "FIB302",
                f"{what} puts a {found[0]} and a {found[1]} together",
                span,
                "quantities add and compare within one space; convert one with `exp`, `log`, "
                "or `- 1`",
            )
        return found[0] if found else None

    def call(self, call: ast.Call) -> Typed:
        name, span = call.function.text, call.span
        if name in AGGREGATES and self.aggregate is not None:
            return self.aggregate(call, self)
        if name not in FUNCTIONS:
            known = [*FUNCTIONS, *(AGGREGATES if self.aggregate is not None else ())]
            if name in AGGREGATES:
                help = "a gate sees one cell; aggregate what it sees with `aggregate` at its level"
            else:
                help = nearest(name, known)
            raise self.bad("FIB101", f"unknown function `{name}`", call.function.span, help)
        if call.over is not None:
            raise self.bad("FIB302", f"`{name}` takes no `over`", call.over.span, "delete it")
        if len(call.arguments) != FUNCTIONS[name]:
            wanted = FUNCTIONS[name]
            raise self.bad(
                "FIB302",
                f"`{name}` takes {wanted} argument{'s' if wanted > 1 else ''}, "
                f"and here are {len(call.arguments)}",
                span,
                f"write `{name}({', '.join('abc'[:wanted])})`",
            )
        if name == "sign" and self.is_advantage(call.arguments[0]):
            return Call("sign", (self.input(SIGN_ONLY),)), None
        typed = [self.expr(argument) for argument in call.arguments]
        values, units = [t[0] for t in typed], tuple(t[1] for t in typed)
        if name == "by_advantage":
            unit = self.same("`by_advantage`", units, span)
            rising = Call("<=", (Const(0.0), self.advantage(call)))
            return Call("where", (rising, *values)), unit
        if name in _KEEPING:
            return _kept(name, values), self.same(f"`{name}`", units, span)
        return self.converted(name, values[0], units[0], call)

    def advantage(self, call: ast.Call) -> Expr:
        if SIGN_ONLY not in self.names:
            raise self.bad(
                "FIB209", "there is no advantage here", call.span, "write the value itself"
            )
        return self.input(SIGN_ONLY)

    def is_advantage(self, expr: ast.Expr) -> bool:
        match expr:
            case ast.Reference(name, _):
                return name == SIGN_ONLY and name in self.names
            case _:
                return False

    def converted(self, name: str, x: Expr, unit: Unit | None, call: ast.Call) -> Typed:
        """A function whose result has another unit than its argument."""

        def wrong(wanted: str, help: str) -> BadExpressionError:
            return self.bad("FIB302", f"`{name}` of a {unit}; it takes {wanted}", call.span, help)

        if name in ("exp", *_ESTIMATORS):
            if unit not in (None, PURE, LOG):
                raise wrong("a log-ratio or a number", "give it `log_ratio`, or convert by `log`")
            if name == "exp":
                # Of a log-ratio it is a ratio, which fits where a number does.
                return Call("exp", (x,)), None
            return _estimated(name, x), LOG if name == "k1" else None
        if name == "log":
            if unit not in (None, PURE, RATIO):
                raise wrong("a ratio or a number", "it is one already, or take `exp` of it first")
            return Call("log", (x,)), None if unit is None else LOG
        if name == "sqrt":
            if unit is not None and unit.power % 2:
                raise wrong("a pure number or a square", "divide by a quantity of the same space")
            root = None if unit is None else Unit(unit.space, unit.power // 2)
            return Call("sqrt", (x,)), root
        # The sign, the sigmoid and the hyperbolic tangent of anything are bare numbers.
        return Call(name, (x,)), None

    # --- conditions and cases -------------------------------------------------------------------

    def condition(self, condition: ast.Condition) -> Expr:
        match condition:
            case ast.Logical(operator, left, right, _):
                return Call(operator, (self.condition(left), self.condition(right)))
            case ast.Comparison(operator, left, right, span):
                if self.sign_only and (self.is_advantage(left) or self.is_advantage(right)):
                    other = right if self.is_advantage(left) else left
                    if not (isinstance(other, ast.Number) and other.value == 0):
                        raise self.bad(
                            "FIB209",
                            "a gate sees the sign of the advantage only",
                            span,
                            "compare it with 0",
                        )
                    a = self.input(SIGN_ONLY)
                    pair = (a, Const(0.0)) if self.is_advantage(left) else (Const(0.0), a)
                    return _compared(operator, *pair)
                (a, unit_a), (b, unit_b) = self.expr(left), self.expr(right)
                self.same(f"`{operator}`", (unit_a, unit_b), span)
                return _compared(operator, a, b)
        raise AssertionError(condition)

    def body(self, body: ast.Body) -> Typed:
        """An expression, or cases as one."""
        if not isinstance(body, ast.Cases):
            return self.expr(body)
        cases = self.cases(body)
        unit = self.same("this body", tuple(unit for *_, unit in cases), body.span)
        *conditional, (_, value, _, _) = cases
        for _, case, condition, _ in reversed(conditional):
            assert condition is not None
            value = Call("where", (condition, case, value))
        return value, unit

    def cases(self, body: ast.Cases) -> list[tuple[str | None, Expr, Expr | None, Unit | None]]:
        """Label, value, condition and unit of each case; the last one is for all that is left."""
        found = []
        for index, case in enumerate(body.cases):
            last = index == len(body.cases) - 1
            if (case.condition is None) != last:
                raise InternalError("the last case, and no other, is for all that is left")
            condition = None if case.condition is None else self.condition(case.condition)
            value, unit = self.expr(case.value)
            found.append((case.label.text if case.label else None, value, condition, unit))
        return found


def _compared(operator: str, a: Expr, b: Expr) -> Expr:
    # `>` is `<` the other way round: two comparisons are enough.
    if operator in (">", ">="):
        return Call(operator.replace(">", "<"), (b, a))
    return Call(operator, (a, b))


def _kept(name: str, values: list[Expr]) -> Expr:
    match name:
        case "truncate":
            return Call("min", tuple(values))
        case "mask":
            w, low, high = values
            inside = Call("and", (Call("<=", (low, w)), Call("<=", (w, high))))
            return Call("where", (inside, w, Const(0.0)))
        case _:
            return Call(name, tuple(values))


def _estimated(name: str, d: Expr) -> Expr:
    """Estimators of a KL divergence from one token: k1, k2, k3 of a log-ratio."""
    match name:
        case "k1":
            return Call("*", (Const(-1.0), d))
        case "k2":
            return Call("*", (Const(0.5), Call("*", (d, d))))
        case _:
            return Call("-", (Call("expm1", (d,)), d))
