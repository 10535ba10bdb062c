"""A gate from its definition: the names and units of its body, and its linear pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

from fibc.expressions import LOG, PURE, RATIO, Expressions, Typed, Unit, unit_of
from fibc.gates.parity import is_odd
from fibc.gates.rule import Case, Formula, GateRule, Parameter, Piece
from fibc.ir.expression import Call, Const, Expr, Input, fold, inputs_of, show
from fibc.ir.simplify import simplified
from fibc.quantities import BadExpressionError
from fibdsl.builtins import CELL_COUNTS
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.source import Source
from fibdsl.syntax import ast
from fibdsl.types import Space

SIGNAL = Unit("signal")

TOKEN_CONTEXT = {
    "log_ratio": LOG,
    "ratio": RATIO,
    "logp": LOG,
    "old_logp": LOG,
    "prob": PURE,
    "old_prob": PURE,
}
"""What a gate may look at besides its cell, at the token."""

_CONTEXT = {**dict.fromkeys(CELL_COUNTS, PURE), "advantage": PURE, **TOKEN_CONTEXT}


def define(
    definition: ast.GateDefinition, source: Source, diagnostics: Diagnostics
) -> GateRule | None:
    """The gate that a definition describes, or None when it has errors (in `diagnostics`)."""
    try:
        return _Definition(definition, source, diagnostics).rule()
    except BadExpressionError:
        return None


@dataclass
class _Definition:
    definition: ast.GateDefinition
    source: Source
    diagnostics: Diagnostics

    def rule(self) -> GateRule:
        x, *others = self.definition.parameters
        signal = self.signal(x)
        unit = SIGNAL if signal is None else unit_of(signal)
        parameters = tuple(self.parameter(p) for p in others)
        self.distinct()
        names = {x.name.text: unit}
        for parameter in parameters:
            names[parameter.name] = unit if parameter.space is None else unit_of(parameter.space)
        context = {name: u for name, u in _CONTEXT.items() if name not in names}
        typing = Expressions(self.diagnostics, {**names, **context}, sign_only=True)
        typing.input(x.name.text)
        cases = self.cases(typing, unit)
        inputs = ("x", *typing.inputs[1:])
        text = _text(cases, typing.inputs)
        rule = GateRule(
            self.definition.name.text,
            text,
            PurePath(self.source.path).name,
            parameters,
            inputs,
            cases,
            odd=self.definition.odd,
            signal=signal,
        )
        if not rule.odd:
            return rule
        pieces = _pieces(rule)
        if not pieces and not is_odd(rule):
            self.diagnostics.add(
                "FIB505",
                f"`{rule.name}` is not seen to be odd",
                self.definition.name.span,
                "write its cases in |x|, sign(x) and odd functions of x, or delete `odd`",
            )
        return replace(rule, pieces=pieces)

    def signal(self, x: ast.Parameter) -> Space | None:
        if x.default is not None:
            raise self.bad("FIB401", "what is gated has no default", x.span, "delete the default")
        if x.space is None:
            return None
        spaces = (Space.LOG.value, Space.DEVIATION.value)
        if x.space.text not in spaces:
            raise self.bad(
                "FIB304",
                f"a signal is a log-ratio or a deviation, not a `{x.space.text}`",
                x.space.span,
                "write `: log` for `signal log_ratio`, `: deviation` for `signal ratio`, or "
                "nothing for either",
            )
        return Space(x.space.text)

    def parameter(self, p: ast.Parameter) -> Parameter:
        space = None
        if p.space is not None:
            spaces = [s.value for s in Space]
            if p.space.text not in spaces:
                help = nearest(p.space.text, spaces)
                raise self.bad("FIB106", f"unknown space `{p.space.text}`", p.space.span, help)
            space = Space(p.space.text)
        default = None
        if p.default is not None:
            counts = dict.fromkeys(CELL_COUNTS, PURE) if space is Space.PURE else {}
            value, _ = Expressions(self.diagnostics, counts, inputs=[*CELL_COUNTS]).expr(p.default)
            default = simplified(value)
        if p.name.text in _RESERVED:
            raise self.bad(
                "FIB104",
                f"`{p.name.text}` is a word of the language",
                p.name.span,
                "choose another name for the parameter",
            )
        return Parameter(p.name.text, space, default)

    def distinct(self) -> None:
        seen: set[str] = set()
        for p in self.definition.parameters:
            if p.name.text in seen:
                raise self.bad(
                    "FIB103", f"a second parameter `{p.name.text}`", p.name.span, "rename it"
                )
            seen.add(p.name.text)

    def cases(self, typing: Expressions, unit: Unit) -> tuple[Case, ...]:
        body = self.definition.body
        if not isinstance(body, ast.Cases):
            value = self.fits(typing.expr(body), unit, body)
            return (Case(_regime(None, value, 0), value, None),)
        found: list[Case] = []
        for index, (label, value, condition, case_unit) in enumerate(typing.cases(body)):
            value = self.fits((value, case_unit), unit, body.cases[index].value)
            regime = _regime(label, value, index)
            if regime in [case.regime for case in found]:
                regime = f"case_{index + 1}"
            found.append(Case(regime, value, None if condition is None else simplified(condition)))
        return tuple(found)

    def fits(self, typed: Typed, wanted: Unit, expr: ast.Expr) -> Expr:
        value, unit = typed
        if unit not in (None, wanted):
            raise self.bad(
                "FIB301",
                f"a gate gives back what it gates, a {wanted}, and this is a {unit}",
                expr.span,
                "convert it: `log` of a ratio is a log-ratio, a ratio `- 1` a deviation; or say "
                "what is gated, as in `gate g(x : deviation)`",
            )
        return simplified(value)

    def bad(self, code: str, message: str, span: object, help: str) -> BadExpressionError:
        self.diagnostics.add(code, message, span, help)  # type: ignore[arg-type]
        return BadExpressionError()


_RESERVED = frozenset({"inf", "ratio", *CELL_COUNTS, *_CONTEXT})


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


# --- linear pieces ------------------------------------------------------------------------------


def _pieces(rule: GateRule) -> tuple[Piece, ...]:
    """An odd gate as linear pieces of |x|, in a budget and a steepness; none if it is not one."""
    plain = [p for p in rule.parameters if p.space is not None]
    if len(rule.budgets) > 1 or len(plain) > 1 or any(p.space is not Space.PURE for p in plain):
        return ()
    places = {"x": None, **dict.fromkeys(rule.budgets, 0), **{p.name: 1 for p in plain}}
    if any(name not in places for name in rule.inputs):
        return ()
    slots = [places[name] for name in rule.inputs]
    pieces = []
    for case in rule.cases:
        linear = _linear(case.value, slots)
        end = (None, False) if case.condition is None else _end(case.condition, slots)
        if linear is None or end is None:
            return ()
        slope, intercept = linear
        until, inclusive = end
        pieces.append(Piece(case.regime, Formula(slope), Formula(intercept), until, inclusive))
    return tuple(pieces)


def _formula(expr: Expr, slots: list[int | None]) -> Expr | None:
    """An expression without x, its inputs by their place in a `Formula`; else None."""
    if any(slots[index] is None for index in inputs_of(expr)) or not _rational(expr):
        return None

    def placed(index: int) -> Expr:
        place = slots[index]
        assert place is not None
        return Input(place)

    moved: Expr = fold(
        expr, lambda name: None, placed, Const, lambda f, arguments: Call(f, tuple(arguments))
    )
    return moved


def _rational(expr: Expr) -> bool:
    match expr:
        case Call(function, arguments):
            return function in "+-*/" and all(map(_rational, arguments))
        case _:
            return True


def _end(condition: Expr, slots: list[int | None]) -> tuple[Formula, bool] | None:
    """The end of a piece: `|x| < end` or `|x| <= end`."""
    match condition:
        case Call(("<" | "<=") as operator, (Call("abs", (Input(0),)), bound)):
            formula = _formula(bound, slots)
            return None if formula is None else (Formula(formula), operator == "<=")
        case _:
            return None


def _linear(expr: Expr, slots: list[int | None]) -> tuple[Expr, Expr] | None:
    """The slope and the intercept of slope * x + intercept * sign(x); None if it is not that."""
    parts = _parts(expr, slots)
    if parts is None:
        return None
    slope, intercept, rest = (simplified(part) for part in parts)
    return (slope, intercept) if rest == Const(0.0) else None


def _parts(expr: Expr, slots: list[int | None]) -> tuple[Expr, Expr, Expr] | None:
    """Factors of x, of sign(x) and of 1."""
    zero, one = Const(0.0), Const(1.0)
    plain = _formula(expr, slots)
    if plain is not None:
        return zero, zero, plain
    match expr:
        case Input(0):
            return one, zero, zero
        case Call("sign", (Input(0),)):
            return zero, one, zero
        case Call(("+" | "-") as operator, (left, right)):
            a, b = _parts(left, slots), _parts(right, slots)
            if a is None or b is None:
                return None
            x, sign, rest = (Call(operator, pair) for pair in zip(a, b, strict=True))
            return x, sign, rest
        case Call("*", (left, right)):
            for factor, other in ((left, right), (right, left)):
                number, parts = _formula(factor, slots), _parts(other, slots)
                if number is not None and parts is not None:
                    x, sign, rest = (Call("*", (number, part)) for part in parts)
                    return x, sign, rest
            return None
        case Call("/", (left, right)):
            number, parts = _formula(right, slots), _parts(left, slots)
            if number is None or parts is None:
                return None
            x, sign, rest = (Call("/", (part, number)) for part in parts)
            return x, sign, rest
        case _:
            return None


CENSOR = GateRule(
    "censor",
    "clip to what the other members of the cell leave of its budget, "
    "max(0, n * delta - sum of the others' |x|)",
    "APC-Obj, arXiv 2603.08239, definition 3.2",
    (Parameter("delta", None),),
    ("x", "delta"),
    (
        # What neighbours leave can be nothing at all; then no x passes, 0 included.
        Case("pass", Input(0), Call("<", (Call("abs", (Input(0),)), Input(1)))),
        Case("clipped", Call("*", (Call("sign", (Input(0),)), Input(1))), None),
    ),
    neighbours=True,
)
CENSOR = replace(CENSOR, pieces=_pieces(CENSOR))
"""The one gate that no definition can say: it looks at other tokens."""
