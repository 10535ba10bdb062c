"""Which values are continuous functions of the log-ratios, as far as their expressions show."""

from __future__ import annotations

from fibc.ir import nodes as ir
from fibc.ir.expression import Call, Expr, Input, inputs_of


def continuous(program: ir.Program) -> bool:
    """Whether the weight and what it multiplies are; gates of pieces are looked at elsewhere."""
    moving: set[str] = set()
    jumping: set[str] = set()
    for op in program.ops:
        match op:
            case ir.LogRatio() | ir.LogProb():
                moving.add(op.name)
            case ir.Pointwise(_, _, inputs, expr):
                if moving & set(inputs):
                    moving.add(op.name)
                    still = {i for i, name in enumerate(inputs) if name not in moving}
                    if jumping & set(inputs) or not _continuous(expr, still):
                        jumping.add(op.name)
            case _:
                if moving & set(op.operands):
                    moving.add(op.name)
                if jumping & set(op.operands):
                    jumping.add(op.name)
    return program.factor not in jumping and program.gated_ratio not in jumping


def _continuous(expr: Expr, still: set[int]) -> bool:
    """Whether an expression is a continuous function of its inputs that are not `still`."""
    match expr:
        case Call("where", (condition, yes, no)):
            decided = inputs_of(condition) <= still
            return decided and _continuous(yes, still) and _continuous(no, still)
        case Call("sign", (argument,)):
            return inputs_of(argument) <= still
        case Call("*", (Call("sign", (Input(index),)), Call("abs", (Input(other),)))):
            return index == other
        case Call(_, arguments):
            return all(_continuous(argument, still) for argument in arguments)
        case _:
            return True
