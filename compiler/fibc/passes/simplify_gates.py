"""Gates that do nothing leave no operation behind.

`pass` is its input; so is any gate whose budgets are infinite. A residual that is dropped leaves
the lifted coarse part alone.
"""

from __future__ import annotations

import math

from fibc.ir import nodes as ir
from fibc.ir.scalar import Const
from fibc.passes.rewrite import rebuild
from fibdsl.builtins import GATES

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
            if op.kind == "drop":
                dropped.add(op.name)
        if isinstance(op, ir.Compose) and op.fine in dropped:
            names[op.name] = op.coarse
            continue
        ops.append(op)
    kept = {name: new for name, new in names.items() if name not in measured}
    return rebuild(program, ops, kept)


def _is_identity(gate: ir.Gate) -> bool:
    pieces = GATES[gate.kind].pieces
    if len(pieces) == 1:
        return pieces[0].regime == "pass"
    return gate.upper == _INFINITE == gate.lower
