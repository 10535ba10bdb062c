"""`objective b extends a`: a with statements of its own in place of a's."""

from __future__ import annotations

import re
from dataclasses import replace

from fibc.analysis.properties import PROPERTIES
from fibdsl.diagnostics.diagnostic import Diagnostics, Label, closest
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.syntax.walk import references, same

# Statements that stand once: a child's stands for its parent's.
_SINGLE = (
    ast.Doc,
    ast.SignalStatement,
    ast.Levels,
    ast.Surrogate,
    ast.Weight,
    ast.Penalty,
    ast.Reduce,
)


def extended(
    parent: ast.Objective, child: ast.Objective, diagnostics: Diagnostics
) -> ast.Objective | None:
    """The objective that `child` is over `parent`, which extends nothing any more; None where it
    has lost a level that it cannot do without. Findings go to `diagnostics`."""
    return _Extension(parent, child, diagnostics).objective()


class _Extension:
    def __init__(
        self, parent: ast.Objective, child: ast.Objective, diagnostics: Diagnostics
    ) -> None:
        self.parent = parent
        self.child = child
        self.diagnostics = diagnostics
        self.held = tuple(
            replace(s, of=s.of or parent.name.text) if isinstance(s, ast.Require) else s
            for s in parent.statements
        )
        self.merged: list[ast.Statement | None] = list(self.held)
        # Whether a `waive` may mean any promise.
        self.unclear = False

    def objective(self) -> ast.Objective | None:
        added: list[ast.Statement] = []
        replaced: set[int] = set()
        for statement in self.child.statements:
            if isinstance(statement, ast.Waive):
                self.waive(statement)
        for statement in self.child.statements:
            if isinstance(statement, ast.Waive):
                continue
            place = self.place(statement)
            if place is None or place in replaced:
                if place is not None or self.fits(statement):
                    added.append(statement)
            else:
                replaced.add(place)
                self.merged[place] = self.over(self.held[place], statement)
        if self.orphans():
            return None
        if self.unclear:
            self.merged = [None if isinstance(s, ast.Require) else s for s in self.merged]
        statements = [s for s in (*self.merged, *added) if s is not None]
        used = {name for s in statements for name in references(s)}
        gone = {name for s in self.held for name in references(s)} - used
        own = {id(s) for s in self.child.statements}
        # A parameter that only replaced statements used goes with them.
        kept = tuple(
            s
            for s in statements
            if not isinstance(s, ast.Param) or id(s) in own or s.name.text not in gone
        )
        return replace(self.child, parent=None, statements=kept)

    @property
    def new_levels(self) -> ast.Levels | None:
        return next((s for s in self.child.statements if isinstance(s, ast.Levels)), None)

    # --- statement over statement ---------------------------------------------------------------

    def place(self, statement: ast.Statement) -> int | None:
        """Where the parent has what a statement stands for."""
        for index, held in enumerate(self.held):
            match held, statement:
                case ast.Param(), ast.Param():
                    found = held.name.text == statement.name.text
                case ast.Let(), ast.Let():
                    found = held.name.text == statement.name.text
                case ast.At(), ast.At():
                    found = held.level.text == statement.level.text
                case _:
                    found = isinstance(statement, _SINGLE) and type(held) is type(statement)
            if found:
                return index
        return None

    def over(self, held: ast.Statement, statement: ast.Statement) -> ast.Statement:
        if isinstance(held, ast.At) and isinstance(statement, ast.At):
            return self.at(held, statement)
        if same(held, statement):
            self.idle(statement.span)
        return statement

    def at(self, held: ast.At, statement: ast.At) -> ast.At:
        """A level: its gate, its aggregate and its budget each by itself."""
        clauses = list(held.clauses)
        for clause in statement.clauses:
            kinds = [type(c) for c in clauses]
            if type(clause) not in kinds:
                if isinstance(clause, ast.GateClause) and self.new_levels is None:
                    self.no_gate(statement)
                else:
                    clauses.append(clause)
                continue
            index = kinds.index(type(clause))
            if any(clauses[index] is c for c in statement.clauses):
                clauses.append(clause)  # twice in the child: reported where names are resolved
                continue
            if same(clauses[index], clause):
                self.idle(clause.span)
            clauses[index] = clause
        # One that says nothing is reported as everywhere.
        return replace(statement, clauses=tuple(clauses) if statement.clauses else ())

    def fits(self, statement: ast.Statement) -> bool:
        """Whether a statement that stands for none of the parent's may be added to them."""
        match statement:
            case ast.At(level, clauses) if self.new_levels is None:
                chain = [
                    e.name.text for s in self.held if isinstance(s, ast.Levels) for e in s.entries
                ]
                gated = any(isinstance(clause, ast.GateClause) for clause in clauses)
                if level.text in chain and gated:
                    self.no_gate(statement)
                    return False
            case ast.Require():
                if any(_promises_same(s, statement) for s in self.merged):
                    self.idle(statement.span)
                    return False
        return True

    # --- what the child has not -----------------------------------------------------------------

    def orphans(self) -> bool:
        """Whether a gate of the parent has no level any more, or a promise: both are reported."""
        levels = self.new_levels
        if levels is None:
            return False
        chain = {entry.name.text for entry in levels.entries}
        for statement in self.merged:
            if isinstance(statement, ast.At) and statement.level.text not in chain:
                level = statement.level.text
                self.diagnostics.add(
                    "FIB201",
                    f"`{self.parent.name.text}` gates `{level}`, and this chain has no such level",
                    levels.span,
                    f"keep `{level}` in it, or write `{self.child.name.text}` out, without "
                    "`extends`",
                    labels=(Label(statement.span, "this has no level any more"),),
                )
                return True
        lost = False
        for statement in self.merged:
            if not isinstance(statement, ast.Require) or statement.of is None:
                continue
            names = [n.text for n in (statement.at, statement.over) if n is not None]
            if not set(names) <= chain:
                lost = True
                self.diagnostics.add(
                    "FIB201",
                    f"`{statement.of}` promises `{self.text(statement)}`, and this chain has no "
                    "such level",
                    levels.span,
                    f"write `waive {self.text(statement)}`, or keep the level",
                    labels=(Label(statement.span, "this has no level any more"),),
                )
        return lost

    def waive(self, statement: ast.Waive) -> None:
        """Takes a promise away; without arguments all of that property."""
        wanted = statement.require
        name = wanted.property.text
        parts = (wanted.at, wanted.over, wanted.bound, wanted.range)
        plain = all(part is None for part in parts)
        promised = [s for s in self.merged if isinstance(s, ast.Require)]
        alike = [s for s in promised if s.property.text == name]
        meant = alike if plain else [s for s in alike if _promises_same(s, wanted)]
        if not meant:
            meant = alike or self.not_promised(statement, promised)
            if alike:
                self.unwaivable(
                    statement,
                    f"write `waive {self.text(alike[0])}`, or `waive {name}` for every promise of "
                    "that property",
                )
        # Places in the parent stay as they are.
        self.merged = [None if any(s is m for m in meant) else s for s in self.merged]

    def not_promised(self, statement: ast.Waive, promised: list[ast.Require]) -> list[ast.Require]:
        """Reports a `waive` of nothing; gives back what is perhaps meant."""
        name = statement.require.property.text
        if any(isinstance(s, ast.Require) and s.property.text == name for s in self.held):
            self.unwaivable(statement, "it is waived already; delete this")
            return []
        close = closest(name, [s.property.text for s in promised])
        if close is not None:
            help = f"did you mean `{close}`?"
        else:
            shown = ", ".join(f"`{self.text(s)}`" for s in promised)
            help = f"it promises {shown or 'nothing'}; delete this"
        self.unwaivable(statement, help)
        # Of what is no property at all it is not known what is meant: no promise is judged.
        self.unclear = self.unclear or (close is None and name not in PROPERTIES)
        return [s for s in promised if s.property.text == close]

    def unwaivable(self, statement: ast.Waive, help: str) -> None:
        self.diagnostics.add(
            "FIB108",
            f"`{self.parent.name.text}` does not promise `{self.text(statement)}`",
            statement.span,
            help,
        )

    def no_gate(self, statement: ast.At) -> None:
        self.diagnostics.add(
            "FIB108",
            f"`{self.parent.name.text}` has no gate at `{statement.level.text}`, so there is "
            "nothing to replace",
            statement.level.span,
            "say the `levels` of this objective too, if it has another hierarchy",
        )

    def idle(self, span: Span) -> None:
        self.diagnostics.add(
            "FIB108",
            f"this is as in `{self.parent.name.text}`",
            span,
            "change something, or delete it",
        )

    def text(self, statement: ast.Require | ast.Waive) -> str:
        """A promise as it is written, without its first word."""
        span = statement.span
        text = (span.source or self.diagnostics.source).text[span.start : span.end]
        return " ".join(re.sub(r"#[^\n]*", " ", text).split()[1:])


def _promises_same(a: ast.Statement | None, b: ast.Require) -> bool:
    """Whether a statement is that promise, required or assumed, whoever made it."""
    if not isinstance(a, ast.Require):
        return False
    return same(*(replace(s, assumed=False, of=None) for s in (a, b)))
