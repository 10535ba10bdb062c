"""Quantities: arithmetic on parameters, their spaces, and what is certainly positive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from fibc.ir.interval import Interval
from fibc.ir.scalar import Binary, ByAdvantage, Const, Count, Negate, Param, Scalar, bounds
from fibc.resolved import ResolvedParam
from fibc.units import unit_of
from fibdsl.builtins import CELL_COUNTS, FUNCTIONS, GATE_WORDS, REDUCTIONS, TOKEN_WORDS
from fibdsl.diagnostics.diagnostic import Diagnostics, ReportedError, collected, nearest
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import Space

BY_ADVANTAGE = "by_advantage"
NOTHING: Mapping[str, Space] = MappingProxyType({})

_USUAL = {"divisor": "[1, inf)", "steepness": "[1, 100]"}
"""A range that what is positive usually has."""

_NO_COUNTS = {
    "divisor": "`mean over ...` divides by a count",
    "bound": "write numbers and parameters",
}


@dataclass
class Quantities:
    """The parameters of one objective, and the arithmetic on them.

    Attributes:
        ranges: of each parameter that has a sound one, and of the budgets of cells.
        silent: parameters of which what is wrong was said.
        lets: names for values at the token.
        said: unknown names that were reported; once is enough.
    """

    declared: Mapping[str, ResolvedParam]
    ranges: dict[str, Interval]
    silent: frozenset[str]
    lets: frozenset[str]
    diagnostics: Diagnostics
    said: set[str] = field(default_factory=set)

    def expr(
        self, expr: ast.Expr, words: Mapping[str, Space] = NOTHING, what: str = "budget"
    ) -> tuple[Scalar, Space | None]:
        """An expression and its space; None for a bare number, which takes the space it meets.

        Args:
            words: what is known of a cell besides parameters (`size`, `tokens`, `budget`);
                `by_advantage` says that the quantity may depend on the sign of the advantage.
            what: what it is, for messages.
        """
        match expr:
            case ast.Number(value, span):
                return Const(literal(value, span, self.diagnostics)), None
            case ast.Reference("inf", _):
                return Const(math.inf), None
            case ast.Reference(name, _) if name in words and name != BY_ADVANTAGE:
                return Count(name), words[name]
            case ast.Reference(name, _) if name in self.silent:
                raise ReportedError
            case ast.Reference(name, span) if name in self.declared:
                return Param(name), self.declared[name].space
            case ast.Reference(name, span):
                self.unknown(name, span, words, what)
                raise ReportedError
            case ast.Negative(operand, _):
                scalar, space = self.expr(operand, words, what)
                return Negate(scalar), space
            case ast.Call(function) if function.text == BY_ADVANTAGE:
                return self.by_advantage(expr, words, what)
            case ast.Call():
                self.no_function(expr, words, what)
                raise ReportedError
            case ast.Binary():
                return self.binary(expr, words, what)

    def unknown(self, name: str, span: Span, words: Mapping[str, Space], what: str) -> None:
        """Reports a name that stands for nothing here."""
        if name in CELL_COUNTS:
            self.diagnostics.add(
                "FIB101",
                f"`{name}` counts the members of a cell; a {what} does not depend on it",
                span,
                _NO_COUNTS.get(
                    what, "only `k = ...`, or another plain number of a gate, may use it"
                ),
            )
        elif name == "budget":
            self.diagnostics.add(
                "FIB101",
                "there is no `budget` here",
                span,
                "it is what `budget per cell { NAME: 0.1, else: 0.05 }` says at the same level, "
                "for the budgets of its gate",
            )
        elif name == "advantage" and BY_ADVANTAGE in words:
            self.diagnostics.add(
                "FIB209",
                f"a {what} may depend on the sign of the advantage only",
                span,
                "write `by_advantage(a, b)`: a where the advantage is >= 0, b where it is < 0",
            )
        elif name in TOKEN_WORDS or name in self.lets:
            self.diagnostics.add(
                "FIB209",
                f"`{name}` is known of a token, and a {what} is the same for all of them",
                span,
                "the body of a gate at `token` may look at it"
                if name in GATE_WORDS and BY_ADVANTAGE in words
                else "write numbers and parameters",
            )
        elif name == BY_ADVANTAGE and name in words:
            help = "it is a function: write `by_advantage(a, b)`"
            self.diagnostics.add("FIB101", f"unknown name `{name}`", span, help)
        elif name not in self.said:
            self.said.add(name)
            known = [*self.declared, *(w for w in words if w != BY_ADVANTAGE)]
            self.diagnostics.add("FIB101", f"unknown name `{name}`", span, nearest(name, known))

    def no_function(self, call: ast.Call, words: Mapping[str, Space], what: str) -> None:
        """Reports a call of what is no function here."""
        name, span = call.function.text, call.function.span
        may = "and `by_advantage(a, b)`" if BY_ADVANTAGE in words else "only"
        if name == "ratio":
            self.diagnostics.add(
                "FIB303",
                "`ratio(...)` is a bound, not a number to calculate with",
                call.span,
                "let it be the whole bound, and calculate inside: `+ratio(1 + a)`",
            )
        elif name in FUNCTIONS or name in REDUCTIONS:
            bars = span == call.span
            self.diagnostics.add(
                "FIB209",
                f"`{'|...|' if bars else name}` cannot stand here",
                span,
                f"a {what} is made of numbers, parameters, `+ - * /` {may}",
            )
        else:
            known = ["ratio", *([BY_ADVANTAGE] if BY_ADVANTAGE in words else [])]
            self.diagnostics.add("FIB101", f"unknown function `{name}`", span, nearest(name, known))

    def each(
        self, exprs: Sequence[ast.Expr], words: Mapping[str, Space], what: str
    ) -> list[tuple[Scalar, Space | None]]:
        """All of several expressions, so that all that is wrong in them is said."""
        return collected([partial(self.expr, expr, words, what) for expr in exprs])

    def by_advantage(
        self, call: ast.Call, words: Mapping[str, Space], what: str
    ) -> tuple[Scalar, Space | None]:
        """`by_advantage(a, b)`: a where the advantage is >= 0, else b."""
        if BY_ADVANTAGE not in words:
            raise self.diagnostics.bad(
                "FIB209",
                "there is no advantage here",
                call.span,
                "only what a gate is given may depend on it",
            )
        if len(call.arguments) != 2 or call.over is not None:
            raise self.diagnostics.bad(
                "FIB302",
                "`by_advantage` takes two quantities",
                call.span,
                "write `by_advantage(a, b)`: a where the advantage is >= 0, b where it is < 0",
            )
        (up, a), (down, b) = self.each(call.arguments, words, what)
        if a is not None and b is not None and a is not b:
            raise self.diagnostics.bad(
                "FIB302",
                f"`by_advantage` puts a {unit_of(a)} and a {unit_of(b)} together",
                call.arguments[1].span,
                "give both in one space",
            )
        return ByAdvantage(up, down), a or b

    def binary(
        self, expr: ast.Binary, words: Mapping[str, Space], what: str
    ) -> tuple[Scalar, Space | None]:
        (left, a), (right, b) = self.each((expr.left, expr.right), words, what)
        scalar = Binary(expr.operator, left, right)
        if expr.operator == "/" and right == Const(0.0):
            raise self.diagnostics.bad("FIB302", "division by zero", expr.span, "mend the divisor")
        factor = (None, Space.PURE)
        if expr.operator in "+-":
            if a is None or b is None or a is b:
                return scalar, a or b
        elif expr.operator == "*":
            if a in factor and b in factor:
                # A number times a factor is still a number of whatever space it meets.
                return scalar, None if None in (a, b) else Space.PURE
            if a in factor or b in factor:
                return scalar, b if a in factor else a
        elif b in factor:
            return scalar, a
        elif a is b:
            return scalar, Space.PURE
        raise self.diagnostics.bad(
            "FIB302",
            f"{a or 'number'} {expr.operator} {b or 'number'} has no meaning",
            expr.span,
            "quantities add within one space; only pure numbers multiply and divide others",
        )

    def positive(self, scalar: Scalar, span: Span, what: str) -> None:
        interval = bounds(scalar, self.ranges)
        if interval.positive:
            return
        if interval.high <= 0:
            help = f"a {what} is a magnitude: a number above 0, without its sign"
            if what == "divisor":
                help = "a divisor is a number above 0"
        elif interval == Interval.everything():
            help = f"give its parameters ranges, as in `in {_USUAL.get(what, '(0, 1)')}`"
        else:
            help = f"it can be anything in {interval}; narrow the ranges of its parameters"
        raise self.diagnostics.bad("FIB402", f"this {what} is not certainly positive", span, help)


def literal(value: float, span: Span, diagnostics: Diagnostics) -> float:
    """A number as it is written."""
    if math.isinf(value):
        raise diagnostics.bad("FIB302", "no float is as large as this number", span, "write `inf`")
    return value
