"""Findings about what an objective has from another one: said once, and of the file at hand.

A parent's own mistake shows in each of its children too, and is said of the parent alone. What only
a child brings about in a text it has from a parent is said with the name of the child, and in its
file, which is the one that can be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fibc.link import Kin
from fibdsl.diagnostics.diagnostic import Diagnostic, Label
from fibdsl.diagnostics.rules import PROMISES, Severity
from fibdsl.source import Source, Span
from fibdsl.syntax import ast

_MISSING = "FIB105"

Findings = Callable[[ast.Objective], Sequence[Diagnostic]]


def settled(kin: Kin, source: Source, findings: Findings) -> list[Diagnostic]:
    """The findings about an objective of the file `source` that are to be said; `findings` gives
    those about an objective by itself."""
    kept = []
    for found in findings(kin.tree):
        if _inside(found, kin.tree, source) and found.code not in (*PROMISES, _MISSING):
            kept.append(found)
            continue
        parents = kin.parents if _elsewhere(found, source) else _of_file(kin.parents, source)
        if any(_alike(found, kin.tree, p, tree) for tree in parents for p in findings(tree)):
            if _elsewhere(found, source) and found.severity is Severity.ERROR:
                kept.append(found)  # of that file, which is not checked by itself
        elif _inside(found, kin.tree, source):
            kept.append(found)
        elif found.severity is Severity.ERROR or not _elsewhere(found, source):
            kept.append(_of_child(found, kin, source))
    return kept


def _inside(found: Diagnostic, tree: ast.Objective, source: Source) -> bool:
    span = found.span
    if _elsewhere(found, source):
        return False
    return span is None or tree.span.start <= span.start < tree.span.end


def _elsewhere(found: Diagnostic, source: Source) -> bool:
    return found.source is not source


def _of_file(trees: Sequence[ast.Objective], source: Source) -> list[ast.Objective]:
    return [tree for tree in trees if tree.span.source is None or tree.span.source is source]


def _alike(a: Diagnostic, of: ast.Objective, b: Diagnostic, of_parent: ast.Objective) -> bool:
    """Whether a finding about a child is that about its parent once more."""
    if a.code != b.code:
        return False
    if a.code == _MISSING:
        return a.message == b.message.replace(f"`{of_parent.name.text}`", f"`{of.name.text}`")
    if a.code in PROMISES:
        return bool(_promises(a) & _promises(b))
    return a == b


def _promises(found: Diagnostic) -> set[Span | str]:
    """The places of the promise that a finding is about."""
    places: set[Span | str] = {found.span} if found.span is not None else set()
    places |= {label.span for label in found.labels if label.text.startswith("promised by")}
    return places | {note for note in found.notes if ": promised by" in note}


def _of_child(found: Diagnostic, kin: Kin, source: Source) -> Diagnostic:
    """A finding in a parent's text that the child brings about."""
    child, parent = kin.tree.name, kin.parents[0].name.text
    if not _elsewhere(found, source):
        label = Label(child.span, f"seen in `{child.text}`, which extends `{parent}`")
        return replace(found, labels=(*found.labels, label))
    place = f"{found.source.path}:{found.line}"
    note = f"said of {place}: {found.source.line(found.line).strip()}"
    labelled = [
        f"{found.source.path}:{found.source.position(label.span.start)[0]}: {label.text}"
        for label in found.labels
    ]
    return replace(
        found, source=source, span=child.span, labels=(), notes=(note, *labelled, *found.notes)
    )
