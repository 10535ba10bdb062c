"""The gates a program uses, as functions on tensors, made from the table's pieces."""

from __future__ import annotations

import ast
from typing import Any

from fibc.emit import syntax as py
from fibdsl.builtins import GATES, GateRule, Piece


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


def gate_functions(kinds: list[str]) -> list[ast.stmt]:
    """For each gate its value and its regime, both functions of (x, C, k)."""
    functions = []
    for kind in kinds:
        functions += [_value_function(GATES[kind]), _regime_function(GATES[kind])]
    return functions


def _value_function(rule: GateRule) -> ast.stmt:
    value = _nested(rule, [_piece_value(piece) for piece in rule.pieces])
    doc = f"{rule.summary} ({rule.source})."
    return _gate_function("gate", rule, doc, value)


def _regime_function(rule: GateRule) -> ast.stmt:
    regimes = ", ".join(f"{i} {piece.regime}" for i, piece in enumerate(rule.pieces))
    numbers = [py.call(py.dotted("torch", "zeros_like"), py.name("x"))]
    numbers += [py.constant(float(number)) for number in range(1, len(rule.pieces))]
    doc = f"Where `gate_{rule.name}` stands: {regimes}."
    return _gate_function("regime", rule, doc, _nested(rule, numbers))


def _gate_function(prefix: str, rule: GateRule, doc: str, value: ast.expr) -> ast.stmt:
    magnitude = [py.assign("a", py.method(py.name("x"), "abs"))] if len(rule.pieces) > 1 else []
    return py.function(f"{prefix}_{rule.name}", ["x", "C", "k"], doc, magnitude, value)


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
        sign = py.call(py.dotted("torch", "sign"), x)
        terms.append(py.binary("*", sign, _Symbol.of(intercept)))
    if not _is(slope, 0):
        terms.append(x if _is(slope, 1) else py.binary("*", _Symbol.of(slope), x))
    if not terms:
        return py.call(py.dotted("torch", "zeros_like"), x)
    return terms[0] if len(terms) == 1 else py.binary("+", terms[0], terms[1])


def _is(value: Any, number: int) -> bool:
    return not isinstance(value, _Symbol) and bool(value == number)
