"""Budgets: magnitudes in the space of the signal, certainly positive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fibc.gates.use import at_level
from fibc.ir.interval import Interval
from fibc.ir.scalar import Binary, ByAdvantage, Const, Log, Negate, Scalar, bounds
from fibc.resolved import Resolved
from fibc.typecheck.quantities import BY_ADVANTAGE, NOTHING, Quantities
from fibc.typed import Budget
from fibdsl.diagnostics.diagnostic import collected
from fibdsl.syntax import ast
from fibdsl.types import Space


@dataclass(frozen=True)
class Budgets:
    """The budgets of the gate of a level, and of its cells."""

    level: str
    spec: Resolved
    quantities: Quantities

    def pair(self, given: Sequence[ast.Argument]) -> Budget:
        """One budget for both sides, or two."""
        each = collected([partial(self.bound, argument) for argument in given])
        return Budget(each[0], each[-1])

    def bound(self, argument: ast.Argument) -> Scalar:
        """One bound of a gate: it may depend on the advantage, and on the budget of the cell."""
        words = {BY_ADVANTAGE: Space.PURE}
        if self.level in self.spec.budgets:
            words["budget"] = self.spec.signal.space
        return self.magnitude(argument, words)

    def magnitude(self, argument: ast.Argument, words: Mapping[str, Space] = NOTHING) -> Scalar:
        """The magnitude of one bound, in the space of the signal, certainly positive."""
        value = argument.value
        if isinstance(value, ast.Call) and value.function.text == "ratio":
            return self._ratio(argument, value, words)
        wanted = self.spec.signal.space
        scalar, space = self.quantities.expr(value, words)
        scalar = at_level(scalar, self.level)
        if space is not None and space is not wanted:
            help = {
                Space.RATIO: "convert it: `ratio(...)`",
                Space.PURE: f"declare it `: {wanted}`, or multiply it with a budget",
            }.get(space, f"declare the parameter `: {wanted}`, or change the signal")
            raise self.quantities.diagnostics.bad(
                "FIB301",
                f"a budget at `{self.level}` is a {wanted}, and this is a {space}",
                value.span,
                help,
            )
        if isinstance(scalar, ByAdvantage) and isinstance(value, ast.Call):
            for part, written in zip((scalar.up, scalar.down), value.arguments, strict=True):
                self.quantities.positive(part, written.span, "budget")
        self.quantities.positive(scalar, value.span, "budget")
        return scalar

    def _ratio(self, argument: ast.Argument, call: ast.Call, words: Mapping[str, Space]) -> Scalar:
        if len(call.arguments) != 1 or call.over is not None:
            raise self.quantities.diagnostics.bad(
                "FIB303",
                "`ratio(...)` takes one ratio",
                call.span,
                "a pair is written `+ratio(1.2), -ratio(0.8)`",
            )
        [bound] = call.arguments
        scalar, space = self.quantities.expr(
            bound, {w: s for w, s in words.items() if w == BY_ADVANTAGE}
        )
        if space not in (None, Space.RATIO):
            raise self.quantities.diagnostics.bad(
                "FIB303",
                f"`ratio(...)` takes a ratio, and this is a {space}",
                bound.span,
                "give it a number or a `: ratio` parameter",
            )
        interval = bounds(scalar, self.quantities.ranges)
        lower = argument.kind == "lower"
        one = Interval.point(1.0)
        certain = (one - interval).positive if lower else (interval - one).positive
        if lower and not interval.positive:
            certain = False
        if not certain:
            side, where = ("lower", "between 0 and 1") if lower else ("upper", "above 1")
            fixed = interval.low == interval.high
            raise self.quantities.diagnostics.bad(
                "FIB405",
                f"the {side} bound of a ratio is {where}, and this is "
                + (f"{float(interval.low):g}" if fixed else f"in {interval}"),
                bound.span,
                "write the bound itself, as in `-ratio(0.8)`, or a parameter `in (0.5, 1)`"
                if lower
                else "write the bound itself, as in `+ratio(1.2)`, or a parameter `in (1, 2)`",
            )
        if self.spec.signal.space is Space.LOG:
            return Negate(Log(scalar)) if lower else Log(scalar)
        one_scalar = Const(1.0)
        return Binary("-", one_scalar, scalar) if lower else Binary("-", scalar, one_scalar)
