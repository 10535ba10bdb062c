"""The shipped objectives, in the order in which they are shown, and what is said of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from fibc.analysis.facts import Facts
from fibc.analysis.survey import verdicts
from fibc.formula.formula import Formula, formula
from fibc.ir import nodes as ir
from fibc.parse import parse
from fibdsl.api import load
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.diagnostics.errors import InternalError
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from fibdsl.syntax import ast
from fibdsl.types import TOKEN


class Family(StrEnum):
    """What a token's term looks at."""

    RATIO = "each token's ratio by itself"
    SCORE = "each token's log-probability, weighed"
    TRAJECTORY = "the tokens of a trajectory together"
    CELLS = "cells that the batch has ids for"


@dataclass(frozen=True)
class Shipped:
    """A shipped objective."""

    name: str
    path: Path

    @cached_property
    def objective(self) -> Objective:
        return load(self.path)

    @property
    def title(self) -> str:
        """What it is, without its source."""
        return self._doc[0]

    @property
    def paper(self) -> str:
        """Its source."""
        return self._doc[1]

    @property
    def _doc(self) -> tuple[str, str]:
        match = re.fullmatch(r"(.*) \((.*)\)", self.objective.doc)
        if match is None:
            raise InternalError(f"the doc of {self.name} does not end with a source in brackets")
        return match[1], match[2]

    @property
    def family(self) -> Family:
        levels, kinds = _looks_at(self.objective.program)
        if levels & {level.name for level in self.objective.typed.levels if level.key}:
            return Family.CELLS
        if levels:
            return Family.TRAJECTORY
        return Family.SCORE if ir.LogProb in kinds else Family.RATIO

    @property
    def comment(self) -> str:
        """What the file says before anything else: how trainers differ, what is left out."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return " ".join(line.lstrip("# ") for line in takewhile(lambda s: s.startswith("#"), lines))

    @property
    def parent(self) -> str | None:
        """The objective that it extends."""
        parent = self._tree.parent
        return None if parent is None else parent.text

    @property
    def lines(self) -> int:
        """How many lines the objective has, from its first word to its brace."""
        span, source = self._tree.span, self.objective.checked.source
        return source.position(span.end)[0] - source.position(span.start)[0] + 1

    @cached_property
    def _tree(self) -> ast.Objective:
        source = self.objective.checked.source
        file = parse(source, Diagnostics(source))
        assert file is not None
        [tree] = file.objectives
        return tree

    @cached_property
    def formula(self) -> Formula:
        return formula(self.objective.program)

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """proved, refuted or unknown at the defaults, by how a property would be promised."""
        facts = Facts.at(self.objective.typed, self.objective.params)
        return {promise: verdict.status for promise, verdict in verdicts(facts).items()}


def shipped() -> list[Shipped]:
    """All of them, by what they look at and then by name."""
    found = [Shipped(name, path) for name, path in shipped_specs().items()]
    families = list(Family)
    return sorted(found, key=lambda s: (families.index(s.family), s.name))


def _looks_at(program: ir.Program) -> tuple[set[str], set[type[ir.Op]]]:
    """The levels and the operations that a token's term depends on."""
    ops = program.by_name
    [term] = (op.name for op in program.ops if isinstance(op, ir.Term))
    seen: set[str] = set()
    todo = [term]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += ops[name].operands
    return {ops[n].level for n in seen} - {TOKEN}, {type(ops[n]) for n in seen}
