"""A program cut into the functions of its module.

row_statistics   tokens to the finest cells: channels, their sums, counts
tree             the hierarchy of cells: aggregates up, gated values down, what to divide by
token_pass       every token again: residuals, token gate, gated ratio
token_gradient   the transpose of that, at the token (fibc.emit.adjoint)
reduce           the loss
gradient         the transpose of the rest
measure          what only metrics need
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fibc.ir import nodes as ir
from fibdsl.types import BATCH, TOKEN

TOKEN_GRADIENT, GRADIENT = "token_gradient", "gradient"
STAGES = ("row_statistics", "tree", "token_pass", TOKEN_GRADIENT, "reduce", GRADIENT, "measure")

DOCS = {
    "row_statistics": "Each token once: its channels, and their sums over the finest cells.",
    "tree": "Cells only: aggregates upwards, gated values downwards.",
    "token_pass": "Each token again: its deviation, the token gate, the gated ratio.",
    "reduce": "The loss: each token's gated ratio times advantage, by what the token weighs.",
    TOKEN_GRADIENT: "What each token adds to d loss / d x itself: its gate transposed.",
    GRADIENT: "d loss / d x: the other operations transposed, last to first.",
    "measure": "The metrics, from the values at hand. No gradient flows here.",
}


@dataclass(frozen=True)
class Stage:
    """One function of the module: its operations, what it takes and what it hands on."""

    name: str
    ops: tuple[ir.Op, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def cut(program: ir.Program, gradient: Mapping[str, Sequence[str]]) -> tuple[Stage, ...]:
    """The stages of `program`, in order; each takes only values of earlier ones.

    Args:
        gradient: the values that the stages of the gradient read.
    """
    # What is added up after G is emitted as the transpose of that, which the gradient needs anyway.
    stage_of = _assign(program)
    ops = {s: tuple(op for op in program.ops if stage_of[op.name] == s) for s in STAGES}
    ops["reduce"] = ()
    reads: dict[str, list[str]] = {s: [n for op in ops[s] for n in op.operands] for s in STAGES}
    [term] = [op for op in program.ops if isinstance(op, ir.Term)]
    reads["reduce"] = list(term.operands)
    for stage, values in gradient.items():
        reads[stage] += values
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
        if isinstance(op, ir.Term) or after_surrogate & set(op.operands):
            after_surrogate.add(op.name)
    first = ancestors(
        [
            op.name
            for op in program.ops
            if op.name in needed - after_surrogate
            and op.level not in (TOKEN, BATCH)
            and (
                (isinstance(op, ir.PushForward | ir.Shared) and ops[op.x].level == TOKEN)
                or (isinstance(op, ir.Count) and op.of == TOKEN and op.counts is None)
            )
        ]
    )
    stage_of = {}
    for op in program.ops:
        if op.name not in needed:
            stage = "measure"
        elif op.name in after_surrogate:
            stage = "reduce"
        elif op.name in first:
            stage = "row_statistics"
        elif op.level != TOKEN:
            stage = "tree"
        else:
            stage = "token_pass"
        stage_of[op.name] = stage
    return stage_of
