"""What a file takes from others and from itself: `use`, gates, and `extends`.

After it every objective stands for itself: its statements are its own and those it has from its
parent, and its gates are known by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from fibc.extends import extended
from fibc.gates.builtin import builtin_gates
from fibc.gates.define import define
from fibc.gates.rule import GateRule
from fibc.parse import parse
from fibc.places import PACKAGED, Place, Trouble, find
from fibdsl.diagnostics.diagnostic import Diagnostics, Label, closest, nearest
from fibdsl.resources import shipped_specs
from fibdsl.source import Source, Span
from fibdsl.syntax import ast


@dataclass(frozen=True)
class Gates:
    """The gates that the objectives of a file may name.

    Attributes:
        broken: names of gates with errors of their own.
        whole: whether all files could be read; otherwise a name may be of one that could not.
    """

    rules: Mapping[str, GateRule]
    broken: frozenset[str] = frozenset()
    whole: bool = True

    def reported(self, name: str) -> bool:
        """Whether nothing is to be said of a gate that is not known: what is wrong was said."""
        return name in self.broken or (not self.whole and name not in self.rules)


@dataclass(frozen=True)
class Kin:
    """An objective by itself, and those it has statements from, the nearest first."""

    tree: ast.Objective
    parents: tuple[ast.Objective, ...] = ()


@dataclass(frozen=True)
class Linked:
    """A file's own objectives and the gates they may use."""

    objectives: tuple[Kin, ...]
    gates: Gates


def link(file: ast.File, diagnostics: Diagnostics) -> Linked:
    """The objectives and gates of a file; findings, those about files it uses too, go to
    `diagnostics`."""
    linker = _Linker(diagnostics)
    scope = linker.scope(file, Place.of(file.source.path), ())
    own = (linker.kin(objective, scope, ()) for objective in file.objectives)
    gates = Gates({**builtin_gates(), **scope.gates}, frozenset(scope.broken), scope.whole)
    return Linked(tuple(kin for kin in own if kin is not None), gates)


@dataclass
class _Scope:
    """What the names in one file stand for."""

    place: Place
    gates: dict[str, GateRule] = field(default_factory=dict)
    objectives: dict[str, tuple[ast.Objective, _Scope]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    whole: bool = True
    origins: dict[str, ast.Use] = field(default_factory=dict)
    """Which `use` brought a name, of gates and of objectives."""


class _Linker:
    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.known: dict[str, _Scope | None] = {}
        self.linked: dict[int, Kin | None] = {}

    # --- files ----------------------------------------------------------------------------------

    def scope(self, file: ast.File, place: Place, stack: tuple[Place, ...]) -> _Scope:
        """What a file defines, after what it uses."""
        scope = _Scope(place)
        seen: set[str] = set()
        for use in file.uses:
            found = find(use.path, place)
            if isinstance(found, Trouble):
                self.diagnostics.add("FIB005", found.message, use.span, found.help)
                scope.whole = False
                continue
            if found.identity in seen:
                self.diagnostics.add(
                    "FIB103", f"`{use.path}` is used twice", use.span, "delete this"
                )
                continue
            seen.add(found.identity)
            used = self.used(use, found, (*stack, place))
            if used is None:
                scope.whole = False
            else:
                self.bring(used, use, scope)
        self.define(file, scope)
        own: set[str] = set()
        for objective in file.objectives:
            name = objective.name.text
            if name in scope.objectives:
                where = "" if name in own else f"; `{scope.origins[name].path}` has one"
                self.diagnostics.add(
                    "FIB103",
                    f"a second objective `{name}`{where}",
                    objective.name.span,
                    "rename it",
                )
                continue
            own.add(name)
            scope.objectives[name] = objective, scope
        return scope

    def bring(self, used: _Scope, use: ast.Use, scope: _Scope) -> None:
        """Adds what a used file defines."""
        scope.broken |= used.broken
        scope.whole = scope.whole and used.whole
        for name, rule in used.gates.items():
            if scope.gates.setdefault(name, rule) != rule:
                self.clash("gate", name, use, scope)
                scope.broken.add(name)
        for name, found in used.objectives.items():
            if scope.objectives.setdefault(name, found)[0] is not found[0]:
                self.clash("objective", name, use, scope)
        for name in (*used.gates, *used.objectives):
            scope.origins.setdefault(name, use)

    def clash(self, what: str, name: str, use: ast.Use, scope: _Scope) -> None:
        first = scope.origins[name]
        self.diagnostics.add(
            "FIB103",
            f"this brings a second {what} `{name}`, which is another one",
            use.span,
            "rename one of the two, or use one of the files only",
            labels=(Label(first.span, f"the first `{name}`"),),
        )

    def define(self, file: ast.File, scope: _Scope) -> None:
        """The gates of a file itself."""
        own: set[str] = set()
        names = {definition.name.text for definition in file.gates}
        for definition in file.gates:
            name, span = definition.name.text, definition.name.span
            if name in builtin_gates():
                self.diagnostics.add(
                    "FIB104",
                    f"`{name}` is a gate of the language",
                    span,
                    "choose another name; what it does must not depend on the file",
                )
            elif name in scope.gates or name in own:
                where = "" if name in own else f"; `{scope.origins[name].path}` has one"
                self.diagnostics.add("FIB103", f"a second gate `{name}`{where}", span, "rename it")
            else:
                own.add(name)
                gates = {*builtin_gates(), *scope.gates, *names}
                made = define(definition, file.source, self.diagnostics, frozenset(gates))
                if made is not None:
                    scope.gates[name] = made
                    continue
            scope.broken.add(name)

    def used(self, use: ast.Use, place: Place, stack: tuple[Place, ...]) -> _Scope | None:
        """What a used file defines; None where it cannot be read."""
        identities = [p.identity for p in stack]
        if place.identity in identities:
            circle = stack[identities.index(place.identity) :]
            names = [PurePath(p.shown).name for p in (*circle, circle[0])]
            alone = len(circle) == 1
            self.diagnostics.add(
                "FIB005",
                "this file uses itself"
                if alone
                else f"files use each other in a circle: {' -> '.join(names)}",
                use.span,
                "delete this" if alone else "move what they share to a file of its own",
            )
            return None
        if place.identity not in self.known:
            self.known[place.identity] = self.read(use, place, stack)
        return self.known[place.identity]

    def read(self, use: ast.Use, place: Place, stack: tuple[Place, ...]) -> _Scope | None:
        assert place.file is not None
        try:
            text = place.file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            self.diagnostics.add(
                "FIB005", f"`{use.path}` is not UTF-8 text", use.span, "save it as UTF-8"
            )
            return None
        except OSError as error:
            reason = error.strerror or str(error)
            self.diagnostics.add(
                "FIB005", f"`{use.path}` cannot be read: {reason}", use.span, "make it readable"
            )
            return None
        source = Source(place.shown, text)
        own = Diagnostics(source)
        file = parse(source, own, foreign=True)
        self.diagnostics.found += own.found
        return None if file is None else self.scope(file, place, stack)

    # --- extends --------------------------------------------------------------------------------

    def kin(
        self, objective: ast.Objective, scope: _Scope, stack: tuple[ast.Objective, ...]
    ) -> Kin | None:
        """The objective with what it has from its parent; None where that cannot be known."""
        if id(objective) not in self.linked:
            self.linked[id(objective)] = self.with_parent(objective, scope, stack)
        return self.linked[id(objective)]

    def with_parent(
        self, objective: ast.Objective, scope: _Scope, stack: tuple[ast.Objective, ...]
    ) -> Kin | None:
        if objective.parent is None:
            for statement in objective.statements:
                if isinstance(statement, ast.Waive):
                    self.diagnostics.add(
                        "FIB108",
                        "there is no promise to waive: this objective extends no other",
                        statement.span,
                        "delete it",
                    )
            return Kin(objective)
        name = objective.parent
        if name.text not in scope.objectives:
            if scope.whole:
                help = _parents_near(name.text, objective.name.text, scope)
                self.diagnostics.add("FIB101", f"unknown objective `{name.text}`", name.span, help)
            return None
        tree, there = scope.objectives[name.text]
        stack = (*stack, objective)
        if any(tree is other for other in stack):
            self.circle(stack, tree, name.span)
            return None
        parent = self.kin(tree, there, stack)
        flat = extended(parent.tree, objective, self.diagnostics) if parent is not None else None
        if parent is None or flat is None:
            return None
        return Kin(flat, (parent.tree, *parent.parents))

    def circle(self, stack: tuple[ast.Objective, ...], tree: ast.Objective, span: Span) -> None:
        start = next(place for place, other in enumerate(stack) if other is tree)
        names = [other.name.text for other in (*stack[start:], tree)]
        if len(names) == 2:
            help = "name the objective it starts from"
            self.diagnostics.add("FIB005", f"`{tree.name.text}` extends itself", span, help)
        else:
            self.diagnostics.add(
                "FIB005",
                f"objectives extend each other in a circle: {' -> '.join(names)}",
                span,
                "let one of them stand by itself",
            )


def _parents_near(name: str, child: str, scope: _Scope) -> str:
    """What an unknown parent was perhaps meant to be."""
    known = [other for other in scope.objectives if other != child]
    shipped = shipped_specs()
    close = None if name in shipped else closest(name, known)
    if close is not None:
        return f"did you mean `{close}`?"
    found = closest(name, shipped)
    if found is not None:
        add = f'add `use "{PACKAGED}{found}.fib"` at the top of the file'
        return add if found == name else f"did you mean `{found}`? {add}"
    return nearest(name, known) if known else "define it, or `use` the file that has it"
