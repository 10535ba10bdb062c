"""Arithmetic without parameters is done once, here, in float64."""

from __future__ import annotations

from dataclasses import replace

from fibc.ir import nodes as ir
from fibc.ir.scalar import Binary, Const, Log, Negate, Scalar, counted, evaluate, references
from fibc.ir.simplify import simplified
from fibc.passes.rewrite import rebuild


def fold_constants(program: ir.Program) -> ir.Program:
    return rebuild(program, map(_fold_op, program.ops), {})


def _fold_op(op: ir.Op) -> ir.Op:
    match op:
        case ir.Gate():
            return replace(
                op,
                upper=_maybe(op.upper),
                lower=_maybe(op.lower),
                steepness=_maybe(op.steepness),
            )
        case ir.NeighbourBudget():
            return replace(op, delta=_fold(op.delta))
        case ir.Divided():
            return replace(op, divisor=_fold(op.divisor))
        case ir.Pointwise():
            return replace(op, expr=simplified(op.expr))
        case _:
            return op


def _maybe(scalar: Scalar | None) -> Scalar | None:
    return None if scalar is None else _fold(scalar)


def _fold(scalar: Scalar) -> Scalar:
    if not references(scalar) and not counted(scalar):
        return Const(float(evaluate(scalar, {}, {})))
    match scalar:
        case Negate(operand):
            return Negate(_fold(operand))
        case Log(operand):
            return Log(_fold(operand))
        case Binary(operator, left, right):
            return Binary(operator, _fold(left), _fold(right))
        case _:
            return scalar
