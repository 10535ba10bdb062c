"""A gate from its definition: the names and units of its body, and its linear pieces."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePath

from fibc.analysis.proofs.enclosure import doubts
from fibc.analysis.proofs.shape import ZERO, shape
from fibc.expressions import Expressions, Typed
from fibc.gates.leaves import LEAVES, REALS
from fibc.gates.parity import unseen
from fibc.gates.rule import Case, Formula, GateRule, Parameter, Piece
from fibc.ir.expression import Call, Const, Expr, Input, fold, inputs_of, show
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified
from fibc.no_value import no_value
from fibc.quantities import BadExpressionError
from fibc.units import LOG, PURE, RATIO, SIGNAL, Unit, conversion, unit_of
from fibdsl.builtins import CELL_COUNTS, GATE_WORDS, RESERVED
from fibdsl.diagnostics.diagnostic import Diagnostics, Label, nearest
from fibdsl.diagnostics.errors import InternalError
from fibdsl.source import Source, Span
from fibdsl.syntax import ast
from fibdsl.types import Space

_UNITS = {"ratio": RATIO, "prob": PURE, "old_prob": PURE}
_CONTEXT = {
    **dict.fromkeys(CELL_COUNTS, PURE),
    "advantage": PURE,
    **{name: _UNITS.get(name, LOG) for name in GATE_WORDS},
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
    except BadExpressionError:
        return None


@dataclass
class _Definition:
    definition: ast.GateDefinition
    source: Source
    diagnostics: Diagnostics
    gates: frozenset[str]

    def rule(self) -> GateRule:
        x, *others = self.definition.parameters
        self.named()
        signal = self.signal(x)
        unit = SIGNAL if signal is None else unit_of(signal)
        parameters = tuple(self.parameter(p) for p in others)
        names = {x.name.text: unit}
        for parameter in parameters:
            names[parameter.name] = unit if parameter.space is None else unit_of(parameter.space)
        typing = Expressions(
            self.diagnostics,
            {**names, **_CONTEXT},
            sign_only=True,
            elsewhere=_ELSEWHERE,
            gates=self.gates,
            unknown="a gate knows its parameters; what else it needs has to be one of them",
        )
        typing.input(x.name.text)
        cases = self.cases(typing, unit)
        inputs = ("x", *typing.inputs[1:])
        rule = GateRule(
            self.definition.name.text,
            _text(cases, typing.inputs),
            PurePath(self.source.path).name,
            parameters,
            inputs,
            cases,
            signal=signal,
            x=x.name.text,
            context=tuple(
                ast.Name(name, span) for name, span in typing.written.items() if name in _CONTEXT
            ),
            places=typing.places,
        )
        self.certain(rule)
        rule = replace(rule, pieces=_pieces(rule))
        return replace(rule, odd=self.odd(rule))

    def named(self) -> None:
        """Every parameter has a name that nothing else has."""
        seen: set[str] = set()
        for p in self.definition.parameters:
            name = p.name.text
            if name in RESERVED - {"k"}:
                raise self.bad(
                    "FIB104",
                    f"`{name}` is a word of the language",
                    p.name.span,
                    "choose another name for the parameter",
                )
            if name in seen:
                raise self.bad("FIB103", f"a second parameter `{name}`", p.name.span, "rename it")
            seen.add(name)

    def signal(self, x: ast.Parameter) -> Space | None:
        if x.default is not None:
            raise self.bad(
                "FIB401",
                "what is gated has no default",
                x.default.span,
                "delete the default; what is given to a gate begins with its second parameter",
            )
        if x.space is None:
            return None
        spaces = (Space.LOG.value, Space.DEVIATION.value)
        if x.space.text not in [s.value for s in Space]:
            help = nearest(x.space.text, spaces)
            raise self.bad("FIB106", f"unknown space `{x.space.text}`", x.space.span, help)
        if x.space.text not in spaces:
            raise self.bad(
                "FIB304",
                f"what is gated is a log or a deviation, not a {unit_of(Space(x.space.text))}",
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
        default = None if p.default is None else self.default(p.default, space)
        return Parameter(p.name.text, space, default)

    # --- defaults -------------------------------------------------------------------------------

    def default(self, written: ast.Expr, space: Space | None) -> Expr:
        """A default: numbers, and for a plain number counts of the cell; a budget is positive."""
        counts = CELL_COUNTS if space is Space.PURE else {}
        value = simplified(self.arithmetic(written, tuple(counts)))
        if space is not None and isinstance(value, Const) and not math.isfinite(value.value):
            raise self.bad("FIB402", "this default is infinite", written.span, "write a number")
        if space is None and not (isinstance(value, Const) and value.value > 0):
            raise self.bad(
                "FIB402",
                "a default budget is not positive",
                written.span,
                "a budget is a magnitude: a number above 0, without its sign",
            )
        return value

    def arithmetic(self, expr: ast.Expr, counts: tuple[str, ...]) -> Expr:
        match expr:
            case ast.Number(value, _):
                return Const(value)
            case ast.Reference("inf", _):
                return Const(math.inf)
            case ast.Reference(name, _) if name in counts:
                return Input(list(CELL_COUNTS).index(name))
            case ast.Negative(operand, _):
                return Call("-", (Const(0.0), self.arithmetic(operand, counts)))
            case ast.Binary(operator, left, right, span):
                divisor = self.arithmetic(right, counts)
                if operator == "/" and simplified(divisor) == Const(0.0):
                    raise self.bad("FIB302", "division by zero", span, "mend the divisor")
                return Call(operator, (self.arithmetic(left, counts), divisor))
        made = "numbers, `size` and `tokens`" if counts else "numbers only"
        raise self.bad(
            "FIB101",
            f"a default is made of {made}",
            expr.span,
            "write the number out, or no default",
        )

    # --- the body -------------------------------------------------------------------------------

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
            assert unit is not None
            raise self.bad(
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
                    shown = self.text(place)
                message, help = no_value(function, shown, found)
                raise self.bad("FIB305", message, place, help)

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

    def text(self, span: Span) -> str:
        return " ".join(self.source.text[span.start : span.end].split())

    def bad(self, code: str, message: str, span: Span, help: str) -> BadExpressionError:
        self.diagnostics.add(code, message, span, help)
        return BadExpressionError()


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
    """A gate as linear pieces of |x|, in a budget and a steepness; none if it is made of others."""
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
    return tuple(pieces) if _in_order(replace(rule, pieces=tuple(pieces))) else ()


def _in_order(rule: GateRule) -> bool:
    """Whether the pieces are multiples of the budget and follow one another, for every k > 0."""
    try:
        pieces = shape(rule).pieces
    except InternalError:
        return False
    k = Interval(Fraction(0), math.inf, True, True)
    ends = [piece.until for piece in pieces if piece.until is not None]
    steps = [after - before for before, after in itertools.pairwise([ZERO, *ends])]
    return all(step.at(k).positive for step in steps)


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
