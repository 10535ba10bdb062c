"""The whole pipeline, from text to torch source, as one readable page.

text --parse--> syntax tree --link--> one objective each --resolve--> names
     --typecheck--> TypedObjective
     --require, lints--> findings
     --lower--> IR --passes--> IR --emit--> the text of a torch module
                \\--interp--> the reference values
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from fibc import allow
from fibc.analysis.facts import Facts
from fibc.analysis.require import decide_promises
from fibc.inherited import settled
from fibc.ir.nodes import Program
from fibc.ir.verify import verify
from fibc.link import Gates, link
from fibc.lints import LINTS
from fibc.lower import lower
from fibc.parse import parse
from fibc.resolve import resolve
from fibc.typecheck import typecheck
from fibc.typed import TypedObjective
from fibdsl.builtins import EDITIONS
from fibdsl.diagnostics.diagnostic import Diagnostic, Diagnostics, nearest
from fibdsl.diagnostics.rules import Severity
from fibdsl.source import Source
from fibdsl.syntax import ast


@dataclass(frozen=True)
class Checked:
    """A file after checking: its objectives that have types, whether or not they keep their
    promises, and everything there is to say about it."""

    source: Source
    edition: int
    objectives: tuple[TypedObjective, ...]
    diagnostics: tuple[Diagnostic, ...]


def check(source: Source) -> Checked:
    """Parses and checks a file. An objective with an error is left out of the result, unless all it
    does is break a promise."""
    diagnostics = Diagnostics(source)
    try:
        return _check(source, diagnostics)
    except RecursionError:
        help = (
            "an expression is nested hundreds of levels deep, or has hundreds of terms, factors or "
            "cases; make a parameter of its value"
        )
        diagnostics.add("FIB001", "this file is nested too deeply to be read", None, help)
        return Checked(source, EDITIONS[-1], (), tuple(diagnostics.in_order()))


def _check(source: Source, diagnostics: Diagnostics) -> Checked:
    file = parse(source, diagnostics)
    if file is None:
        return Checked(source, EDITIONS[-1], (), tuple(diagnostics.in_order()))
    edition = _edition(file, diagnostics)
    if not file.objectives and not file.gates:
        diagnostics.add(
            "FIB004", "no objective in this file", None, "write `objective NAME { ... }`"
        )
    linked = link(file, diagnostics)
    known: dict[int, tuple[TypedObjective | None, list[Diagnostic]]] = {}

    def by_itself(tree: ast.Objective) -> tuple[TypedObjective | None, list[Diagnostic]]:
        if id(tree) not in known:
            known[id(tree)] = _objective(tree, linked.gates, source)
        return known[id(tree)]

    for kin in linked.objectives:
        diagnostics.found += settled(kin, source, lambda tree: by_itself(tree)[1])
    typed = [by_itself(kin.tree)[0] for kin in linked.objectives]
    # Lints of another file are that file's.
    diagnostics.found = [
        d
        for d in dict.fromkeys(diagnostics.found)
        if d.source is source or d.severity is Severity.ERROR
    ]
    allow.apply(diagnostics)
    objectives = tuple(o for o in typed if o is not None)
    return Checked(source, edition, objectives, tuple(diagnostics.in_order()))


def _objective(
    tree: ast.Objective, gates: Gates, source: Source
) -> tuple[TypedObjective | None, list[Diagnostic]]:
    """An objective that stands for itself, and all there is to say about it."""
    diagnostics = Diagnostics(source)
    resolved = resolve(tree, gates, diagnostics)
    typed = typecheck(resolved, diagnostics) if resolved else None
    if typed is not None:
        facts = Facts.at(typed, typed.defaults)
        decide_promises(facts, diagnostics)
        for lint in LINTS:
            for found in lint.check(facts):
                diagnostics.add(
                    lint.rule, found.message, found.span, found.help, labels=found.labels
                )
    return typed, [replace(d, about=tree.name.text) for d in diagnostics.found]


def _edition(file: ast.File, diagnostics: Diagnostics) -> int:
    """The edition of a file; one that names none is of the first, which is the only one so far."""
    for extra in file.editions[1:]:
        diagnostics.add("FIB103", "a second `edition`", extra.span, "a file has one; delete this")
    if not file.editions:
        return EDITIONS[0]
    year = file.editions[0].year
    if year.value not in EDITIONS:
        known = [str(edition) for edition in EDITIONS]
        text = f"{year.value:g}"
        diagnostics.add("FIB003", f"unknown edition {text}", year.span, nearest(text, known))
        return EDITIONS[-1]
    return int(year.value)


def reference_program(objective: TypedObjective) -> Program:
    """The unoptimised IR, as docs/semantics.md writes it; what the interpreter evaluates."""
    return verify(lower(objective), "lower")


def compile_objective(
    objective: TypedObjective, checked: Checked, params: Mapping[str, float]
) -> str:
    """The text of the torch module of one objective of a checked file; `params` are the values
    its parameters start with."""
    # Checking, which starts a thousand times a day, does without the back end.
    from fibc.emit.module import Origin, emit
    from fibc.ir.hash import semantic_hash
    from fibc.passes import optimise
    from fibc.passes.without_overflow import without_overflow

    reference = reference_program(objective)
    origin = Origin(
        PurePath(checked.source.path).name,
        checked.edition,
        checked.source.text,
        semantic_hash(reference, objective.defaults),
    )
    proved = without_overflow(reference, Facts.over_ranges(objective).ranges)
    return emit(optimise(proved), params, objective.doc, origin)
