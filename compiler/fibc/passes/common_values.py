"""Values that are computed alike are computed once (the two leans of a pessimistic objective share
every gate that is not pessimistic, means share their counts)."""

from __future__ import annotations

from dataclasses import replace

from fibc.ir import nodes as ir
from fibc.passes.rewrite import rebuild


def common_values(program: ir.Program) -> ir.Program:
    names: dict[str, str] = {}
    first: dict[ir.Op, str] = {}
    ops: list[ir.Op] = []
    for original in program.ops:
        op = original.renamed(names)
        key = replace(op, name="")
        if key in first:
            names[op.name] = first[key]
        else:
            first[key] = op.name
            ops.append(op)
    return rebuild(program, ops, names)
