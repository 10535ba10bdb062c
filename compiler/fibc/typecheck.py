"""Spaces, budgets and the shape of the hierarchy: what fits, and what is certainly positive."""

from __future__ import annotations

import math

from fibc.analysis.properties import PROPERTIES
from fibc.ir.interval import Interval
from fibc.ir.scalar import Binary, Const, Count, Log, Negate, Param, Scalar, bounds, counted
from fibc.resolved import Resolved, ResolvedGate, ResolvedParam
from fibc.typed import Budget, Promise, TypedGate, TypedObjective, TypedParam
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, Channels, Signal, Space


def typecheck(resolved: Resolved, diagnostics: Diagnostics) -> TypedObjective | None:
    """The typed objective, or None when there are errors (in `diagnostics`)."""
    return _Checker(resolved, diagnostics).run()


# After one of these a gate or a level is missing where the text has one.
_INCOMPLETE = {"FIB102", "FIB201", "FIB202"}


class _BadError(Exception):
    """An expression was reported; nothing more can be said about what contains it."""


class _Checker:
    def __init__(self, resolved: Resolved, diagnostics: Diagnostics) -> None:
        self.spec = resolved
        self.diagnostics = diagnostics
        self.names = [level.name for level in resolved.levels]
        self.ranges: dict[str, Interval] = {}

    def run(self) -> TypedObjective | None:
        params = tuple(p for p in map(self.param, self.spec.params.values()) if p)
        # A param whose own range is wrong was reported; uses of it are not reported again.
        for name in self.spec.params:
            self.ranges.setdefault(name, Interval(0.0, math.inf, True, True))
        gates = {}
        for level in self.names:
            if level in self.spec.gates:
                gate = self.gate(level, self.spec.gates[level])
                if gate:
                    gates[level] = gate
        if not any(d.code in _INCOMPLETE for d in self.diagnostics.found):
            self.hierarchy()
        promises = self.promises()
        if self.diagnostics.has_errors:
            return None
        aggregates = {
            coarse: self.spec.aggregates.get(coarse, fine)
            for fine, coarse in zip(self.names, self.names[1:], strict=False)
        }
        spec = self.spec
        return TypedObjective(
            spec.name,
            spec.doc,
            params,
            spec.signal,
            spec.channels,
            spec.levels,
            gates,
            aggregates,
            spec.reduce,
            promises,
            spec.span,
            spec.reduce_span,
        )

    def error(self, code: str, message: str, span: Span, help: str | None = None) -> None:
        self.diagnostics.add(code, message, span, help)

    # --- params ---------------------------------------------------------------------------------

    def param(self, p: ResolvedParam) -> TypedParam | None:
        everything = (
            Interval(0.0, math.inf, True, True) if p.space is Space.RATIO else Interval.everything()
        )
        try:
            interval = everything
            if p.range is not None:
                interval = Interval(
                    self.constant(p.range.low),
                    self.constant(p.range.high),
                    p.range.low_open,
                    p.range.high_open,
                )
                if interval.empty:
                    self.error(
                        "FIB404",
                        f"no number is in {interval}",
                        p.range.span,
                        "write the smaller end first, as in `(0, 1)`",
                    )
                    return None
            default = self.constant(p.default)
        except _BadError:
            return None
        if p.space is Space.RATIO and not (interval.low >= 0):
            self.error(
                "FIB404",
                f"a ratio is positive, but the range {interval} goes below 0",
                p.range.span if p.range else p.span,
                "use a range inside `(0, inf)`",
            )
            return None
        # Uses are judged by the range, whatever the default is.
        self.ranges[p.name] = interval
        if math.isinf(default):
            self.error("FIB403", "the default is infinite", p.default.span, "write a number")
            return None
        if default not in interval:
            self.error(
                "FIB403",
                f"the default {default:g} is not in {interval}",
                p.default.span,
                "change the default or widen the range",
            )
            return None
        return TypedParam(p.name, p.space, default, interval, p.span)

    def constant(self, expr: ast.Expr) -> float:
        """The value of an expression that may not use params."""
        match expr:
            case ast.Number(value, _):
                return value
            case ast.Reference("inf", _):
                return math.inf
            case ast.Negative(operand, _):
                return -self.constant(operand)
            case ast.Binary(operator, left, right, span):
                a, b = self.constant(left), self.constant(right)
                if operator == "/" and b == 0:
                    self.error("FIB302", "division by zero", span, "mend the divisor")
                    raise _BadError
                return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0.0}[operator]
            case _:
                self.error(
                    "FIB101",
                    "a default or range is made of numbers only",
                    expr.span,
                    "write the number out",
                )
                raise _BadError

    # --- expressions ----------------------------------------------------------------------------

    def expr(self, expr: ast.Expr, counts: bool = False) -> tuple[Scalar, Space | None]:
        """An expression and its space; None for a bare number, which takes the space it meets."""
        match expr:
            case ast.Number(value, _):
                return Const(value), None
            case ast.Reference("inf", _):
                return Const(math.inf), None
            case ast.Reference(("size" | "tokens") as name, span):
                if not counts:
                    self.error(
                        "FIB101",
                        f"`{name}` counts the members of a cell; a budget does not depend on it",
                        span,
                        "only `k = ...` may use it",
                    )
                    raise _BadError
                return Count(name), Space.PURE
            case ast.Reference(name, span):
                if name not in self.spec.params:
                    known = [*self.spec.params, *(("size", "tokens") if counts else ())]
                    self.error("FIB101", f"unknown name `{name}`", span, nearest(name, known))
                    raise _BadError
                return Param(name), self.spec.params[name].space
            case ast.Negative(operand, _):
                scalar, space = self.expr(operand, counts)
                return Negate(scalar), space
            case ast.Call(function, _, span):
                if function.text != "ratio":
                    self.error(
                        "FIB101",
                        f"unknown function `{function.text}`",
                        function.span,
                        nearest(function.text, ["ratio"]),
                    )
                else:
                    self.error(
                        "FIB303",
                        "`ratio(...)` is a bound, not a number to calculate with",
                        span,
                        "let it be the whole bound, and calculate inside: `+ratio(1 + a)`",
                    )
                raise _BadError
            case ast.Binary():
                return self.binary(expr, counts)

    def binary(self, expr: ast.Binary, counts: bool) -> tuple[Scalar, Space | None]:
        left, a = self.expr(expr.left, counts)
        right, b = self.expr(expr.right, counts)
        scalar = Binary(expr.operator, left, right)
        if expr.operator == "/" and right == Const(0.0):
            self.error("FIB302", "division by zero", expr.span, "mend the divisor")
            raise _BadError
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
        self.error(
            "FIB302",
            f"{a or 'number'} {expr.operator} {b or 'number'} has no meaning",
            expr.span,
            "quantities add within one space; only pure numbers multiply and divide others",
        )
        raise _BadError

    # --- gates ----------------------------------------------------------------------------------

    def gate(self, level: str, gate: ResolvedGate) -> TypedGate | None:
        good = True
        if gate.rule.neighbours:
            good = self.neighbours(level, gate)
        budget = None
        steepness = None
        try:
            budget = self.budget(level, gate)
        except _BadError:
            good = False
        try:
            steepness = self.steepness(level, gate)
        except _BadError:
            good = False
        if not good:
            return None
        return TypedGate(
            gate.rule, gate.role, budget, steepness, gate.over, gate.pessimistic, gate.span
        )

    def neighbours(self, level: str, gate: ResolvedGate) -> bool:
        good = True
        if (self.spec.signal, self.spec.channels) != (Signal.RATIO, Channels.NET):
            self.error(
                "FIB304",
                f"`{gate.rule.name}` bounds total variation, a sum of |r - 1|, "
                f"but the signal is `{self.spec.signal} {self.spec.channels}`",
                gate.gate_span,
                "use `signal ratio`",
            )
            good = False
        if gate.over is None:
            coarser = self.names[self.names.index(level) + 1 :]
            self.error(
                "FIB401",
                f"`{gate.rule.name}` needs the cell whose budget it shares",
                gate.gate_span,
                f"write `{gate.rule.name}(0.1, over {coarser[0] if coarser else 'state'})`",
            )
            good = False
        return good

    def budget(self, level: str, gate: ResolvedGate) -> Budget | None:
        rule, arguments = gate.rule, gate.arguments
        kinds = [argument.kind for argument in arguments]
        if not rule.budgets:
            if arguments:
                self.error(
                    "FIB401", f"`{rule.name}` takes no budget", arguments[0].span, "delete it"
                )
                raise _BadError
            return None
        if kinds == ["value"]:
            bound = self.bound(level, arguments[0])
            return Budget(bound, bound)
        if rule.neighbours:
            self.error(
                "FIB401",
                f"`{rule.name}` takes one budget, for both sides together",
                arguments[0].span if arguments else gate.gate_span,
                f"write `{rule.name}(0.1, over {gate.over or 'LEVEL'})`",
            )
            raise _BadError
        if kinds != ["upper", "lower"]:
            self.error(
                "FIB401",
                f"`{rule.name}` takes one budget for both sides, or a pair",
                arguments[0].span if arguments else gate.gate_span,
                f"write `{rule.name}(0.2)` or `{rule.name}(+0.2, -0.1)`",
            )
            raise _BadError
        try:
            upper = self.bound(level, arguments[0])
        except _BadError:
            self.bound(level, arguments[1])
            raise
        return Budget(upper, self.bound(level, arguments[1]))

    def bound(self, level: str, argument: ast.Argument) -> Scalar:
        """The magnitude of one bound, in the space of the signal, certainly positive."""
        value = argument.value
        if isinstance(value, ast.Call) and value.function.text == "ratio":
            return self.ratio_bound(argument, value)
        scalar, space = self.expr(value)
        wanted = self.spec.signal.space
        if space is not None and space is not wanted:
            help = {
                Space.RATIO: "convert it: `ratio(...)`",
                Space.PURE: f"declare it `: {wanted}`, or multiply it with a budget",
            }.get(space, f"declare the parameter `: {wanted}`, or change the signal")
            self.error(
                "FIB301",
                f"a budget at `{level}` is a {wanted}, and this is a {space}",
                value.span,
                help,
            )
            raise _BadError
        self.positive(scalar, value.span, "budget")
        return scalar

    def ratio_bound(self, argument: ast.Argument, call: ast.Call) -> Scalar:
        scalar, space = self.expr(call.argument)
        if space not in (None, Space.RATIO):
            self.error(
                "FIB303",
                f"`ratio(...)` takes a ratio, and this is a {space}",
                call.argument.span,
                "give it a number or a `: ratio` parameter",
            )
            raise _BadError
        interval = bounds(scalar, self.ranges)
        lower = argument.kind == "lower"
        one = Interval.point(1.0)
        certain = (one - interval).positive if lower else (interval - one).positive
        if lower and not interval.positive:
            certain = False
        if not certain:
            side, where = ("lower", "between 0 and 1") if lower else ("upper", "above 1")
            fixed = interval.low == interval.high
            self.error(
                "FIB405",
                f"the {side} bound of a ratio is {where}, and this is "
                + (f"{float(interval.low):g}" if fixed else f"in {interval}"),
                call.argument.span,
                "write the bound itself, as in `-ratio(0.8)`, or a parameter `in (0.5, 1)`"
                if lower
                else "write the bound itself, as in `+ratio(1.2)`, or a parameter `in (1, 2)`",
            )
            raise _BadError
        if self.spec.signal.space is Space.LOG:
            return Negate(Log(scalar)) if lower else Log(scalar)
        one_scalar = Const(1.0)
        return Binary("-", one_scalar, scalar) if lower else Binary("-", scalar, one_scalar)

    def positive(self, scalar: Scalar, span: Span, what: str) -> None:
        interval = bounds(scalar, self.ranges)
        if interval.positive:
            return
        if interval.high <= 0:
            help = f"a {what} is a magnitude: a number above 0, without its sign"
        elif interval == Interval.everything():
            help = "give its parameters ranges, as in `in (0, 1)`"
        else:
            help = f"it can be anything in {interval}; narrow the ranges of its parameters"
        self.error("FIB402", f"this {what} is not certainly positive", span, help)
        raise _BadError

    def steepness(self, level: str, gate: ResolvedGate) -> Scalar | None:
        if not gate.rule.steepness:
            return None
        if gate.steepness is None:
            if level == TOKEN:
                self.error(
                    "FIB406",
                    "a token has no children to take the steepness k from",
                    gate.gate_span,
                    f"give it: `{gate.rule.name}(..., k = 8)`",
                )
                raise _BadError
            return Count("size")
        scalar, space = self.expr(gate.steepness, counts=True)
        if level == TOKEN and counted(scalar):
            self.error(
                "FIB406",
                "a token has no members to count",
                gate.steepness.span,
                f"write a number: `{gate.rule.name}(..., k = 8)`",
            )
            raise _BadError
        if space not in (None, Space.PURE):
            self.error(
                "FIB301",
                f"k is a pure number, and this is a {space}",
                gate.steepness.span,
                "declare the parameter `: pure`",
            )
            raise _BadError
        self.positive(scalar, gate.steepness.span, "steepness")
        if math.isinf(bounds(scalar, self.ranges).low):
            self.error("FIB402", "k is infinite", gate.steepness.span, "use `clip` instead")
            raise _BadError
        return scalar

    # --- hierarchy ------------------------------------------------------------------------------

    def hierarchy(self) -> None:
        gated = [name for name in self.names if name in self.spec.gates]
        if not gated:
            return
        coarsest = gated[-1]
        for name in self.names[: self.names.index(coarsest) + 1]:
            gate = self.spec.gates.get(name)
            if gate is None:
                self.error(
                    "FIB205",
                    f"level `{name}` has no gate, though `{coarsest}` above it has one",
                    self.spec.gates[coarsest].span,
                    f"add `at {name} {{ fiber pass }}` or `at {name} {{ fiber drop }}`",
                )
            elif (gate.role == "base") != (name == coarsest):
                wanted = "base" if name == coarsest else "fiber"
                why = (
                    f"`{name}` is the coarsest gated level and has nothing to deviate from"
                    if wanted == "base"
                    else f"`{name}` deviates from the coarser gated level `{coarsest}`"
                )
                self.error("FIB204", why, gate.span, f"write `{wanted}` here")

    # --- promises -------------------------------------------------------------------------------

    def promises(self) -> tuple[Promise, ...]:
        found: dict[str, Promise] = {}
        for require in self.spec.requires:
            promise = self.promise(require)
            if promise is not None and str(promise) in found:
                self.error("FIB103", f"`{promise}` is promised twice", require.span, "delete this")
            elif promise is not None:
                found[str(promise)] = promise
        return tuple(found.values())

    def promise(self, require: ast.Require) -> Promise | None:
        name, span = require.property.text, require.span
        if name not in PROPERTIES:
            help = nearest(name, PROPERTIES)
            self.error("FIB503", f"unknown property `{name}`", require.property.span, help)
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
            self.error("FIB504", f"`{name}` is not written like this", span, help)
            return None
        try:
            within = self.promised_range(require.range) if require.range is not None else None
            tv = self.promised_tv(require.bound) if require.bound is not None else None
        except _BadError:
            return None
        return Promise(
            name,
            span,
            require.at.text if require.at else None,
            require.over.text if require.over else None,
            within,
            tv,
            require.assumed,
        )

    def promised_range(self, range: ast.Range) -> Interval:
        ends = []
        for end in (range.low, range.high):
            match end:
                case ast.Number(value, _):
                    ends.append(value)
                case ast.Reference("inf", _):
                    ends.append(math.inf)
                case _:
                    self.error(
                        "FIB504",
                        "a range to prove is made of numbers only",
                        range.span,
                        "write the numbers out",
                    )
                    raise _BadError
        interval = Interval(ends[0], ends[1], range.low_open, range.high_open)
        if interval.empty:
            help = "write the smaller end first"
            self.error("FIB404", f"no number is in {interval}", range.span, help)
            raise _BadError
        return interval.exactly()

    def promised_tv(self, expr: ast.Expr) -> Scalar:
        scalar, space = self.expr(expr)
        if space not in (None, Space.DEVIATION):
            self.error(
                "FIB301",
                f"a total variation is a deviation, and this is a {space}",
                expr.span,
                "give it a number or a `: deviation` parameter",
            )
            raise _BadError
        self.positive(scalar, expr.span, "bound")
        if scalar == Const(math.inf):
            help = "write a number, or delete the promise"
            self.error("FIB504", "an infinite bound promises nothing", expr.span, help)
            raise _BadError
        return scalar
