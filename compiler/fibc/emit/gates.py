"""The gates a program uses, as functions on tensors, made from the table's pieces."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from fibc.emit import syntax as py
from fibc.gates.rule import GateRule, Piece


class _Symbol:
    """A Python expression that the formulas of the gate table can calculate with."""

    def __init__(self, tree: ast.expr) -> None:
        self.tree = tree

    @staticmethod
    def of(value: Any) -> ast.expr:
        return value.tree if isinstance(value, _Symbol) else py.constant(value)

    def __add__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("+", self.tree, _Symbol.of(other)))

    def __radd__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("+", _Symbol.of(other), self.tree))

    def __mul__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("*", self.tree, _Symbol.of(other)))

    def __rmul__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("*", _Symbol.of(other), self.tree))

    def __sub__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("-", self.tree, _Symbol.of(other)))

    def __rsub__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("-", _Symbol.of(other), self.tree))

    def __truediv__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("/", self.tree, _Symbol.of(other)))

    def __rtruediv__(self, other: Any) -> _Symbol:
        return _Symbol(py.binary("/", _Symbol.of(other), self.tree))

    def __neg__(self) -> _Symbol:
        return _Symbol(py.negative(self.tree))


_C, _K = _Symbol(py.name("C")), _Symbol(py.name("k"))


PREFIXES = ("gate", "slope", "budget_slope", "regime")
"""What the functions of a gate are called, each followed by the name of the gate."""


def gate_functions(rules: list[GateRule]) -> list[ast.stmt]:
    """For each gate its value, its slopes and its regime, functions of (x, C, k)."""
    functions = []
    for rule in rules:
        functions += [_value_function(rule), _slope_function(rule)]
        if rule.neighbours:
            functions.append(_budget_slope_function(rule))
        functions.append(_regime_function(rule))
    return functions


def _value_function(rule: GateRule) -> ast.stmt:
    value = _nested(rule, [_piece_value(piece) for piece in rule.pieces])
    doc = f"{rule.summary} ({rule.source})."
    return _gate_function("gate", rule, doc, value)


def _slope_function(rule: GateRule) -> ast.stmt:
    """Not the slope itself: where it is 0, an infinite derivative must become 0 too."""
    passed = [_piece_slope(piece.slope(_C, _K)) for piece in rule.pieces]
    doc = f"What `gate_{rule.name}` lets through of a derivative g: slope times g."
    return _gate_function("slope", rule, doc, _nested(rule, passed), ["g"])


def _piece_slope(slope: Any) -> ast.expr:
    g = py.name("g")
    if _is(slope, 0):
        return py.constant(0.0)
    return g if _is(slope, 1) else py.binary("*", _Symbol.of(slope), g)


def _budget_slope_function(rule: GateRule) -> ast.stmt:
    """Of a budget that is computed from the batch. Intercepts are linear in the budget."""
    g = py.name("g")
    zero = py.constant(0.0)
    signed = py.call(
        py.dotted("torch", "where"), py.compare(py.name("x"), ">=", zero), g, py.negative(g)
    )
    passed = []
    for piece in rule.pieces:
        per_budget = piece.intercept(1, _K) - piece.intercept(0, _K)
        passed.append(
            zero
            if _is(per_budget, 0)
            else signed
            if _is(per_budget, 1)
            else py.binary("*", _Symbol.of(per_budget), signed)
        )
    doc = f"What reaches the budget of `gate_{rule.name}` of a derivative g."
    return _gate_function("budget_slope", rule, doc, _nested(rule, passed), ["g"])


def _regime_function(rule: GateRule) -> ast.stmt:
    regimes = ", ".join(f"{i} {piece.regime}" for i, piece in enumerate(rule.pieces))
    numbers = [py.call(py.dotted("torch", "zeros_like"), py.name("x"))]
    numbers += [py.constant(float(number)) for number in range(1, len(rule.pieces))]
    doc = f"Where `gate_{rule.name}` stands: {regimes}."
    return _gate_function("regime", rule, doc, _nested(rule, numbers))


def _gate_function(
    prefix: str, rule: GateRule, doc: str, value: ast.expr, before: Sequence[str] = ()
) -> ast.stmt:
    magnitude = [py.assign("a", py.method(py.name("x"), "abs"))] if len(rule.pieces) > 1 else []
    return py.function(f"{prefix}_{rule.name}", [*before, "x", "C", "k"], doc, magnitude, value)


def _nested(rule: GateRule, values: list[ast.expr]) -> ast.expr:
    """Each piece's value beyond the end of the piece before; NaN stays in the first, the input."""
    value = values[0]
    for piece, following in zip(rule.pieces, values[1:], strict=False):
        value = py.call(py.dotted("torch", "where"), _beyond(piece), following, value)
    return value


def _beyond(piece: Piece) -> ast.expr:
    assert piece.until is not None
    return py.compare(
        py.name("a"), ">" if piece.inclusive else ">=", _Symbol.of(piece.until(_C, _K))
    )


def _piece_value(piece: Piece) -> ast.expr:
    """sign(x) * intercept + slope * x, without the factors and terms that are 0 or 1."""
    intercept, slope = piece.intercept(_C, _K), piece.slope(_C, _K)
    x = py.name("x")
    terms = []
    if not _is(intercept, 0):
        terms.append(py.call("by_sign", x, _Symbol.of(intercept), _Symbol.of(-intercept)))
    if not _is(slope, 0):
        terms.append(x if _is(slope, 1) else py.binary("*", _Symbol.of(slope), x))
    if not terms:
        return py.call(py.dotted("torch", "zeros_like"), x)
    return terms[0] if len(terms) == 1 else py.binary("+", terms[0], terms[1])


def _is(value: Any, number: int) -> bool:
    return not isinstance(value, _Symbol) and bool(value == number)
