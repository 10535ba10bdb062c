"""What of an objective adds up over parts of a batch that is cut between rows.

A value is complete if a part of the batch has it as the whole does; it adds up if the whole has the
sum of what the parts have. Anything else that is computed of a sum over a part is another number at
every split (docs/semantics.md, Reduce).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fibc.ir import nodes as ir
from fibdsl.types import BATCH, TOKEN, TRAJECTORY

State = Literal["complete", "adds up", "broken"]


@dataclass(frozen=True)
class Split:
    """Whether loss and gradient add up; if not, the first value that breaks and the cells (a level)
    of which it takes a part for the whole."""

    adds_up: bool
    value: str | None = None
    level: str | None = None


def split(program: ir.Program) -> Split:
    """Whether the loss of a batch is the sum of the losses of its parts, whole rows each, with the
    normalizers of the whole."""
    rows = levels_in_a_row(program.level_names)
    states: dict[str, State] = {}
    needed = _needed(program)
    for op in program.ops:
        states[op.name] = _state(op, program, states, rows)
        if op.name in needed and states[op.name] == "broken":
            partial = next(n for n in op.operands if states[n] == "adds up")
            return Split(False, op.name, _cell(program.by_name[partial], program))
    return Split(True)


def _state(op: ir.Op, program: ir.Program, states: dict[str, State], rows: frozenset[str]) -> State:
    operands = [states[name] for name in op.operands]
    if "broken" in operands:
        return "broken"
    match op:
        case ir.Count(_, level, of, _, _):
            if level == BATCH and of == program.outermost:
                return "complete"
            return "complete" if level in rows else "adds up"
        case ir.PushForward(_, level, _):
            return "complete" if level in rows and operands == ["complete"] else "adds up"
        case ir.Lift() | ir.Divided():
            return operands[0]
        case ir.Shared():
            return "complete"
        case ir.Mean(_, level, total, count):
            if states[count] == "complete":
                return states[total]
            return "broken" if level not in rows else "complete"
        case _:
            return "complete" if set(operands) <= {"complete"} else "broken"


def levels_in_a_row(names: tuple[str, ...]) -> frozenset[str]:
    """The levels of which each cell lies within one row of a batch."""
    if TRAJECTORY not in names:
        return frozenset({TOKEN, TRAJECTORY})
    return frozenset(names[: names.index(TRAJECTORY) + 1])


def _needed(program: ir.Program) -> frozenset[str]:
    """The values of which the loss is made."""
    needed = {program.objective}
    for op in reversed(program.ops):
        if op.name in needed:
            needed.update(op.operands)
    return frozenset(needed)


def _cell(op: ir.Op, program: ir.Program) -> str:
    """The level whose cells an operation sums over a part of."""
    if isinstance(op, ir.Lift):
        return _cell(program.by_name[op.x], program)
    return op.level
