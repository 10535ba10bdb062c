"""A diagnostic, the list they are collected in, and the nearest valid name.

What is wrong in a part is added to the list and ends the judging of what contains it (`bad`); its
other parts are judged all the same (`collected`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from fibdsl.diagnostics.rules import RULES, Rule, Severity
from fibdsl.source import Source, Span

if TYPE_CHECKING:
    from fibc.analysis.witnesses.witness import Witness

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Label:
    """A second place a finding is about, and what is the matter there."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: what is wrong, where, and how to mend it.

    Attributes:
        rule: what kind of finding it is.
        message: what is wrong at `span`, in lower case.
        span: where; None for findings that are about no place in the text (an override, say).
        help: how to mend it.
        labels: further places it is about.
        notes: what else there is to know, a line each: the tokens of a witness, say.
        witness: a batch that shows it.
        about: the objective it is about, if it is about one.
    """

    rule: Rule
    message: str
    source: Source
    span: Span | None
    help: str | None = None
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    witness: Witness | None = field(default=None, compare=False)
    about: str | None = field(default=None, compare=False)

    @property
    def code(self) -> str:
        return self.rule.code

    @property
    def severity(self) -> Severity:
        return self.rule.severity

    @property
    def line(self) -> int:
        return self.source.position(self.span.start)[0] if self.span else 1

    @property
    def column(self) -> int:
        return self.source.position(self.span.start)[1] if self.span else 1


class ReportedError(Exception):
    """What is wrong was added to the diagnostics; nothing more can be said about what contains
    it."""


class Diagnostics:
    """Collects the findings about one source; errors never stop the collecting."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: list[Diagnostic] = []

    def add(
        self,
        rule: str | Rule,
        message: str,
        span: Span | None,
        help: str | None = None,
        *,
        labels: tuple[Label, ...] = (),
        notes: tuple[str, ...] = (),
        witness: Witness | None = None,
    ) -> None:
        """Adds a finding; `rule` is a code of `fibdsl.diagnostics.rules`, or a lint's record.

        It is about the file its span is of. Labels in other files become notes.
        """
        rule = RULES[rule] if isinstance(rule, str) else rule
        source = self._file(span)
        here = tuple(label for label in labels if self._file(label.span) == source)
        elsewhere = tuple(
            f"{file.path}:{file.position(label.span.start)[0]}: {label.text}"
            for label in labels
            if (file := self._file(label.span)) != source
        )
        self.found.append(
            Diagnostic(rule, message, source, span, help, here, (*elsewhere, *notes), witness)
        )

    def bad(self, rule: str, message: str, span: Span, help: str | None = None) -> ReportedError:
        """Adds a finding; what is returned is to be raised."""
        self.add(rule, message, span, help)
        return ReportedError()

    def text(self, span: Span) -> str:
        """What is written there, on one line."""
        return " ".join(self._file(span).text[span.start : span.end].split())

    def _file(self, span: Span | None) -> Source:
        return (span and span.source) or self.source

    @property
    def has_errors(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.found)

    def in_order(self) -> list[Diagnostic]:
        """All findings in the order of the text, and behind them those about other files."""
        return sorted(
            self.found,
            key=lambda d: (
                "" if d.source == self.source else d.source.path,
                d.span.start if d.span else -1,
                d.code,
            ),
        )


def collected(makes: Sequence[Callable[[], T]]) -> list[T]:
    """What all of them make; when some fail the others are made all the same, for their
    findings."""
    made: list[T] = []
    for make in makes:
        try:
            made.append(make())
        except ReportedError:
            continue
    if len(made) < len(makes):
        raise ReportedError
    return made


def closest(name: str, known: Iterable[str]) -> str | None:
    """The valid name that `name` was perhaps meant to be."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """A help text that suggests the valid name closest to `name`, or lists them all."""
    choices = list(known)
    close = closest(name, choices)
    if close is not None:
        return f"did you mean `{close}`?"
    if not choices:
        return "none is declared"
    return "known here: " + ", ".join(f"`{choice}`" for choice in choices)
