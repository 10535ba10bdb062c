"""The values of a program being written, by name, and the counts of cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from fibc.ir import nodes as ir
from fibc.typed import TypedObjective
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import TOKEN

AnyOp = TypeVar("AnyOp", bound=ir.Op)

Lean = ir.Sign | None
"""The way an advantage leans, for gates that look at its sign; None where none does. A channel of a
split signal is told by its sign alike."""

AFTER = "after"
"""What the gate at the signal is called; names of gates of levels begin otherwise."""

WORDS = {1: "plus", -1: "minus"}


def suffix(sign: Lean, lean: Lean = None) -> str:
    """The tail of a value's name: its channel, and the lean of the advantage it is for."""
    channel = f".{WORDS[sign]}" if sign else ""
    return channel + ({1: ".up", -1: ".down"}[lean] if lean else "")


@dataclass
class Values:
    """The operations of one objective's program, so far."""

    spec: TypedObjective
    ops: list[ir.Op] = field(default_factory=list)
    known: dict[str, ir.Op] = field(default_factory=dict)

    def add(self, op: AnyOp) -> str:
        """Appends `op`, unless it is there already: a name says all of what a value is."""
        if op.name not in self.known:
            self.known[op.name] = op
            self.ops.append(op)
        elif self.known[op.name] != op:
            raise InternalError(f"two values are called {op.name}: {self.known[op.name]} and {op}")
        return op.name

    def path(self, fine: str, coarse: str) -> tuple[str, ...]:
        """The levels stepped through from `fine` (left out) up to `coarse`."""
        names = self.spec.level_names
        if coarse not in names or fine not in names:
            return (coarse,)
        return names[names.index(fine) + 1 : names.index(coarse) + 1]

    def count(self, of: str, level: str) -> str:
        """The number of non-empty `of` cells in each cell of `level`."""
        name: str | None = None
        for step in self.path(of, level):
            members = self.members(of) if name is None else None
            name = self.add(ir.Count(f"n.{of}.{step}", step, of, name, members))
        assert name is not None
        return name

    def members(self, level: str) -> str | None:
        """A count that is 0 exactly in the empty cells of `level`; tokens are never empty."""
        return None if level == TOKEN else self.count(self.children(level), level)

    def children(self, level: str) -> str:
        names = self.spec.level_names
        return names[names.index(level) - 1] if level in names else TOKEN
