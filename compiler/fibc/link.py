"""What a file takes from others and from itself: `use`, gates, and `extends`.

After it every objective stands for itself: its statements are its own and those it has from its
parent, and its gates are known by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path

from fibc.gates.define import CENSOR, define
from fibc.gates.rule import GateRule
from fibc.parse import parse
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.resources import folder, shipped_specs
from fibdsl.source import Source, Span
from fibdsl.syntax import ast

PACKAGED = "fibdsl:"
"""What the path of a shipped spec starts with."""

_ROOTS = ("pyproject.toml", ".git")
"""What the folder of a project has in it; nothing outside it is used."""


@dataclass(frozen=True)
class Linked:
    """A file's own objectives, each by itself, and the gates they may use."""

    objectives: tuple[ast.Objective, ...]
    gates: Mapping[str, GateRule]


@cache
def builtin_gates() -> dict[str, GateRule]:
    """The gates of the language: those of grammar/prelude.fib, and the one it cannot say."""
    path = folder("grammar") / "prelude.fib"
    source = Source(path.name, path.read_text(encoding="utf-8"))
    diagnostics = Diagnostics(source)
    file = parse(source, diagnostics, foreign=True)
    assert file is not None, diagnostics.found
    rules = [define(definition, source, diagnostics) for definition in file.gates]
    assert not diagnostics.found, diagnostics.found
    return {rule.name: rule for rule in (*rules, CENSOR) if rule is not None}


def link(file: ast.File, diagnostics: Diagnostics) -> Linked:
    """The objectives and gates of a file; findings, those about files it uses too, go to
    `diagnostics`."""
    linker = _Linker(diagnostics)
    scope = linker.scope(file, ())
    own = []
    for objective in file.objectives:
        flat = linker.flat(objective, scope, ())
        if flat is not None:
            own.append(flat)
    return Linked(tuple(own), {**builtin_gates(), **scope.gates})


@dataclass
class _Scope:
    """What the names in one file stand for."""

    source: Source
    gates: dict[str, GateRule]
    objectives: dict[str, tuple[ast.Objective, _Scope]]


class _Linker:
    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.known: dict[str, _Scope | None] = {}

    def error(self, code: str, message: str, span: Span | None, help: str) -> None:
        self.diagnostics.add(code, message, span, help)

    # --- files ----------------------------------------------------------------------------------

    def scope(self, file: ast.File, stack: tuple[str, ...]) -> _Scope:
        """What a file defines, after what it uses."""
        scope = _Scope(file.source, {}, {})
        for use in file.uses:
            used = self.used(use, file.source, (*stack, _identity(file.source.path)))
            if used is None:
                continue
            for name, rule in used.gates.items():
                if scope.gates.setdefault(name, rule) != rule:
                    self.error(
                        "FIB103",
                        f"a second gate `{name}`, and another one",
                        use.span,
                        "rename one of the two",
                    )
            for name, found in used.objectives.items():
                if scope.objectives.setdefault(name, found)[0] is not found[0]:
                    self.error(
                        "FIB103", f"a second objective `{name}`", use.span, "rename one of the two"
                    )
        for definition in file.gates:
            name = definition.name.text
            if name in builtin_gates():
                self.error(
                    "FIB104",
                    f"`{name}` is a gate of the language",
                    definition.name.span,
                    "choose another name; what it does must not depend on the file",
                )
                continue
            if name in scope.gates:
                self.error(
                    "FIB103", f"a second gate `{name}`", definition.name.span, "rename one of them"
                )
                continue
            made = define(definition, file.source, self.diagnostics)
            if made is not None:
                scope.gates[name] = made
        own: set[str] = set()
        for objective in file.objectives:
            name = objective.name.text
            if name in scope.objectives:
                where = "" if name in own else "; a file that this one uses has one"
                self.error(
                    "FIB103",
                    f"a second objective `{name}`{where}",
                    objective.name.span,
                    "rename it",
                )
                continue
            own.add(name)
            scope.objectives[name] = objective, scope
        return scope

    def used(self, use: ast.Use, source: Source, stack: tuple[str, ...]) -> _Scope | None:
        path = self.path(use, source)
        if path is None:
            return None
        identity = _identity(str(path))
        if identity in stack:
            chain = " -> ".join(Path(p).name for p in (*stack[stack.index(identity) :], identity))
            self.error(
                "FIB005",
                f"files use each other in a circle: {chain}",
                use.span,
                "move what they share to a file of its own",
            )
            return None
        if identity not in self.known:
            self.known[identity] = self.read(path, use, stack)
        return self.known[identity]

    def read(self, path: Path, use: ast.Use, stack: tuple[str, ...]) -> _Scope | None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            self.error("FIB005", f"{use.path} cannot be read: {reason}", use.span, "mend the path")
            return None
        source = Source(str(path), text)
        own = Diagnostics(source)
        file = parse(source, own, foreign=True)
        self.diagnostics.found += own.found
        return None if file is None else self.scope(file, stack)

    def path(self, use: ast.Use, source: Source) -> Path | None:
        """The file that is meant; None, and a finding, where there is none to be had."""
        if use.path.startswith(PACKAGED):
            name = use.path.removeprefix(PACKAGED)
            shipped = shipped_specs()
            if name.removesuffix(".fib") not in shipped or not name.endswith(".fib"):
                help = nearest(name, [f"{spec}.fib" for spec in shipped])
                self.error("FIB005", f"no shipped spec is called `{name}`", use.span, help)
                return None
            return shipped[name.removesuffix(".fib")]
        here = Path(source.path)
        if not here.is_file():
            self.error(
                "FIB005",
                "this text is not in a file, so nothing is beside it",
                use.span,
                f'write it to a file, or use a shipped spec: `use "{PACKAGED}fiberpo.fib"`',
            )
            return None
        folder_here = here.resolve().parent
        path = (folder_here / use.path).resolve()
        root = _root(folder_here)
        if Path(use.path).is_absolute() or not path.is_relative_to(root):
            self.error(
                "FIB005",
                f"`{use.path}` lies outside the project",
                use.span,
                f"give a path from this file to one below {root.name or root}/",
            )
            return None
        if not path.is_file():
            near = [p.name for p in path.parent.glob("*.fib")] if path.parent.is_dir() else []
            self.error(
                "FIB005", f"there is no file `{use.path}`", use.span, nearest(path.name, near)
            )
            return None
        return path

    # --- extends --------------------------------------------------------------------------------

    def flat(
        self, objective: ast.Objective, scope: _Scope, stack: tuple[str, ...]
    ) -> ast.Objective | None:
        """The objective with what it has from its parent; None where that cannot be known."""
        if objective.parent is None:
            for statement in objective.statements:
                if isinstance(statement, ast.Waive):
                    self.error(
                        "FIB108",
                        "there is no promise to waive: this objective extends no other",
                        statement.span,
                        "delete it",
                    )
            return objective
        name, span = objective.parent.text, objective.parent.span
        if name in (*stack, objective.name.text):
            self.error(
                "FIB005", f"`{name}` extends itself", span, "name an objective that stands alone"
            )
            return None
        if name not in scope.objectives:
            known = [n for n in scope.objectives if n != objective.name.text]
            help = nearest(name, known)
            if name in shipped_specs():
                help = f'add `use "{PACKAGED}{name}.fib"` at the top of the file'
            self.error("FIB101", f"unknown objective `{name}`", span, help)
            return None
        tree, there = scope.objectives[name]
        parent = self.flat(tree, there, (*stack, objective.name.text))
        if parent is None:
            return None
        return replace(
            objective, parent=None, statements=_Merge(parent, objective, self).statements()
        )


# --- one objective over another -----------------------------------------------------------------

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


class _Merge:
    def __init__(self, parent: ast.Objective, child: ast.Objective, linker: _Linker) -> None:
        self.parent = parent
        self.child = child
        self.linker = linker
        self.merged: list[ast.Statement | None] = list(parent.statements)

    def statements(self) -> tuple[ast.Statement, ...]:
        new_levels = any(isinstance(s, ast.Levels) for s in self.child.statements)
        added: list[ast.Statement] = []
        replaced: set[int] = set()
        for statement in self.child.statements:
            place = self.place(statement)
            if isinstance(statement, ast.Waive):
                self.waive(statement)
            elif place is None or place in replaced:
                if isinstance(statement, ast.At) and place is None and not new_levels:
                    self.unknown_level(statement)
                added.append(statement)
            else:
                replaced.add(place)
                self.merged[place] = self.over(self.parent.statements[place], statement)
        statements = [s for s in (*self.merged, *added) if s is not None]
        used = {name for s in statements for name in _references(s)}
        own = {id(s) for s in self.child.statements}
        # A parameter that only replaced statements used goes with them.
        return tuple(
            s
            for s in statements
            if not isinstance(s, ast.Param) or id(s) in own or s.name.text in used
        )

    def place(self, statement: ast.Statement) -> int | None:
        """Where the parent has what a statement stands for."""
        for index, held in enumerate(self.parent.statements):
            if type(held) is not type(statement):
                continue
            match held, statement:
                case (ast.Param(), ast.Param()) | (ast.Let(), ast.Let()):
                    if held.name.text == statement.name.text:  # type: ignore[union-attr]
                        return index
                case ast.At(), ast.At():
                    if held.level.text == statement.level.text:
                        return index
                case _:
                    if isinstance(statement, _SINGLE):
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
                if isinstance(clause, ast.GateClause):
                    self.unknown_level(statement)
                clauses.append(clause)
                continue
            index = kinds.index(type(clause))
            if same(clauses[index], clause):
                self.idle(clause.span)
            again = any(clauses[index] is c for c in statement.clauses)
            if again:
                clauses.append(clause)  # twice in the child: reported where names are resolved
            else:
                clauses[index] = clause
        return replace(statement, clauses=tuple(clauses))

    def waive(self, statement: ast.Waive) -> None:
        """Takes a promise away; without arguments all of that property."""
        wanted = statement.require
        parts = (wanted.at, wanted.over, wanted.bound, wanted.range)
        plain = all(part is None for part in parts)

        def meant(s: ast.Statement | None) -> bool:
            if not isinstance(s, ast.Require) or s.property.text != wanted.property.text:
                return False
            return plain or same(replace(s, assumed=False), replace(wanted, assumed=False))

        if not any(map(meant, self.merged)):
            promised = [
                s.property.text for s in self.parent.statements if isinstance(s, ast.Require)
            ]
            self.linker.error(
                "FIB108",
                f"`{self.parent.name.text}` does not promise this",
                statement.span,
                nearest(wanted.property.text, dict.fromkeys(promised)),
            )
        # Places in the parent stay as they are.
        self.merged = [None if meant(s) else s for s in self.merged]

    def unknown_level(self, statement: ast.At) -> None:
        self.linker.error(
            "FIB108",
            f"`{self.parent.name.text}` has no gate at `{statement.level.text}`, so there is "
            "nothing to replace",
            statement.level.span,
            "say the `levels` of this objective too, if it has another hierarchy",
        )

    def idle(self, span: Span) -> None:
        self.linker.error(
            "FIB108",
            f"this is as in `{self.parent.name.text}`",
            span,
            "change something, or delete it",
        )


def _references(node: object) -> Iterator[str]:
    """The names that expressions in a piece of syntax use."""
    if isinstance(node, ast.Reference):
        yield node.name
    elif isinstance(node, tuple):
        for item in node:
            yield from _references(item)
    elif is_dataclass(node) and not isinstance(node, Source):
        for f in fields(node):
            yield from _references(getattr(node, f.name))


def same(a: object, b: object) -> bool:
    """Whether two pieces of syntax say the same, wherever they stand."""
    if isinstance(a, Span) and isinstance(b, Span):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b


def _identity(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path


def _root(start: Path) -> Path:
    """The folder of the project that a folder is in; itself if it is in none."""
    for place in (start, *start.parents):
        if any((place / name).exists() for name in _ROOTS):
            return place
    return start
