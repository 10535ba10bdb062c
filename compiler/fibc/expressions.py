"""Expressions with their names and units: what gate bodies and the statements at the token say.

A name stands for an input of the expression, in the order they are first used. Units are spaces
with a power (`fibc.units`); a bare number takes the unit it meets, as everywhere in the language.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fibc.ir.expression import Call, Const, Expr, Input, Param, inputs_of, show
from fibc.ir.simplify import simplified
from fibc.units import DEVIATION, LOG, PURE, RATIO, Unit, conversion
from fibdsl.builtins import ALIASES, FUNCTIONS, REDUCTIONS
from fibdsl.diagnostics.diagnostic import Diagnostics, ReportedError, closest, collected, nearest
from fibdsl.diagnostics.errors import InternalError
from fibdsl.source import Span
from fibdsl.syntax import ast

Typed = tuple[Expr, Unit | None]
"""An expression and its unit; None for a bare number."""

# Functions whose result has the one unit of their arguments.
_KEEPING = frozenset({"min", "max", "clip", "abs", "stopgrad", "truncate", "mask"})
_BOUNDING = frozenset({"min", "max", "clip", "truncate", "mask"})
_ESTIMATORS = frozenset({"k1", "k2", "k3"})

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
        gates: names of gates, none of which is a function.
        lets: names for expressions.
        hidden: inputs that may not be reached through a let.
        silent: names of which what is wrong was said already.
        unknown: what else there is to say of a name that is not known.
        free: whether quantities of different spaces multiply, as terms of a loss do.
        inputs: the names that were used, in the order of the inputs.
        written: where each name first stands, as it is written.
        places: where a division, a logarithm or a root stands, by what it is of: its argument.
        said: unknown names that were reported; once is enough.
    """

    diagnostics: Diagnostics
    names: Mapping[str, Unit]
    params: Mapping[str, Unit] = field(default_factory=dict)
    sign_only: bool = False
    aggregate: Callable[[ast.Call, Expressions], Typed] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    gates: Collection[str] = ()
    lets: Mapping[str, Typed] = field(default_factory=dict)
    hidden: Collection[str] = ()
    silent: Collection[str] = ()
    unknown: str | None = None
    free: bool = False
    inputs: list[str] = field(default_factory=list)
    written: dict[str, Span] = field(default_factory=dict)
    places: dict[tuple[str, str], Span] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def input(self, name: str) -> Expr:
        if name not in self.inputs:
            self.inputs.append(name)
        return Input(self.inputs.index(name))

    # --- expressions ----------------------------------------------------------------------------

    def expr(self, expr: ast.Expr, bound: bool = False) -> Typed:
        """The expression and its unit.

        Args:
            bound: whether it may be `inf`, as the bound of something.
        """
        match expr:
            case ast.Number(value, span):
                if math.isinf(value):
                    raise self.diagnostics.bad(
                        "FIB302", "no float is as large as this number", span, "write a smaller one"
                    )
                return Const(value), None
            case ast.Reference("inf", span):
                if not bound:
                    raise self.diagnostics.bad(
                        "FIB302",
                        "`inf` is a bound, not a number to calculate with",
                        span,
                        "give it to `min`, `max`, `clip`, `truncate` or `mask`, or write a number",
                    )
                return Const(math.inf), None
            case ast.Reference(name, span):
                return self.reference(name, span)
            case ast.Negative(operand, _):
                inner, unit = self.expr(operand, bound)
                return Call("*", (Const(-1.0), inner)), unit
            case ast.Binary():
                return self.binary(expr)
            case ast.Call():
                return self.call(expr, bound)
        raise AssertionError(expr)

    def each(self, exprs: Sequence[ast.Expr], bound: bool = False) -> list[Typed]:
        """All of several expressions, so that all that is wrong in them is said."""
        return collected([partial(self.expr, e, bound) for e in exprs])

    def reference(self, name: str, span: Span) -> Typed:
        if name in self.names:
            self.written.setdefault(name, span)
            if name == SIGN_ONLY and self.sign_only:
                raise self.diagnostics.bad(
                    "FIB209",
                    "a gate sees the sign of the advantage only",
                    span,
                    "compare it with 0, or write `sign(advantage)`",
                )
            if name in _EXPONENTIALS:
                return Call("exp", (self.input(_EXPONENTIALS[name]),)), self.names[name]
            return self.input(name), self.names[name]
        if name in self.lets:
            return self.let(name, span)
        if name in self.params:
            return Param(name), self.params[name]
        if name in self.silent:
            raise ReportedError
        if name in self.elsewhere:
            raise self.diagnostics.bad(
                "FIB209", f"`{name}` cannot stand here", span, self.elsewhere[name]
            )
        if name in self.said:
            raise ReportedError
        self.said.add(name)
        known = [*self.names, *self.params, *self.lets]
        close = ALIASES.get(name, closest(name, known))
        help = self.unknown or nearest(name, known)
        if name in FUNCTIONS:
            help = f"it is a function: write `{name}({FUNCTIONS[name]})`"
        if close in known:
            help = f"did you mean `{close}`?"
        raise self.diagnostics.bad("FIB101", f"unknown name `{name}`", span, help)

    def let(self, name: str, span: Span) -> Typed:
        value = self.lets[name]
        for index in sorted(inputs_of(value[0])):
            if self.inputs[index] in self.hidden:
                raise self.diagnostics.bad(
                    "FIB209",
                    f"`{name}` cannot stand here, as it hangs on `gated_ratio`",
                    span,
                    self.elsewhere["gated_ratio"],
                )
        return value

    def binary(self, expr: ast.Binary) -> Typed:
        (left, a), (right, b) = self.each((expr.left, expr.right))
        value = Call(expr.operator, (left, right))
        if expr.operator in "+-":
            plus = expr.operator == "+"
            if (a, right) == (RATIO, Const(1.0)) and not plus:
                return value, DEVIATION
            if (a, right) == (DEVIATION, Const(1.0)) or (left, b) == (Const(1.0), DEVIATION):
                return value, RATIO if plus else DEVIATION
            if (a, b) == (RATIO, DEVIATION) or ((a, b) == (DEVIATION, RATIO) and plus):
                return value, RATIO
            return value, self.same(f"`{expr.operator}`", (a, b), expr.span)
        if expr.operator == "/":
            self.judged("/", right, expr.right)
            if right == Const(0.0):
                raise self.diagnostics.bad(
                    "FIB302", "division by zero", expr.span, "mend the divisor"
                )
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
            raise self.diagnostics.bad(
                "FIB302",
                f"{a} {expr.operator} {b} has no meaning",
                expr.span,
                f"convert one: {conversion(b, a)}",
            )
        space = a.space if a.power else b.space
        return value, Unit(space, power) if power else PURE

    def judged(self, function: str, argument: Expr, written: ast.Expr) -> None:
        key = function, show(simplified(argument), self.inputs)
        self.places.setdefault(key, written.span)

    def same(
        self,
        what: str,
        units: Sequence[Unit | None],
        span: Span,
        spans: Sequence[Span] | None = None,
    ) -> Unit | None:
        """The one unit of several, bare numbers aside. `spans` are theirs, where it is the first
        that differs that is to be shown."""
        found: Unit | None = None
        for index, unit in enumerate(units):
            if found is None or unit is None or unit == found:
                found = unit if found is None else found
                continue
            raise self.diagnostics.bad(
                "FIB302",
                f"{what} puts a {found} and a {unit} together",
                span if spans is None else spans[index],
                conversion(unit, found),
            )
        return found

    # --- calls ----------------------------------------------------------------------------------

    def call(self, call: ast.Call, bound: bool = False) -> Typed:
        name, span = call.function.text, call.span
        if name in REDUCTIONS and self.aggregate is not None:
            return self.aggregate(call, self)
        if name not in FUNCTIONS:
            raise self.not_a_function(call)
        if call.over is not None:
            raise self.diagnostics.bad(
                "FIB302",
                f"`{name}` takes no `over`",
                call.over.span,
                "delete it; only `mean` and `sum` are taken over cells",
            )
        if name == "sign" and self.is_advantage(call.arguments):
            return Call("sign", (self.input(SIGN_ONLY),)), None
        typed = self.each(call.arguments, name in _BOUNDING or (bound and name == "by_advantage"))
        wanted = len(FUNCTIONS[name].split(", "))
        if len(typed) != wanted:
            raise self.diagnostics.bad(
                "FIB302",
                f"`{name}` takes {wanted} argument{'s' if wanted > 1 else ''}, not {len(typed)}",
                span,
                f"write `{name}({FUNCTIONS[name]})`",
            )
        values, units = [t[0] for t in typed], [t[1] for t in typed]
        spans = [argument.span for argument in call.arguments]
        if name == "by_advantage":
            unit = self.same("`by_advantage`", units, span, spans)
            rising = Call("<=", (Const(0.0), self.advantage(call)))
            return Call("where", (rising, *values)), unit
        if name in _KEEPING:
            return _kept(name, values), self.same(f"`{name}`", units, span, spans)
        return self.converted(name, values[0], units[0], call.arguments[0])

    def not_a_function(self, call: ast.Call) -> ReportedError:
        name, span = call.function.text, call.function.span
        if name in REDUCTIONS:
            return self.diagnostics.bad(
                "FIB209",
                f"`{name}` cannot stand here",
                span,
                "a gate sees one cell; what it sees of it is said by `aggregate`",
            )
        if name in self.gates:
            return self.diagnostics.bad(
                "FIB209",
                f"`{name}` is a gate, and no function",
                span,
                "write out what it does to the value",
            )
        known = [*FUNCTIONS, *(REDUCTIONS if self.aggregate is not None else ())]
        if name in self.names or name in self.params or name in self.lets:
            help = f"`{name}` is a number; write `{name} * ...` for a product"
        else:
            help = nearest(name, known)
        return self.diagnostics.bad("FIB101", f"unknown function `{name}`", span, help)

    def advantage(self, call: ast.Call) -> Expr:
        if SIGN_ONLY not in self.names:
            raise self.diagnostics.bad(
                "FIB209", "there is no advantage here", call.span, "write the value itself"
            )
        self.written.setdefault(SIGN_ONLY, call.function.span)
        return self.input(SIGN_ONLY)

    def is_advantage(self, arguments: Sequence[ast.Expr]) -> bool:
        match arguments:
            case [ast.Reference(name, _)]:
                return name == SIGN_ONLY and name in self.names
            case _:
                return False

    def converted(self, name: str, x: Expr, unit: Unit | None, written: ast.Expr) -> Typed:
        """A function whose result has another unit than its argument."""
        fits, takes = _FITS.get(name, (None, ""))
        if fits is not None and unit not in (None, PURE, fits):
            assert unit is not None
            already = {("exp", RATIO): "an exponential", ("log", LOG): "a logarithm"}
            raise self.diagnostics.bad(
                "FIB302",
                f"`{name}` takes {takes}, and this is a {unit}",
                written.span,
                f"it is {already[name, unit]} already: leave `{name}` out"
                if (name, unit) in already
                else conversion(unit, fits),
            )
        if name in _ESTIMATORS:
            return _estimated(name, x), LOG if name == "k1" else None
        if name == "exp":
            # Of a log-ratio it is a ratio, which fits where a number does.
            return Call("exp", (x,)), None
        if name in ("log", "sqrt"):
            self.judged(name, x, written)
        if name == "log":
            # Of a ratio it is a log-ratio; of a number, a number.
            return Call("log", (x,)), LOG if unit == RATIO else None
        if name == "sqrt":
            if unit is not None and unit.power % 2:
                raise self.diagnostics.bad(
                    "FIB302",
                    f"`sqrt` takes a pure number or a square, and this is a {unit}",
                    written.span,
                    "divide by a quantity of the same space",
                )
            root = None if unit is None else Unit(unit.space, unit.power // 2)
            return Call("sqrt", (x,)), root
        # The sign, the sigmoid and the hyperbolic tangent of anything are bare numbers.
        return Call(name, (x,)), None

    # --- conditions and cases -------------------------------------------------------------------

    def condition(self, condition: ast.Condition) -> Expr:
        match condition:
            case ast.Logical(operator, left, right, _):
                both = collected([partial(self.condition, c) for c in (left, right)])
                return Call(operator, tuple(both))
            case ast.Comparison(operator, left, right, span):
                if self.sign_only and (self.is_advantage([left]) or self.is_advantage([right])):
                    other = right if self.is_advantage([left]) else left
                    if not (isinstance(other, ast.Number) and other.value == 0):
                        raise self.diagnostics.bad(
                            "FIB209",
                            "a gate sees the sign of the advantage only",
                            span,
                            "compare it with 0",
                        )
                    a = self.input(SIGN_ONLY)
                    pair = (a, Const(0.0)) if self.is_advantage([left]) else (Const(0.0), a)
                    return _compared(operator, *pair)
                (a, unit_a), (b, unit_b) = self.each((left, right))
                self.same(f"`{operator}`", (unit_a, unit_b), span)
                return _compared(operator, a, b)
        raise AssertionError(condition)

    def body(self, body: ast.Body) -> Typed:
        """An expression, or cases as one."""
        if not isinstance(body, ast.Cases):
            return self.expr(body)
        cases = self.cases(body)
        spans = [case.value.span for case in body.cases]
        unit = self.same("this choice", [unit for *_, unit in cases], body.span, spans)
        *conditional, (_, value, _, _) = cases
        for _, case, condition, _ in reversed(conditional):
            assert condition is not None
            value = Call("where", (condition, case, value))
        return value, unit

    def labelled(self, body: ast.Body) -> dict[str, Expr]:
        """For each label of a body that `body` has typed: 1 where a case of that label holds."""
        if not isinstance(body, ast.Cases):
            return {}
        cases = self.cases(body)
        labels = dict.fromkeys(label for label, *_ in cases if label is not None)
        found: dict[str, Expr] = {}
        for wanted in labels:
            *conditional, (label, *_) = cases
            hit: Expr = Const(1.0 if label == wanted else 0.0)
            for label, _, condition, _ in reversed(conditional):
                assert condition is not None
                hit = Call("where", (condition, Const(1.0 if label == wanted else 0.0), hit))
            found[wanted] = hit
        return found

    def cases(self, body: ast.Cases) -> list[tuple[str | None, Expr, Expr | None, Unit | None]]:
        """Label, value, condition and unit of each case; the last one is for all that is left."""
        for index, case in enumerate(body.cases):
            if (case.condition is None) != (index == len(body.cases) - 1):
                raise InternalError("the last case, and no other, is for all that is left")
        return collected([partial(self.case, case) for case in body.cases])

    def case(self, case: ast.Case) -> tuple[str | None, Expr, Expr | None, Unit | None]:
        condition: Expr | None = None
        failed = False
        if case.condition is not None:
            try:
                condition = self.condition(case.condition)
            except ReportedError:
                failed = True
        value, unit = self.expr(case.value)
        if failed:
            raise ReportedError
        return case.label.text if case.label else None, value, condition, unit


# What a function wants of its argument, besides numbers.
_FITS = {
    "exp": (LOG, "a log-ratio or a number"),
    "log": (RATIO, "a ratio or a number"),
    **dict.fromkeys(_ESTIMATORS, (LOG, "a log-ratio or a number")),
}


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
