"""A typed objective to IR: the recursion of docs/semantics.md, for any number of levels."""

from __future__ import annotations

from fibc.ir.nodes import Program
from fibc.lower.hierarchy import Hierarchy
from fibc.typed import TypedObjective


def lower(objective: TypedObjective) -> Program:
    """The program of `objective`, unoptimised: an operation a symbol of docs/semantics.md."""
    return Hierarchy(objective).program()
