"""Spaces, budgets and the shape of the hierarchy: what fits, and what is certainly positive."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace

from fibc.analysis.proofs.enclosure import doubts
from fibc.gates.rule import GateRule, Parameter
from fibc.gates.use import at_level, cell_budget_name, gate_inputs
from fibc.ir.expression import Call, Expr, Input, inputs_of, show
from fibc.ir.interval import Interval, hull
from fibc.ir.scalar import (
    Binary,
    ByAdvantage,
    Const,
    Count,
    Log,
    Negate,
    Scalar,
    bounds,
    counted,
    variants,
)
from fibc.no_value import DOES, no_value
from fibc.promises import typed_promises
from fibc.quantities import BY_ADVANTAGE, NOTHING, Quantities
from fibc.resolved import Resolved, ResolvedGate
from fibc.token_statements import token_statements
from fibc.typed import Budget, CellBudget, TypedGate, TypedObjective
from fibc.units import unit_of
from fibdsl.builtins import CELL_COUNTS, GATE_WORDS
from fibdsl.diagnostics.diagnostic import Diagnostics, Label, ReportedError
from fibdsl.syntax import ast
from fibdsl.syntax.walk import references
from fibdsl.types import TOKEN, Channels, Signal, Space

_COUNTS = dict.fromkeys(CELL_COUNTS, Space.PURE)


def typecheck(resolved: Resolved, diagnostics: Diagnostics) -> TypedObjective | None:
    """The typed objective, or None when there are errors (in `diagnostics`)."""
    return _Checker(resolved, diagnostics).run()


class _Checker(Quantities):
    def __init__(self, resolved: Resolved, diagnostics: Diagnostics) -> None:
        lets = frozenset(s.name.text for s in resolved.token if isinstance(s, ast.Let))
        super().__init__(resolved.params, diagnostics, lets)
        self.spec = resolved
        self.names = [level.name for level in resolved.levels]

    def run(self) -> TypedObjective | None:
        params = tuple(p for p in map(self.param, self.spec.params.values()) if p)
        # A param whose own range or space is wrong was reported; uses of it are not judged.
        self.silent |= {
            p.name for p in self.spec.params.values() if not p.sound or p.name not in self.ranges
        }
        budgets = self.cell_budgets()
        gates = {}
        for level in self.names:
            if level in self.spec.gates:
                gate = self.gate(level, self.spec.gates[level])
                if gate:
                    gates[level] = gate
        if self.spec.complete:
            self.hierarchy()
        after = self.gate(TOKEN, self.spec.after, after=True) if self.spec.after else None
        token = token_statements(self.spec, self)
        steps = tuple(
            replace(step, divisor=self.divisor(self.spec.divisors[i]))
            if i in self.spec.divisors
            else step
            for i, step in enumerate(self.spec.reduce)
        )
        promises = typed_promises(self.spec.requires, self)
        if self.diagnostics.has_errors or not self.spec.complete:
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
            steps,
            promises,
            spec.span,
            spec.reduce_span,
            after,
            spec.summed,
            budgets,
            *token,
        )

    def divisor(self, expr: ast.Expr) -> Scalar | None:
        """What a step of `reduce` is divided by: a positive number."""
        try:
            scalar, space = self.expr(expr, what="divisor")
            if space not in (None, Space.PURE):
                raise self.diagnostics.bad(
                    "FIB301",
                    f"a sum is divided by a pure number, and this is a {space}",
                    expr.span,
                    "declare the parameter `: pure`",
                )
            self.positive(scalar, expr.span, "divisor")
            if math.isinf(bounds(scalar, self.ranges).low):
                raise self.diagnostics.bad(
                    "FIB402", "this divisor is infinite", expr.span, "write a number, or delete it"
                )
        except ReportedError:
            return None
        return scalar

    # --- gates ----------------------------------------------------------------------------------

    def gate(self, level: str, gate: ResolvedGate, after: bool = False) -> TypedGate | None:
        good = True
        if gate.rule.neighbours:
            good = self.neighbours(level, gate)
        good = self.context(level, gate, after) and good
        arguments: dict[str, Budget] = {}
        try:
            arguments = self.arguments(level, gate)
        except ReportedError:
            good = False
        if not good:
            return None
        rule = gate.rule
        k = rule.steepness
        if k is not None and not rule.builtin:
            # What is known of pieces is known for steepnesses that are positive and finite.
            given = bounds(arguments[k.name].upper, self.ranges)
            if not given.positive or math.isinf(given.low):
                rule = replace(rule, pieces=())
        typed = TypedGate(rule, gate.role, arguments, gate.over, gate.pessimistic, gate.span)
        return typed if self.defined(gate, typed) else None

    def context(self, level: str, gate: ResolvedGate, after: bool) -> bool:
        """Whether the gate looks at nothing that is not where it stands."""
        rule = gate.rule
        wanted = self.spec.signal.space
        if rule.signal is not None and rule.signal is not wanted:
            other = Signal.LOG_RATIO if rule.signal is Space.LOG else Signal.RATIO
            self.diagnostics.add(
                "FIB304",
                f"`{rule.name}` gates a {rule.signal}, and the signal here is `{self.spec.signal}`",
                gate.gate_span,
                f"use `signal {other}`, or another gate",
            )
            return False
        for word in rule.context:
            if word.text in CELL_COUNTS and level == TOKEN:
                code, has = "FIB406", "of a cell, and a token has none"
                help = "use it at a coarser level"
            elif word.text in GATE_WORDS and (level != TOKEN or after):
                where = f"at `{level}`" if level != TOKEN else "before the levels"
                code, has = "FIB209", f"of a token, and stands {where}"
                help = "use it at `token`"
            else:
                continue
            self.diagnostics.add(
                code,
                f"`{rule.name}` looks at `{word.text}` {has}",
                gate.gate_span,
                help,
                labels=(Label(word.span, f"here it looks at `{word.text}`"),),
            )
            return False
        return True

    def arguments(self, level: str, gate: ResolvedGate) -> dict[str, Budget]:
        """What the parameters of the gate are, by name. All that is wrong with them is said."""
        rule = gate.rule
        found: dict[str, Budget] = {}
        failed = not gate.complete
        if rule.neighbours or (rule.builtin and rule.pieces):
            try:
                budget = self.budget(level, gate)
                if budget is not None:
                    found[rule.budgets[0]] = budget
            except ReportedError:
                failed = True
            k = rule.steepness
            if k is not None:
                try:
                    steepness = self.steepness(level, gate, k)
                    found[k.name] = Budget(steepness, steepness)
                except ReportedError:
                    failed = True
        else:
            for parameter, given in self.given(gate):
                try:
                    found[parameter.name] = self.argument(level, gate, parameter, given)
                except ReportedError:
                    failed = True
        if failed:
            raise ReportedError
        return found

    def given(self, gate: ResolvedGate) -> list[tuple[Parameter, list[ast.Argument]]]:
        """Each parameter and what it is given: nothing, one argument, or a pair.

        Budgets go by their place. Plain numbers do too in a gate without budgets; beside budgets,
        and where one is named, they go by name.
        """
        rule, left = gate.rule, list(gate.arguments)
        found: list[tuple[Parameter, list[ast.Argument]]] = []
        for parameter in rule.parameters:
            written = gate.named.get(parameter.name)
            plain = parameter.space is not None
            if written is not None:
                found.append((parameter, [ast.Argument("value", written.value, written.span)]))
            elif not left or (plain and rule.budgets):
                found.append((parameter, []))
            elif [a.kind for a in left[:2]] == ["upper", "lower"]:
                found.append((parameter, [left.pop(0), left.pop(0)]))
            else:
                found.append((parameter, [left.pop(0)]))
        if left:
            self.left_over(gate, found, left[0])
        return found

    def left_over(
        self,
        gate: ResolvedGate,
        found: list[tuple[Parameter, list[ast.Argument]]],
        argument: ast.Argument,
    ) -> None:
        """Reports an argument that no parameter takes."""
        rule = gate.rule
        waiting = [p.name for p, given in found if not given]
        if waiting:
            self.diagnostics.add(
                "FIB401",
                f"`{waiting[0]}` of `{rule.name}` is given by its name",
                argument.span,
                f"write {rule.usage}",
            )
        elif gate.named:
            name, written = next(iter(gate.named.items()))
            self.diagnostics.add(
                "FIB401",
                f"`{rule.name}` takes {_counted(len(rule.parameters))}, and `{name}` is named "
                "besides",
                written.span,
                f"write {rule.usage}",
            )
        else:
            self.diagnostics.add(
                "FIB401",
                f"`{rule.name}` takes {_counted(len(rule.parameters))}, and this is one more",
                argument.span,
                f"write {rule.usage}",
            )
        raise ReportedError

    def argument(
        self, level: str, gate: ResolvedGate, parameter: Parameter, given: list[ast.Argument]
    ) -> Budget:
        if not given:
            default = self.default(gate, parameter)
            if level == TOKEN and counted(default.upper):
                raise self.diagnostics.bad(
                    "FIB406",
                    f"a token has no members to take `{parameter.name}` from",
                    gate.gate_span,
                    f"give it: `{gate.rule.name}(..., {parameter.name} = 8)`",
                )
            return default
        if parameter.space is not None:
            return self.plain(level, gate.rule, parameter, given)
        if len(given) == 1 and given[0].kind != "value":
            raise self.diagnostics.bad(
                "FIB401",
                f"`{parameter.name}` of `{gate.rule.name}` is one budget for both sides, or a pair",
                given[0].span,
                "write `0.2` or `+0.2, -0.1`",
            )
        budgets = []
        for argument in given:
            with contextlib.suppress(ReportedError):
                budgets.append(self.bound(level, argument))
        if len(budgets) < len(given):
            raise ReportedError
        return Budget(budgets[0], budgets[-1])

    def default(self, gate: ResolvedGate, parameter: Parameter) -> Budget:
        """What a parameter is that is not given."""
        if parameter.default is None:
            if gate.complete:
                self.diagnostics.add(
                    "FIB401",
                    f"`{gate.rule.name}` needs `{parameter.name}`",
                    gate.gate_span,
                    f"write {gate.rule.usage}",
                )
            raise ReportedError
        scalar = _scalar(parameter.default)
        return Budget(scalar, scalar)

    def plain(
        self, level: str, rule: GateRule, parameter: Parameter, given: list[ast.Argument]
    ) -> Budget:
        """A number of the space that a gate wants."""
        wanted = unit_of(parameter.space) if parameter.space is not None else None
        argument = given[0]
        if argument.kind == "upper":
            raise self.diagnostics.bad(
                "FIB401",
                f"`{parameter.name}` of `{rule.name}` is one {wanted}, and no pair of budgets",
                replace(argument.span, end=given[-1].span.end),
                "write one number, without `+`",
            )
        words = {**({} if level == TOKEN else _COUNTS), BY_ADVANTAGE: Space.PURE}
        if level == TOKEN and set(references(argument.value)) & set(CELL_COUNTS):
            raise self.diagnostics.bad(
                "FIB406",
                "a token has no members to count",
                argument.value.span,
                "write a number",
            )
        if "inf" in references(argument.value):
            raise self.diagnostics.bad(
                "FIB402",
                f"`{parameter.name}` of `{rule.name}` is a number, and `inf` is none",
                argument.value.span,
                "write a number",
            )
        scalar, space = self.expr(argument.value, words, "number")
        if argument.kind == "lower":
            scalar = Negate(scalar)
        if space is not None and space is not parameter.space:
            raise self.diagnostics.bad(
                "FIB301",
                f"`{parameter.name}` of `{rule.name}` is a {wanted}, and this is a "
                f"{unit_of(space)}",
                argument.value.span,
                f"declare the parameter `: {parameter.space}`",
            )
        return Budget(scalar, scalar)

    def defined(self, gate: ResolvedGate, typed: TypedGate) -> bool:
        """Whether the gate has a value whatever it is given; pieces always have one."""
        rule = typed.rule
        if rule.pieces:
            return True
        for sign in (1, -1):
            inputs = gate_inputs(typed, self.ranges, sign)
            for function, argument, found in doubts(rule.whole, {}, inputs):
                shown = show(argument, rule.names)
                place = rule.places.get((function, shown))
                labels: tuple[Label, ...] = ()
                if place is not None:
                    shown = self.diagnostics.text(place)
                    labels = (Label(place, f"`{rule.name}` {DOES[function]} this"),)
                given = {i for i, name in enumerate(rule.inputs) if name in typed.arguments}
                message, help = no_value(
                    function, shown, found, f"`{rule.name}`", inputs_of(argument) <= given
                )
                self.diagnostics.add("FIB305", message, gate.gate_span, help, labels=labels)
                return False
        return True

    def neighbours(self, level: str, gate: ResolvedGate) -> bool:
        good = True
        if (self.spec.signal, self.spec.channels) != (Signal.RATIO, Channels.NET):
            self.diagnostics.add(
                "FIB304",
                f"`{gate.rule.name}` bounds total variation, a sum of |r - 1|, "
                f"but the signal is `{self.spec.signal} {self.spec.channels}`",
                gate.gate_span,
                "use `signal ratio`",
            )
            good = False
        if gate.over is None and gate.complete:
            coarser = self.names[self.names.index(level) + 1 :]
            self.diagnostics.add(
                "FIB401",
                f"`{gate.rule.name}` needs the cell whose budget it shares",
                gate.gate_span,
                f"write `{gate.rule.name}(0.1, over {coarser[0] if coarser else 'state'})`",
            )
            good = False
        return good and gate.complete

    def budget(self, level: str, gate: ResolvedGate) -> Budget | None:
        rule, arguments = gate.rule, gate.arguments
        kinds = [argument.kind for argument in arguments]
        if not rule.budgets:
            if arguments:
                raise self.diagnostics.bad(
                    "FIB401", f"`{rule.name}` takes no budget", arguments[0].span, "delete it"
                )
            return None
        if kinds == ["value"]:
            bound = self.bound(level, arguments[0])
            if rule.neighbours and len(variants(bound)) > 1:
                raise self.diagnostics.bad(
                    "FIB209",
                    f"the budget of `{rule.name}` is shared by tokens of both signs of the "
                    "advantage",
                    arguments[0].span,
                    "write one quantity, without `by_advantage`",
                )
            if rule.neighbours and counted(bound):
                raise self.diagnostics.bad(
                    "FIB209",
                    f"the budget of `{rule.name}` is shared by cells whose `budget`s may differ",
                    arguments[0].span,
                    "write one quantity, without `budget`",
                )
            return Budget(bound, bound)
        if rule.neighbours:
            raise self.diagnostics.bad(
                "FIB401",
                f"`{rule.name}` takes one budget, for both sides together",
                arguments[0].span if arguments else gate.gate_span,
                f"write `{rule.name}(0.1, over {gate.over or 'LEVEL'})`",
            )
        if kinds != ["upper", "lower"]:
            raise self.diagnostics.bad(
                "FIB401",
                f"`{rule.name}` takes one budget for both sides, or a pair",
                arguments[0].span if arguments else gate.gate_span,
                f"write `{rule.name}(0.2)` or `{rule.name}(+0.2, -0.1)`",
            )
        try:
            upper = self.bound(level, arguments[0])
        except ReportedError:
            self.bound(level, arguments[1])
            raise
        return Budget(upper, self.bound(level, arguments[1]))

    def bound(self, level: str, argument: ast.Argument) -> Scalar:
        """One bound of a gate: it may depend on the advantage, and on the budget of the cell."""
        words = {BY_ADVANTAGE: Space.PURE}
        if level in self.spec.budgets:
            words["budget"] = self.spec.signal.space
        return self.magnitude(level, argument, words)

    def magnitude(
        self, level: str, argument: ast.Argument, words: Mapping[str, Space] = NOTHING
    ) -> Scalar:
        """The magnitude of one bound, in the space of the signal, certainly positive."""
        value = argument.value
        if isinstance(value, ast.Call) and value.function.text == "ratio":
            return self.ratio_bound(argument, value, words)
        wanted = self.spec.signal.space
        scalar, space = self.expr(value, words)
        scalar = at_level(scalar, level)
        if space is not None and space is not wanted:
            help = {
                Space.RATIO: "convert it: `ratio(...)`",
                Space.PURE: f"declare it `: {wanted}`, or multiply it with a budget",
            }.get(space, f"declare the parameter `: {wanted}`, or change the signal")
            raise self.diagnostics.bad(
                "FIB301",
                f"a budget at `{level}` is a {wanted}, and this is a {space}",
                value.span,
                help,
            )
        if isinstance(scalar, ByAdvantage) and isinstance(value, ast.Call):
            for part, written in zip((scalar.up, scalar.down), value.arguments, strict=True):
                self.positive(part, written.span, "budget")
        self.positive(scalar, value.span, "budget")
        return scalar

    def ratio_bound(
        self, argument: ast.Argument, call: ast.Call, words: Mapping[str, Space]
    ) -> Scalar:
        if len(call.arguments) != 1 or call.over is not None:
            raise self.diagnostics.bad(
                "FIB303",
                "`ratio(...)` takes one ratio",
                call.span,
                "a pair is written `+ratio(1.2), -ratio(0.8)`",
            )
        [bound] = call.arguments
        scalar, space = self.expr(bound, {w: s for w, s in words.items() if w == BY_ADVANTAGE})
        if space not in (None, Space.RATIO):
            raise self.diagnostics.bad(
                "FIB303",
                f"`ratio(...)` takes a ratio, and this is a {space}",
                bound.span,
                "give it a number or a `: ratio` parameter",
            )
        interval = bounds(scalar, self.ranges)
        lower = argument.kind == "lower"
        one = Interval.point(1.0)
        certain = (one - interval).positive if lower else (interval - one).positive
        if lower and not interval.positive:
            certain = False
        if not certain:
            side, where = ("lower", "between 0 and 1") if lower else ("upper", "above 1")
            fixed = interval.low == interval.high
            raise self.diagnostics.bad(
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

    def steepness(self, level: str, gate: ResolvedGate, k: Parameter) -> Scalar:
        written = gate.named.get(k.name)
        if written is None:
            default = self.default(gate, k).upper
            if level == TOKEN and counted(default):
                raise self.diagnostics.bad(
                    "FIB406",
                    f"a token has no children to take the steepness {k.name} from",
                    gate.gate_span,
                    f"give it: `{gate.rule.name}(..., {k.name} = 8)`",
                )
            return default
        scalar, space = self.expr(written.value, {**_COUNTS, BY_ADVANTAGE: Space.PURE}, "steepness")
        if level == TOKEN and counted(scalar):
            raise self.diagnostics.bad(
                "FIB406",
                "a token has no members to count",
                written.value.span,
                f"write a number: `{gate.rule.name}(..., {k.name} = 8)`",
            )
        if space not in (None, Space.PURE):
            raise self.diagnostics.bad(
                "FIB301",
                f"{k.name} is a pure number, and this is a {space}",
                written.value.span,
                "declare the parameter `: pure`",
            )
        self.positive(scalar, written.value.span, "steepness")
        if math.isinf(bounds(scalar, self.ranges).low):
            raise self.diagnostics.bad(
                "FIB402", f"{k.name} is infinite", written.value.span, "use `clip` instead"
            )
        return scalar

    # --- cells ----------------------------------------------------------------------------------

    def cell_budgets(self) -> dict[str, CellBudget]:
        """The budgets of cells, by level; what they can be is known from here on."""
        found = {}
        for level in self.spec.levels:
            clause = self.spec.budgets.get(level.name)
            if clause is None or level.key is None:
                continue
            scalars: dict[str | None, Scalar] = {}
            for entry in clause.entries:
                argument = ast.Argument("upper", entry.value, entry.value.span)
                with contextlib.suppress(ReportedError):
                    scalars[entry.name.text if entry.name else None] = self.magnitude(
                        level.name, argument
                    )
            otherwise = scalars.pop(None, None)
            entries = {name: s for name, s in scalars.items() if name is not None}
            found[level.name] = CellBudget(level.key, entries, otherwise, clause.span)
            every = [*entries.values(), *([otherwise] if otherwise is not None else [])]
            self.ranges[cell_budget_name(level.name)] = (
                hull(bounds(s, self.ranges) for s in every)
                if every
                else Interval(0.0, math.inf, True, True)
            )
        return found

    # --- hierarchy ------------------------------------------------------------------------------

    def hierarchy(self) -> None:
        gated = [name for name in self.names if name in self.spec.gates]
        if not gated:
            return
        coarsest = gated[-1]
        for name in self.names[: self.names.index(coarsest) + 1]:
            gate = self.spec.gates.get(name)
            if gate is None:
                self.diagnostics.add(
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
                self.diagnostics.add("FIB204", why, gate.span, f"write `{wanted}` here")


def _counted(number: int) -> str:
    return f"{number} argument{'s' if number != 1 else ''}"


def _scalar(default: Expr) -> Scalar:
    """The default of a parameter of a gate: numbers and counts."""
    match default:
        case Input(index):
            return Count(list(CELL_COUNTS)[index])
        case Call(("+" | "-" | "*" | "/") as operator, (left, right)):
            return Binary(operator, _scalar(left), _scalar(right))
        case Const():
            return default
        case _:
            raise AssertionError(default)
