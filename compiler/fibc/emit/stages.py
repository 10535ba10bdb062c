"""A program cut into the functions of its module.

    row_statistics   tokens to the finest cells: channels, their sums, counts
    tree             the hierarchy of cells: aggregates up, gated values down
    token_pass       every token again: residuals, token gate, gated ratio
    reduce           weights and sums: the objective
    measure          what only metrics need

The first four are differentiated together; a later version may run each on parts of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from fibc.ir import nodes as ir
from fibdsl.types import BATCH, TOKEN

STAGES = ("row_statistics", "tree", "token_pass", "reduce", "measure")

DOCS = {
    "row_statistics": "Each token once: its channels, and their sums over the finest cells.",
    "tree": "Cells only: aggregates upwards, gated values downwards.",
    "token_pass": "Each token again: its deviation, the token gate, the gated ratio.",
    "reduce": "The objective: nested means of gated ratio times advantage.",
    "measure": "The metrics, from the values at hand. No gradient flows here.",
}


@dataclass(frozen=True)
class Stage:
    """One function of the module: its operations, what it takes and what it hands on."""

    name: str
    ops: tuple[ir.Op, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def cut(program: ir.Program) -> tuple[Stage, ...]:
    """The stages of `program`, in order; each takes only values of earlier ones."""
    stage_of = _assign(program)
    ops = {s: tuple(op for op in program.ops if stage_of[op.name] == s) for s in STAGES}
    reads: dict[str, list[str]] = {s: [n for op in ops[s] for n in op.operands] for s in STAGES}
    for metric in program.metrics:
        reads["measure"] += _metric_reads(metric, program.by_name)
    own = {s: {op.name for op in ops[s]} for s in STAGES}
    stages = []
    for position, stage in enumerate(STAGES):
        takes = tuple(dict.fromkeys(n for n in reads[stage] if n not in own[stage]))
        later = {n for s in STAGES[position + 1 :] for n in reads[s]}
        gives = tuple(op.name for op in ops[stage] if op.name in later)
        stages.append(Stage(stage, ops[stage], takes, gives))
    return tuple(stages)


def _metric_reads(metric: ir.Metric, ops: dict[str, ir.Op]) -> list[str]:
    """The values a metric is computed from: of a gate also what the gate looks at."""
    reads: list[str] = []
    for name in metric.operands:
        op = ops[name]
        if isinstance(op, ir.Gate) and not isinstance(metric, ir.MeanOf):
            reads += op.operands
            if op.side is None:
                continue
        reads.append(name)
    return reads


def _assign(program: ir.Program) -> dict[str, str]:
    ops = program.by_name

    def ancestors(roots: list[str]) -> set[str]:
        found: set[str] = set()
        stack = list(roots)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack += ops[name].operands
        return found

    needed = ancestors([program.gated_ratio, program.objective])
    after_surrogate: set[str] = set()
    for op in program.ops:
        if isinstance(op, ir.Surrogate) or after_surrogate & set(op.operands):
            after_surrogate.add(op.name)
    first = ancestors(
        [
            op.name
            for op in program.ops
            if op.name in needed - after_surrogate
            and op.level not in (TOKEN, BATCH)
            and (
                (isinstance(op, ir.PushForward) and ops[op.x].level == TOKEN)
                or (isinstance(op, ir.Count) and op.of == TOKEN and op.counts is None)
            )
        ]
    )
    stage_of = {}
    for op in program.ops:
        if op.name not in needed:
            stage = "measure"
        elif op.name in after_surrogate or op.level == BATCH:
            stage = "reduce"
        elif op.name in first:
            stage = "row_statistics"
        elif op.level != TOKEN:
            stage = "tree"
        else:
            stage = "token_pass"
        stage_of[op.name] = stage
    return stage_of
