"""Spaces, budgets and the shape of the hierarchy: what fits, and what is certainly positive."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace

from fibc.analysis.proofs.enclosure import doubts
from fibc.gates.define import TOKEN_CONTEXT
from fibc.gates.rule import GateRule, Parameter
from fibc.gates.use import at_level, cell_budget_name, gate_inputs
from fibc.ir.expression import Call, Expr, Input, show
from fibc.ir.interval import Interval, hull
from fibc.ir.scalar import Binary, Const, Count, Log, Negate, Scalar, bounds, counted
from fibc.promises import typed_promises
from fibc.quantities import BY_ADVANTAGE, NOTHING, BadExpressionError, Quantities
from fibc.resolved import Resolved, ResolvedGate
from fibc.token_statements import token_statements
from fibc.typed import Budget, CellBudget, TypedGate, TypedObjective
from fibdsl.builtins import CELL_COUNTS
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, Channels, Signal, Space

_COUNTS = dict.fromkeys(CELL_COUNTS, Space.PURE)


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
        budgets = self.cell_budgets()
        gates = {}
        for level in self.names:
            if level in self.spec.gates:
                gate = self.gate(level, self.spec.gates[level])
                if gate:
                    gates[level] = gate
        if not any(d.code in _INCOMPLETE for d in self.diagnostics.found):
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
            scalar, space = self.expr(expr)
            if space not in (None, Space.PURE):
                raise self.bad(
                    "FIB301",
                    f"a sum is divided by a pure number, and this is a {space}",
                    expr.span,
                    "declare the parameter `: pure`",
                )
            self.positive(scalar, expr.span, "divisor")
        except BadExpressionError:
            return None
        return scalar

    # --- gates ----------------------------------------------------------------------------------

    def gate(self, level: str, gate: ResolvedGate, after: bool = False) -> TypedGate | None:
        good = True
        if gate.rule.neighbours:
            good = self.neighbours(level, gate)
        good = self.context(level, gate, after) and good
        arguments: dict[str, Budget] = {}
        for given in (self.positional, self.named):
            try:
                arguments |= given(level, gate)
            except BadExpressionError:
                good = False
        if not good:
            return None
        typed = TypedGate(gate.rule, gate.role, arguments, gate.over, gate.pessimistic, gate.span)
        return typed if self.defined(level, gate, typed) else None

    def context(self, level: str, gate: ResolvedGate, after: bool) -> bool:
        """Whether the gate looks at nothing that is not where it stands."""
        rule = gate.rule
        wanted = self.spec.signal.space
        if rule.signal is not None and rule.signal is not wanted:
            self.error(
                "FIB304",
                f"`{rule.name}` gates a {rule.signal}, and the signal here is a {wanted}",
                gate.gate_span,
                f"use `signal {'log_ratio' if rule.signal is Space.LOG else 'ratio'}`",
            )
            return False
        counts = [name for name in rule.inputs if name in CELL_COUNTS]
        if counts and level == TOKEN:
            self.error(
                "FIB406",
                f"`{rule.name}` counts the members of a cell (`{counts[0]}`), and a token has none",
                gate.gate_span,
                "use it at a coarser level",
            )
            return False
        tokens = [name for name in rule.inputs if name in TOKEN_CONTEXT]
        if tokens and (level != TOKEN or after):
            self.error(
                "FIB209",
                f"`{rule.name}` looks at `{tokens[0]}` of a token, and stands at "
                + (f"`{level}`" if level != TOKEN else "the signal"),
                gate.gate_span,
                "use it at `token`",
            )
            return False
        return True

    def positional(self, level: str, gate: ResolvedGate) -> dict[str, Budget]:
        """The arguments without a name: budgets, or of a gate without any its plain numbers."""
        rule, left = gate.rule, list(gate.arguments)
        if rule.pieces or rule.neighbours:
            budget = self.budget(level, gate)
            return {} if budget is None else {rule.budgets[0]: budget}
        found: dict[str, Budget] = {}
        for parameter in rule.parameters:
            if _is_named(parameter, gate):
                continue
            if not left:
                found[parameter.name] = self.default(gate, parameter)
                continue
            argument = left.pop(0)
            if parameter.space is not None:
                found[parameter.name] = self.plain(level, rule, parameter, argument)
            elif argument.kind == "value":
                bound = self.bound(level, argument)
                found[parameter.name] = Budget(bound, bound)
            elif argument.kind == "upper" and left and left[0].kind == "lower":
                found[parameter.name] = Budget(
                    self.bound(level, argument), self.bound(level, left.pop(0))
                )
            else:
                raise self.bad(
                    "FIB401",
                    f"`{parameter.name}` of `{rule.name}` is one budget for both sides, or a pair",
                    argument.span,
                    "write `0.2` or `+0.2, -0.1`",
                )
        if left:
            raise self.bad(
                "FIB401",
                f"`{rule.name}` takes no further argument",
                left[0].span,
                f"write {_usage(rule)}",
            )
        return found

    def named(self, level: str, gate: ResolvedGate) -> dict[str, Budget]:
        """Plain numbers that are given by name, or could be."""
        rule = gate.rule
        if rule.pieces or rule.neighbours:
            k = rule.steepness
            if k is None:
                return {}
            steepness = self.steepness(level, gate, k)
            return {k.name: Budget(steepness, steepness)}
        found: dict[str, Budget] = {}
        for parameter in rule.parameters:
            if not _is_named(parameter, gate):
                continue
            written = gate.named.get(parameter.name)
            if written is None:
                found[parameter.name] = self.default(gate, parameter)
            else:
                argument = ast.Argument("value", written, written.span)
                found[parameter.name] = self.plain(level, rule, parameter, argument)
        return found

    def default(self, gate: ResolvedGate, parameter: Parameter) -> Budget:
        """What a parameter is that is not given."""
        if parameter.default is None:
            raise self.bad(
                "FIB401",
                f"`{gate.rule.name}` needs `{parameter.name}`",
                gate.gate_span,
                f"write {_usage(gate.rule)}",
            )
        scalar = _scalar(parameter.default)
        return Budget(scalar, scalar)

    def plain(
        self, level: str, rule: GateRule, parameter: Parameter, argument: ast.Argument
    ) -> Budget:
        """A number of the space that a gate wants."""
        if argument.kind == "upper":
            raise self.bad(
                "FIB401",
                f"`{parameter.name}` of `{rule.name}` is a number, and `+` begins a pair of "
                "budgets",
                argument.span,
                "write it without the sign",
            )
        words = {**({} if level == TOKEN else _COUNTS), BY_ADVANTAGE: Space.PURE}
        scalar, space = self.expr(argument.value, words)
        if argument.kind == "lower":
            scalar = Negate(scalar)
        if space is not None and space is not parameter.space:
            raise self.bad(
                "FIB301",
                f"`{parameter.name}` of `{rule.name}` is a {parameter.space}, and this is a "
                f"{space}",
                argument.value.span,
                f"declare the parameter `: {parameter.space}`",
            )
        return Budget(scalar, scalar)

    def defined(self, level: str, gate: ResolvedGate, typed: TypedGate) -> bool:
        """Whether the gate has a value whatever it is given; pieces always have one."""
        if typed.rule.pieces:
            return True
        for sign in (1, -1):
            inputs = gate_inputs(typed, self.ranges, sign)
            for case in typed.rule.cases:
                expressions = [e for e in (case.condition, case.value) if e is not None]
                whole = Call("where", (expressions[0], expressions[-1], Const(0.0)))
                for function, argument, found in doubts(
                    whole if len(expressions) > 1 else expressions[0], {}, inputs
                ):
                    shown = show(argument, typed.rule.inputs)
                    self.doubt(function, shown, found, gate.gate_span)
                    return False
        return True

    def doubt(self, function: str, shown: str, found: Interval, span: Span) -> None:
        what = {"/": "divides by", "log": "takes the log of", "sqrt": "takes the root of"}
        self.error(
            "FIB305",
            f"this {what[function]} `{shown}`, which can be anything in {found}",
            span,
            f"keep it away from 0 with `max({shown}, 1e-8)`, give its parameters ranges, or let a "
            "case exclude it",
        )

    def bad(self, code: str, message: str, span: Span, help: str) -> BadExpressionError:
        self.error(code, message, span, help)
        return BadExpressionError()

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
        """One bound of a gate: it may depend on the advantage, and on the budget of the cell."""
        words = {BY_ADVANTAGE: Space.PURE}
        if level in self.spec.budgets:
            words["budget"] = self.spec.signal.space
        return at_level(self.magnitude(level, argument, words), level)

    def magnitude(
        self, level: str, argument: ast.Argument, words: Mapping[str, Space] = NOTHING
    ) -> Scalar:
        """The magnitude of one bound, in the space of the signal, certainly positive."""
        value = argument.value
        if isinstance(value, ast.Call) and value.function.text == "ratio":
            return self.ratio_bound(argument, value, words)
        wanted = self.spec.signal.space
        scalar, space = self.expr(value, words)
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
        self.positive(at_level(scalar, level), value.span, "budget")
        return scalar

    def ratio_bound(
        self, argument: ast.Argument, call: ast.Call, words: Mapping[str, Space]
    ) -> Scalar:
        if len(call.arguments) != 1 or call.over is not None:
            raise self.bad(
                "FIB303",
                "`ratio(...)` takes one ratio",
                call.span,
                "a pair is written `+ratio(1.2), -ratio(0.8)`",
            )
        [bound] = call.arguments
        scalar, space = self.expr(bound, {w: s for w, s in words.items() if w == BY_ADVANTAGE})
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

    def steepness(self, level: str, gate: ResolvedGate, k: Parameter) -> Scalar:
        written = gate.named.get(k.name)
        if written is None:
            default = self.default(gate, k).upper
            if level == TOKEN and counted(default):
                raise self.bad(
                    "FIB406",
                    f"a token has no children to take the steepness {k.name} from",
                    gate.gate_span,
                    f"give it: `{gate.rule.name}(..., {k.name} = 8)`",
                )
            return default
        scalar, space = self.expr(written, {**_COUNTS, BY_ADVANTAGE: Space.PURE})
        if level == TOKEN and counted(scalar):
            raise self.bad(
                "FIB406",
                "a token has no members to count",
                written.span,
                f"write a number: `{gate.rule.name}(..., {k.name} = 8)`",
            )
        if space not in (None, Space.PURE):
            raise self.bad(
                "FIB301",
                f"{k.name} is a pure number, and this is a {space}",
                written.span,
                "declare the parameter `: pure`",
            )
        self.positive(scalar, written.span, "steepness")
        if math.isinf(bounds(scalar, self.ranges).low):
            raise self.bad("FIB402", f"{k.name} is infinite", written.span, "use `clip` instead")
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
                with contextlib.suppress(BadExpressionError):
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


def _is_named(parameter: Parameter, gate: ResolvedGate) -> bool:
    """Whether an argument goes by its name: plain numbers do beside budgets, and where one does."""
    plain = parameter.space is not None
    return parameter.name in gate.named or (plain and bool(gate.rule.budgets))


def _usage(rule: GateRule) -> str:
    """How a gate is called."""
    budgets = [p.name for p in rule.parameters if p.space is None]
    plain = [f"{p.name} = ..." for p in rule.parameters if p.space is not None]
    return f"`{rule.name}({', '.join([*budgets, *plain])})`"


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
