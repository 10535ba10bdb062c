"""What `at LEVEL { ... }` says: the gate of a level, its aggregate, the budgets of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fibc.resolve.gates import resolved_gate
from fibc.resolve.names import Names
from fibc.resolved import ResolvedGate
from fibdsl.builtins import REDUCTIONS
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, Level


@dataclass
class Blocks:
    """The blocks of an objective, by level.

    Attributes:
        levels: the chain, fine to coarse.
        gates, budgets: of the levels that have one.
        aggregates: the finer level that a level's aggregate is over, where that is said.
        summed: the levels whose aggregate is a sum.
    """

    levels: tuple[Level, ...]
    names: Names
    gates: dict[str, ResolvedGate] = field(default_factory=dict)
    aggregates: dict[str, str] = field(default_factory=dict)
    summed: set[str] = field(default_factory=set)
    budgets: dict[str, ast.PerCell] = field(default_factory=dict)

    @property
    def chain(self) -> list[str]:
        return [level.name for level in self.levels]

    def read(self, blocks: Sequence[ast.At]) -> None:
        seen: set[str] = set()
        for at in blocks:
            level = at.level.text
            if not self.names.level(at.level, self.chain):
                self.names.complete = False
                continue
            if level in seen:
                self.names.diagnostics.add(
                    "FIB103",
                    f"a second `at {level}`",
                    at.level.span,
                    "say everything about a level in one block",
                )
                continue
            seen.add(level)
            if not at.clauses:
                self.names.diagnostics.add(
                    "FIB105",
                    f"`at {level}` says nothing",
                    at.span,
                    "add a `base` or `fiber` gate, or delete the block",
                )
            for clause in at.clauses:
                match clause:
                    case ast.Aggregate():
                        self._aggregate(level, clause)
                    case ast.PerCell():
                        self._budget(self.levels[self.chain.index(level)], clause)
                    case ast.GateClause():
                        self._gate(level, clause)

    def _gate(self, level: str, clause: ast.GateClause) -> None:
        if level in self.gates:
            self.names.diagnostics.add(
                "FIB103",
                f"a second gate at `{level}`",
                clause.span,
                "a level has one gate; compose two on two levels",
            )
            return
        gate = resolved_gate(
            level, clause.role, clause.gate, clause.modifiers, self.chain, self.names
        )
        if gate is not None:
            self.gates[level] = replace(gate, span=clause.span)

    def _aggregate(self, level: str, clause: ast.Aggregate) -> None:
        good = self.names.word(clause.reduction, REDUCTIONS, "aggregate")
        if not self.names.level(clause.over, self.chain) or not good:
            return
        if level in self.aggregates:
            self.names.diagnostics.add(
                "FIB103", f"a second `aggregate` at `{level}`", clause.span, "delete this one"
            )
        elif self.chain.index(clause.over.text) >= self.chain.index(level):
            self.names.diagnostics.add(
                "FIB207",
                f"`{clause.over.text}` is not finer than `{level}`",
                clause.over.span,
                "a token has nothing to aggregate; delete this"
                if level == TOKEN
                else "an aggregate is over the cells of a finer level, `token` for instance",
            )
        else:
            self.aggregates[level] = clause.over.text
            if clause.reduction.text == "sum":
                self.summed.add(level)

    def _budget(self, level: Level, clause: ast.PerCell) -> None:
        """The budgets of the cells of a level, by their names."""
        if level.name in self.budgets:
            self.names.diagnostics.add(
                "FIB103", f"a second `budget` at `{level.name}`", clause.span, "delete this one"
            )
            return
        self.budgets[level.name] = clause
        if level.key is None:
            self.names.diagnostics.add(
                "FIB203",
                f"the cells of `{level.name}` have no names, because the level has no key",
                clause.span,
                "give budgets to the cells of a level `by KEY`",
            )
            return
        seen: set[str | None] = set()
        for entry in clause.entries:
            name = entry.name.text if entry.name else None
            if name in seen:
                self.names.diagnostics.add(
                    "FIB103",
                    f"a second budget for `{name or 'else'}`",
                    entry.span,
                    "a cell has one budget; delete this one",
                )
            seen.add(name)
