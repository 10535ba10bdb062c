"""Which values of a program depend on the log-ratios in a way that a gradient follows."""

from __future__ import annotations

from fibc.ir import nodes as ir
from fibc.ir.expression import Const
from fibc.ir.functions import derivative


def differentiable(program: ir.Program) -> frozenset[str]:
    """The values through which a gradient flows to the log-ratios."""
    found: set[str] = set()
    for op in program.ops:
        match op:
            case ir.LogRatio():
                found.add(op.name)
            case ir.Count() | ir.NonNegativeAdvantage() | ir.Data() | ir.Shared():
                pass
            case ir.Pointwise(_, _, inputs, expr):
                flowing = [i for i, name in enumerate(inputs) if name in found]
                if any(derivative(expr, i) != Const(0.0) for i in flowing):
                    found.add(op.name)
            case _:
                if found & set(op.operands):
                    found.add(op.name)
    return frozenset(found)
