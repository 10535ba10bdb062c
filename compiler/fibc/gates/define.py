"""A gate from its definition: the names and units of its body, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePath

from fibc.analysis.proofs.enclosure import doubts
from fibc.expressions.cases import typed_cases
from fibc.expressions.expression import typed
from fibc.expressions.functions import check_bounds
from fibc.expressions.scope import Scope
from fibc.gates.leaves import LEAVES, REALS
from fibc.gates.parity import unseen
from fibc.gates.pieces import linear_pieces
from fibc.gates.rule import Case, GateRule
from fibc.gates.signature import signature
from fibc.ir.expression import Const, Expr, Input, inputs_of, show
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified
from fibc.no_value import no_value
from fibc.units import PURE, SIGNAL, TOKEN_UNITS, Unit, conversion, unit_of
from fibdsl.builtins import CELL_COUNTS, GATE_WORDS
from fibdsl.diagnostics.diagnostic import Diagnostics, Label, ReportedError
from fibdsl.source import Source
from fibdsl.syntax import ast

_CONTEXT = {
    **dict.fromkeys(CELL_COUNTS, PURE),
    **{name: TOKEN_UNITS[name] for name in ("advantage", *GATE_WORDS)},
}
"""What a gate may look at besides its parameters: its cell, or at the token the token."""

_ELSEWHERE = {
    "gated_ratio": "it is what the gates make; a gate sees what it gates",
    **dict.fromkeys(
        ("ref_logp", "rollout_logp"), "it is known to `bypass`, `surrogate`, `weight` and `penalty`"
    ),
    "budget": "give it to the gate where it is used, as in `base NAME(budget)`",
}


def define(
    definition: ast.GateDefinition,
    source: Source,
    diagnostics: Diagnostics,
    gates: frozenset[str] = frozenset(),
) -> GateRule | None:
    """The gate that a definition describes, or None when it has errors (in `diagnostics`).

    Args:
        gates: names of gates, for messages: a gate cannot use another one.
    """
    try:
        return _Definition(definition, source, diagnostics, gates).rule()
    except ReportedError:
        return None


@dataclass
class _Definition:
    definition: ast.GateDefinition
    source: Source
    diagnostics: Diagnostics
    gates: frozenset[str]

    def rule(self) -> GateRule:
        x = self.definition.parameters[0]
        signal, parameters = signature(self.definition, self.diagnostics)
        unit = SIGNAL if signal is None else unit_of(signal)
        names = {x.name.text: unit}
        for parameter in parameters:
            names[parameter.name] = unit if parameter.space is None else unit_of(parameter.space)
        scope = Scope(
            self.diagnostics,
            {**names, **_CONTEXT},
            sign_only=True,
            elsewhere=_ELSEWHERE,
            gates=self.gates,
            unknown="a gate knows its parameters; what else it needs has to be one of them",
        )
        scope.input(x.name.text)
        cases = self.cases(scope, unit)
        check_bounds(scope, {}, {name: LEAVES.get(name, REALS) for name in scope.inputs})
        inputs = ("x", *scope.inputs[1:])
        rule = GateRule(
            self.definition.name.text,
            _text(cases, scope.inputs),
            PurePath(self.source.path).name,
            parameters,
            inputs,
            cases,
            signal=signal,
            x=x.name.text,
            context=tuple(
                ast.Name(name, span) for name, span in scope.written.items() if name in _CONTEXT
            ),
            places=scope.places,
        )
        self.certain(rule)
        rule = replace(rule, pieces=linear_pieces(rule))
        return replace(rule, odd=self.odd(rule))

    def cases(self, scope: Scope, unit: Unit) -> tuple[Case, ...]:
        body = self.definition.body
        if not isinstance(body, ast.Cases):
            value = self.fits(*typed(body, scope), unit, body)
            return (Case(_regime(None, value, 0), value, None),)
        found: list[Case] = []
        for index, case in enumerate(typed_cases(body, scope)):
            value = self.fits(case.value, case.unit, unit, body.cases[index].value)
            regime = _regime(case.label, value, index)
            if regime in [other.regime for other in found]:
                regime = f"case_{index + 1}"
            condition = None if case.condition is None else simplified(case.condition)
            found.append(Case(regime, value, condition))
        return tuple(found)

    def fits(self, value: Expr, unit: Unit | None, wanted: Unit, expr: ast.Expr) -> Expr:
        if unit not in (None, wanted):
            assert unit is not None
            raise self.diagnostics.bad(
                "FIB301",
                f"a gate gives back what it gates, a {wanted}, and this is a {unit}",
                expr.span,
                conversion(unit, wanted),
            )
        return simplified(value)

    def certain(self, rule: GateRule) -> None:
        """Reports what may have no value whatever the gate is given; for the rest it is judged
        where the gate is used."""
        given = {p.name for p in rule.parameters}
        conditions = [case.condition for case in rule.cases if case.condition is not None]
        if any(rule.inputs[i] in given for c in conditions for i in inputs_of(c)):
            return
        everything = [LEAVES.get(name, REALS) for name in rule.inputs]
        for sign in (1, -1):
            inputs = [
                Interval.point(Fraction(sign)) if name == "advantage" else interval
                for name, interval in zip(rule.inputs, everything, strict=True)
            ]
            for function, argument, found in doubts(rule.whole, {}, inputs):
                if any(rule.inputs[i] in given for i in inputs_of(argument)):
                    continue
                shown = show(argument, rule.names)
                place = rule.places.get((function, shown), self.definition.name.span)
                if (function, shown) in rule.places:
                    shown = self.diagnostics.text(place)
                message, help = no_value(function, shown, found)
                raise self.diagnostics.bad("FIB305", message, place, help)

    def odd(self, rule: GateRule) -> bool:
        """Whether the gate is odd; reported where its definition says so and it is not seen."""
        case = None if rule.pieces else unseen(rule)
        if case is None or not self.definition.odd:
            return case is None
        index, part = case
        body, x = self.definition.body, rule.x
        written = body.cases[index] if isinstance(body, ast.Cases) else None
        span = body.span if written is None else written.value.span
        why = f"may not change its sign with {x}"
        if part == "condition" and written is not None and written.condition is not None:
            span = written.condition.span
            why = f"may not be the same for {x} and -{x}"
        self.diagnostics.add(
            "FIB505",
            f"`{rule.name}` is not seen to be odd: this {part} {why}",
            span,
            f"write it in |{x}|, sign({x}) and odd functions of {x}, or delete `odd`",
            labels=(Label(self.definition.name.span, "said to be `odd`"),),
        )
        return False


def _regime(label: str | None, value: Expr, index: int) -> str:
    if label is not None:
        return label
    if value == Input(0):
        return "pass"
    return "zeroed" if value == Const(0.0) else f"case_{index + 1}"


def _text(cases: tuple[Case, ...], names: list[str]) -> str:
    shown = []
    for case in cases:
        condition = "" if case.condition is None else f" when {show(case.condition, names)}"
        shown.append(show(case.value, names) + condition)
    return "; ".join(shown)
