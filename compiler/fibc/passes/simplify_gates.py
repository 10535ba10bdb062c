"""Gates that do nothing leave no operation behind.

`pass` is its input; so is any gate whose budgets are infinite. A residual that is dropped leaves
the lifted coarse part alone.
"""

from __future__ import annotations

import math

from fibc.analysis.proofs.shape import shape
from fibc.ir import nodes as ir
from fibc.ir.scalar import Const
from fibc.passes.rewrite import rebuild

_INFINITE = Const(math.inf)


def simplify_gates(program: ir.Program) -> ir.Program:
    # A gate whose regimes are measured stays: the metric reads its pieces.
    measured = {
        name
        for metric in program.metrics
        if not isinstance(metric, ir.MeanOf)
        for name in metric.operands
    }
    names: dict[str, str] = {}
    dropped: set[str] = set()
    ops: list[ir.Op] = []
    for original in program.ops:
        op = original.renamed(names)
        if isinstance(op, ir.Gate):
            if _is_identity(op):
                names[op.name] = op.x
                if op.name not in measured:
                    continue
            if len(op.rule.pieces) == 1 and shape(op.rule).zero:
                dropped.add(op.name)
        if isinstance(op, ir.Compose) and op.fine in dropped:
            names[op.name] = op.coarse
            continue
        ops.append(op)
    kept = {name: new for name, new in names.items() if name not in measured}
    return rebuild(program, ops, kept)


def _is_identity(gate: ir.Gate) -> bool:
    if shape(gate.rule).identity:
        return True
    unbounded = gate.upper == _INFINITE == gate.lower
    return unbounded and shape(gate.rule).identity_at_zero
