"""The statements about single tokens: let, bypass, surrogate, weight, penalty."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast

from fibc.analysis.proofs.enclosure import doubts, enclosure
from fibc.expressions import LOG, PURE, RATIO, Expressions, Typed, Unit, unit_of
from fibc.gates.use import LEAVES, total_range
from fibc.ir.expression import Expr, Input, inputs_of, show, substituted
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified
from fibc.quantities import BadExpressionError, Quantities
from fibc.resolved import Resolved
from fibc.typed import Aggregate, Bypass, TokenValue
from fibdsl.diagnostics.diagnostic import nearest
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, TRAJECTORY

NAMES: dict[str, Unit] = {
    "log_ratio": LOG,
    "ratio": RATIO,
    "logp": LOG,
    "old_logp": LOG,
    "ref_logp": LOG,
    "rollout_logp": LOG,
    "prob": PURE,
    "old_prob": PURE,
    "advantage": PURE,
    "gated_ratio": RATIO,
}
"""What is known of a token, and its unit."""

TokenStatements = tuple[
    tuple[Aggregate, ...],
    tuple[Bypass, ...],
    TokenValue | None,
    TokenValue | None,
    TokenValue | None,
]


def token_statements(spec: Resolved, quantities: Quantities) -> TokenStatements:
    """The aggregates that expressions use, bypasses, surrogate, weight and penalty; findings go to
    the diagnostics."""
    return _Tokens(spec, quantities).run()


@dataclass
class _Tokens:
    spec: Resolved
    quantities: Quantities
    sums: list[Aggregate] = field(default_factory=list)
    lets: dict[str, Typed] = field(default_factory=dict)
    known: dict[str, Interval] = field(default_factory=lambda: dict(LEAVES))

    def __post_init__(self) -> None:
        params = {
            name: unit_of(p.space)
            for name, p in self.quantities.declared.items()
            if name not in NAMES
        }
        self.typing = Expressions(
            self.quantities.diagnostics,
            NAMES,
            params,
            aggregate=self.aggregate,
            elsewhere={
                "budget": "it is known to the gates of its level",
                "size": "it is known to gates",
                "tokens": "it is known to gates; here write `sum(1 over trajectory)`",
            },
            lets=self.lets,
            free=True,
        )

    def run(self) -> TokenStatements:
        bypasses: list[Bypass] = []
        found: dict[type, TokenValue] = {}
        # Names first, wherever they stand: in an objective that extends another they are written
        # below what they are for.
        for statement in sorted(self.spec.token, key=lambda s: not isinstance(s, ast.Let)):
            with contextlib.suppress(BadExpressionError):
                if isinstance(statement, ast.Let):
                    self.let(statement)
                elif isinstance(statement, ast.Bypass):
                    bypasses.append(self.bypass(statement))
                else:
                    typed = partial(self.typing.body, statement.body)
                    found.setdefault(type(statement), self.value(typed, statement.span))
        self.unused_lets()
        surrogate, weight, penalty = map(found.get, (ast.Surrogate, ast.Weight, ast.Penalty))
        return tuple(self.sums), tuple(bypasses), surrogate, weight, penalty

    def let(self, statement: ast.Let) -> None:
        name = statement.name.text
        taken = "a word of the language" if name in NAMES else "a parameter already"
        if name in NAMES or name in self.quantities.declared:
            self.typing.bad(
                "FIB104",
                f"`{name}` is {taken}",
                statement.name.span,
                "choose another name",
            )
        elif name in self.lets:
            self.typing.bad("FIB103", f"a second `let {name}`", statement.name.span, "rename it")
        else:
            self.lets[name] = self.typing.body(statement.body)

    def unused_lets(self) -> None:
        for statement in self.spec.token:
            if isinstance(statement, ast.Let) and statement.name.text in self.lets:
                name = statement.name.text
                if name not in self.typing.used:
                    self.typing.bad(
                        "FIB109", f"nothing uses `{name}`", statement.name.span, "delete it"
                    )

    def bypass(self, statement: ast.Bypass) -> Bypass:
        # Without gated_ratio: that is what is being said.
        self.typing.names = {n: u for n, u in NAMES.items() if n != "gated_ratio"}
        try:
            condition = self.value(
                lambda: (self.typing.condition(statement.condition), None), statement.span
            )
            value = self.value(lambda: self.typing.expr(statement.value), statement.span, RATIO)
        finally:
            self.typing.names = NAMES
        return Bypass(condition, value, statement.span)

    def value(
        self, typed: Callable[[], Typed], span: Span, wanted: Unit | None = None
    ) -> TokenValue:
        expr, unit = typed()
        if wanted is not None and unit not in (None, PURE, wanted):
            raise self.typing.bad(
                "FIB301",
                f"a gated ratio is a ratio, and this is a {unit}",
                span,
                "write the ratio that stands for it: `ratio`, `min(ratio, 3)`, `exp(...)`",
            )
        value = compressed(simplified(expr), self.typing.inputs)
        inputs = [self.known[name] for name in value.inputs]
        for function, argument, interval in doubts(value.expr, self.quantities.ranges, inputs):
            what = {"/": "divides by", "log": "takes the log of", "sqrt": "takes the root of"}
            shown = show(argument, value.inputs)
            raise self.typing.bad(
                "FIB305",
                f"this {what[function]} `{shown}`, which can be anything in {interval}",
                span,
                f"keep it away from 0: `max({shown}, 1e-8)`",
            )
        return value

    def aggregate(self, call: ast.Call, typing: Expressions) -> Typed:
        """`mean(e over LEVEL)`: a name for it, which stands for its value at each token."""
        name, span = call.function.text, call.span
        if call.over is None or len(call.arguments) != 1:
            raise typing.bad(
                "FIB302",
                f"`{name}` takes one value and the cells it is taken over",
                span,
                f"write `{name}({'x' if not call.arguments else '...'} over trajectory)`",
            )
        levels = [level.name for level in self.spec.levels]
        known = levels if TRAJECTORY in levels else [*levels, TRAJECTORY]
        level = call.over.text
        if level not in known or level == TOKEN:
            raise typing.bad(
                "FIB201",
                f"unknown level `{level}`" if level != TOKEN else "a token has one value",
                call.over.span,
                nearest(level, [k for k in known if k != TOKEN]),
            )
        expr, unit = typing.expr(call.arguments[0])
        value = compressed(simplified(expr), typing.inputs)
        if not value.inputs:
            # Of a number only how many tokens there are matters.
            value = TokenValue(value.expr, ("log_ratio",))
        text = f"{name}({show(value.expr, value.inputs)} over {level})"
        if text not in self.known:
            self.sums.append(Aggregate(text, cast(Literal["mean", "sum"], name), level, value))
            inside = [self.known[i] for i in value.inputs]
            one = enclosure(value.expr, self.quantities.ranges, inside)
            self.known[text] = one if name == "mean" else total_range(one)
        return typing.input(text), unit


def compressed(expr: Expr, names: list[str]) -> TokenValue:
    """An expression with the inputs it uses, in their order."""
    used = sorted(inputs_of(expr))
    places: list[Expr] = [Input(0)] * len(names)
    for place, index in enumerate(used):
        places[index] = Input(place)
    return TokenValue(substituted(expr, places), tuple(names[index] for index in used))
