"""Values that neither the gated ratio, the objective nor a metric needs are not computed."""

from __future__ import annotations

from fibc.ir import nodes as ir
from fibc.passes.rewrite import rebuild


def dead_values(program: ir.Program) -> ir.Program:
    needed = set(program.roots)
    kept: list[ir.Op] = []
    for op in reversed(program.ops):
        if op.name in needed:
            needed.update(op.operands)
            kept.append(op)
    return rebuild(program, reversed(kept), {})
