"""The statements about single tokens: let, bypass, surrogate, weight, penalty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, cast

from fibc.analysis.proofs.enclosure import doubts, enclosure
from fibc.expressions.cases import labelled, typed_body, typed_condition
from fibc.expressions.expression import each, typed
from fibc.expressions.functions import check_bounds
from fibc.expressions.scope import Scope, Typed
from fibc.gates.leaves import LEAVES
from fibc.gates.use import total_range
from fibc.ir.expression import Expr, Input, inputs_of, params_of, show, size, substituted
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified
from fibc.no_value import no_value
from fibc.resolved import Resolved
from fibc.typecheck.quantities import Quantities
from fibc.typed import Aggregate, Bypass, TokenValue
from fibc.units import PURE, RATIO, TOKEN_UNITS, Unit, conversion, unit_of
from fibdsl.builtins import RESERVED
from fibdsl.diagnostics.diagnostic import ReportedError, collected, nearest
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.syntax.walk import references
from fibdsl.types import TOKEN, TRAJECTORY

GATED = "gated_ratio"
_MEAN = "mean"

# A `let` is written out wherever it is used, so a few lines can double an expression each; the
# largest of a published objective has about 50.
_MOST = 1_000

_ELSEWHERE = {
    "budget": "it is known to the gates of its level",
    "size": "it is known to gates; for the tokens of a cell write `sum(1 over trajectory)`",
    "tokens": "it is known to gates; here write `sum(1 over trajectory)`",
}
_IN_BYPASS = {GATED: "a bypass says what it is; write `ratio`, or what else it shall be"}

TokenStatements = tuple[
    tuple[Aggregate, ...],
    tuple[Bypass, ...],
    TokenValue | None,
    TokenValue | None,
    TokenValue | None,
    dict[str, TokenValue],
]


def token_statements(spec: Resolved, quantities: Quantities) -> TokenStatements:
    """The aggregates that expressions use, bypasses, surrogate, weight and penalty, and by the name
    of a metric which tokens are in a labelled case; findings go to the diagnostics."""
    return _Tokens(spec, quantities).run()


@dataclass
class _Tokens:
    spec: Resolved
    quantities: Quantities
    sums: list[Aggregate] = field(default_factory=list)
    lets: dict[str, Typed] = field(default_factory=dict)
    known: dict[str, Interval] = field(default_factory=lambda: dict(LEAVES))
    gated: set[str] = field(default_factory=lambda: {GATED})
    """The inputs that hang on the gated ratio."""

    def __post_init__(self) -> None:
        params = {
            name: unit_of(p.space)
            for name, p in self.quantities.declared.items()
            if name not in TOKEN_UNITS and name not in self.quantities.silent
        }
        self.silent: set[str] = set(self.quantities.silent)
        self.diagnostics = self.quantities.diagnostics
        self.scope = Scope(
            self.diagnostics,
            TOKEN_UNITS,
            params,
            aggregate=self.aggregate,
            elsewhere=_ELSEWHERE,
            gates=self.spec.gate_names,
            lets=self.lets,
            silent=self.silent,
            free=True,
            said=self.quantities.said,
        )

    def run(self) -> TokenStatements:
        # Names first, wherever they stand: in an objective that extends another they are written
        # below what they are for.
        lets = [s for s in self.spec.token if isinstance(s, ast.Let)]
        for place, statement in enumerate(lets):
            below = {s.name.text for s in lets[place:]} - self.lets.keys() - self.silent
            self.scope.elsewhere = {
                **_ELSEWHERE,
                **dict.fromkeys(below, "its `let` stands further down; move that one up"),
                statement.name.text: "it is what is being defined",
            }
            try:
                self.let(statement)
            except ReportedError:
                self.silent.add(statement.name.text)
        self.scope.elsewhere = _ELSEWHERE
        bypasses: list[Bypass] = []
        found: dict[type, TokenValue] = {}
        labelled: dict[str, TokenValue] = {}
        failed = bool(self.silent)
        for other in self.spec.token:
            try:
                if isinstance(other, ast.Bypass):
                    bypasses.append(self.bypass(other))
                elif not isinstance(other, ast.Let):
                    make = partial(typed_body, other.body, self.scope)
                    found.setdefault(type(other), self.value(make, other.span))
                    labelled |= self.labelled(other)
            except ReportedError:
                failed = True
        if not failed:  # else what uses it may be what is wrong
            self.unused_lets()
        surrogate, weight, penalty = map(found.get, (ast.Surrogate, ast.Weight, ast.Penalty))
        return tuple(self.sums), tuple(bypasses), surrogate, weight, penalty, labelled

    def labelled(
        self, statement: ast.Surrogate | ast.Weight | ast.Penalty
    ) -> dict[str, TokenValue]:
        """Which tokens are in the cases of each label, by the name of the metric."""
        word = type(statement).__name__.lower()
        for label in _labels(statement.body):
            if label.text == _MEAN:
                raise self.diagnostics.bad(
                    "FIB104",
                    f"`{word}/{_MEAN}` is a metric already",
                    label.span,
                    "choose another label",
                )
        return {
            f"{word}/{label}": compressed(simplified(hit), self.scope.inputs)
            for label, hit in labelled(statement.body, self.scope).items()
        }

    # --- let ------------------------------------------------------------------------------------

    def let(self, statement: ast.Let) -> None:
        name, span = statement.name.text, statement.name.span
        if name in self.lets or name in self.silent:
            raise self.diagnostics.bad("FIB103", f"a second `let {name}`", span, "rename it")
        if name in RESERVED or name in self.quantities.declared:
            taken = "a parameter already"
            if name in RESERVED:
                taken = "a word of the language"
            raise self.diagnostics.bad(
                "FIB104", f"`{name}` is {taken}", span, "choose another name"
            )
        for label in _labels(statement.body):
            self.diagnostics.add(
                "FIB209",
                f"the label `{label.text}` has no effect in a `let`",
                label.span,
                "delete it; cases of a `surrogate`, a `weight`, a `penalty` and of gates are "
                "measured by their labels",
            )
        value = self.written_out(typed_body(statement.body, self.scope), span)
        check_bounds(self.scope, self.quantities.ranges, self.known)
        self.lets[name] = value

    def unused_lets(self) -> None:
        lets = {s.name.text: s for s in self.spec.token if isinstance(s, ast.Let)}
        used = {name for s in self.spec.token for name in references(s) if s is not lets.get(name)}
        for name, statement in lets.items():
            if name in self.lets and name not in used:
                self.diagnostics.add(
                    "FIB109",
                    f"nothing uses `{name}`",
                    statement.name.span,
                    "use it in a `surrogate`, a `weight` or a `penalty`, or delete it",
                )

    def written_out(self, given: Typed, span: Span) -> Typed:
        """An expression that is not too large to be looked at."""
        number = size(given[0])
        if number > _MOST:
            raise self.diagnostics.bad(
                "FIB306",
                f"with each `let` written out this has {number:,} operations, numbers and names",
                span,
                f"{_MOST:,} are the most: use fewer names in it, or each of them less often",
            )
        return given

    # --- values ---------------------------------------------------------------------------------

    def bypass(self, statement: ast.Bypass) -> Bypass:
        # Without gated_ratio: that is what is being said.
        self.scope.names = {n: u for n, u in TOKEN_UNITS.items() if n != GATED}
        self.scope.elsewhere = {**_ELSEWHERE, **_IN_BYPASS}
        self.scope.hidden = self.gated

        def condition() -> Typed:
            return typed_condition(statement.condition, self.scope), None

        try:
            both = collected(
                [
                    partial(self.value, condition, statement.span),
                    partial(
                        self.value,
                        partial(typed, statement.value, self.scope),
                        statement.value.span,
                        RATIO,
                    ),
                ]
            )
        finally:
            self.scope.names, self.scope.elsewhere = TOKEN_UNITS, _ELSEWHERE
            self.scope.hidden = ()
        return Bypass(both[0], both[1], statement.span)

    def value(
        self, make: Callable[[], Typed], span: Span, wanted: Unit | None = None
    ) -> TokenValue:
        expr, unit = self.written_out(make(), span)
        if wanted is not None and unit not in (None, PURE, wanted):
            assert unit is not None
            raise self.diagnostics.bad(
                "FIB301",
                f"a gated ratio is a ratio, and this is a {unit}",
                span,
                conversion(unit, wanted),
            )
        value = replace(compressed(simplified(expr), self.scope.inputs), span=span)
        self.certain(value, span)
        return value

    def certain(self, value: TokenValue, span: Span) -> None:
        """Reports what may have no value, and bounds that hold nothing."""
        check_bounds(self.scope, self.quantities.ranges, self.known)
        inputs = [self.known[name] for name in value.inputs]
        for function, argument, interval in doubts(value.expr, self.quantities.ranges, inputs):
            shown = show(argument, value.inputs)
            place = self.scope.places.get((function, shown), span)
            if place is not span:
                shown = self.diagnostics.text(place)
            given = not inputs_of(argument) and bool(params_of(argument))
            message, help = no_value(function, shown, interval, given=given)
            raise self.diagnostics.bad("FIB305", message, place, help)

    def aggregate(self, call: ast.Call) -> Typed:
        """`mean(e over LEVEL)`: a name for it, which stands for its value at each token."""
        name = call.function.text
        inner = [self.written_out(value, call.span) for value in each(call.arguments, self.scope)]
        if call.over is None or len(inner) != 1:
            shown = self.diagnostics.text(call.arguments[0].span)
            raise self.diagnostics.bad(
                "FIB302",
                f"`{name}` takes one value and the level it is taken over",
                call.span,
                f"write `{name}({shown} over {self.coarser()[0]})`",
            )
        level = call.over.text
        if level == TOKEN:
            shown = ", ".join(f"`{coarser}`" for coarser in self.coarser())
            raise self.diagnostics.bad(
                "FIB201",
                f"a token has one value, of which there is no {name}",
                call.over.span,
                f"take it over a coarser level: {shown}",
            )
        if level in self.spec.unknown_levels:
            raise ReportedError
        if level not in self.coarser():
            help = nearest(level, self.coarser())
            raise self.diagnostics.bad("FIB201", f"unknown level `{level}`", call.over.span, help)
        [(expr, unit)] = inner
        value = compressed(simplified(expr), self.scope.inputs)
        self.certain(value, call.span)
        if not value.inputs:
            # Of a number only how many tokens there are matters.
            value = TokenValue(value.expr, ("log_ratio",))
        text = f"{name}({show(value.expr, value.inputs)} over {level})"
        if text not in self.known:
            self.sums.append(Aggregate(text, cast(Literal["mean", "sum"], name), level, value))
            inside = [self.known[i] for i in value.inputs]
            one = enclosure(value.expr, self.quantities.ranges, inside)
            self.known[text] = one if name == "mean" else total_range(one)
            if self.gated & set(value.inputs):
                self.gated.add(text)
        return self.scope.input(text), unit

    def coarser(self) -> list[str]:
        """The levels that values can be taken over."""
        levels = [level.name for level in self.spec.levels if level.name != TOKEN]
        return levels if TRAJECTORY in levels else [*levels, TRAJECTORY]


def _labels(body: ast.Body) -> list[ast.Name]:
    cases = body.cases if isinstance(body, ast.Cases) else ()
    return [case.label for case in cases if case.label is not None]


def compressed(expr: Expr, names: list[str]) -> TokenValue:
    """An expression with the inputs it uses, in their order."""
    used = sorted(inputs_of(expr))
    places: list[Expr] = [Input(0)] * len(names)
    for place, index in enumerate(used):
        places[index] = Input(place)
    return TokenValue(substituted(expr, places), tuple(names[index] for index in used))
