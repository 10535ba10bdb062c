"""Spaces, budgets and the shape of the hierarchy: what fits, and what is certainly positive."""

from __future__ import annotations

import math

from fibc.ir.interval import Interval
from fibc.ir.scalar import Binary, Const, Count, Log, Negate, Scalar, bounds, counted
from fibc.promises import typed_promises
from fibc.quantities import BadExpressionError, Quantities
from fibc.resolved import Resolved, ResolvedGate
from fibc.typed import Budget, TypedGate, TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, Channels, Signal, Space


def typecheck(resolved: Resolved, diagnostics: Diagnostics) -> TypedObjective | None:
    """The typed objective, or None when there are errors (in `diagnostics`)."""
    return _Checker(resolved, diagnostics).run()


# After one of these a gate or a level is missing where the text has one.
_INCOMPLETE = {"FIB102", "FIB201", "FIB202"}


class _Checker(Quantities):
    def __init__(self, resolved: Resolved, diagnostics: Diagnostics) -> None:
        super().__init__(resolved.params, diagnostics)
        self.spec = resolved
        self.names = [level.name for level in resolved.levels]

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
        promises = typed_promises(self.spec.requires, self)
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

    # --- gates ----------------------------------------------------------------------------------

    def gate(self, level: str, gate: ResolvedGate) -> TypedGate | None:
        good = True
        if gate.rule.neighbours:
            good = self.neighbours(level, gate)
        budget = None
        steepness = None
        try:
            budget = self.budget(level, gate)
        except BadExpressionError:
            good = False
        try:
            steepness = self.steepness(level, gate)
        except BadExpressionError:
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
                raise BadExpressionError
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
            raise BadExpressionError
        if kinds != ["upper", "lower"]:
            self.error(
                "FIB401",
                f"`{rule.name}` takes one budget for both sides, or a pair",
                arguments[0].span if arguments else gate.gate_span,
                f"write `{rule.name}(0.2)` or `{rule.name}(+0.2, -0.1)`",
            )
            raise BadExpressionError
        try:
            upper = self.bound(level, arguments[0])
        except BadExpressionError:
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
            raise BadExpressionError
        self.positive(scalar, value.span, "budget")
        return scalar

    def ratio_bound(self, argument: ast.Argument, call: ast.Call) -> Scalar:
        [bound] = call.arguments
        scalar, space = self.expr(bound)
        if space not in (None, Space.RATIO):
            self.error(
                "FIB303",
                f"`ratio(...)` takes a ratio, and this is a {space}",
                bound.span,
                "give it a number or a `: ratio` parameter",
            )
            raise BadExpressionError
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
                bound.span,
                "write the bound itself, as in `-ratio(0.8)`, or a parameter `in (0.5, 1)`"
                if lower
                else "write the bound itself, as in `+ratio(1.2)`, or a parameter `in (1, 2)`",
            )
            raise BadExpressionError
        if self.spec.signal.space is Space.LOG:
            return Negate(Log(scalar)) if lower else Log(scalar)
        one_scalar = Const(1.0)
        return Binary("-", one_scalar, scalar) if lower else Binary("-", scalar, one_scalar)

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
                raise BadExpressionError
            return Count("size")
        scalar, space = self.expr(gate.steepness, counts=True)
        if level == TOKEN and counted(scalar):
            self.error(
                "FIB406",
                "a token has no members to count",
                gate.steepness.span,
                f"write a number: `{gate.rule.name}(..., k = 8)`",
            )
            raise BadExpressionError
        if space not in (None, Space.PURE):
            self.error(
                "FIB301",
                f"k is a pure number, and this is a {space}",
                gate.steepness.span,
                "declare the parameter `: pure`",
            )
            raise BadExpressionError
        self.positive(scalar, gate.steepness.span, "steepness")
        if math.isinf(bounds(scalar, self.ranges).low):
            self.error("FIB402", "k is infinite", gate.steepness.span, "use `clip` instead")
            raise BadExpressionError
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
