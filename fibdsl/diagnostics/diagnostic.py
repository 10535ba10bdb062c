"""A diagnostic, the list they are collected in, and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from fibdsl.diagnostics.rules import RULES, Severity
from fibdsl.source import Source, Span


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: what is wrong, where, and how to mend it.

    Attributes:
        code: a rule of `fibdsl.diagnostics.rules`, e.g. "FIB101".
        message: what is wrong at `span`, in lower case.
        span: where; None for findings that are about no place in the text (an override, say).
        help: how to mend it.
    """

    code: str
    message: str
    source: Source
    span: Span | None
    help: str | None = None

    @property
    def severity(self) -> Severity:
        return RULES[self.code].severity

    @property
    def line(self) -> int:
        return self.source.position(self.span.start)[0] if self.span else 1

    @property
    def column(self) -> int:
        return self.source.position(self.span.start)[1] if self.span else 1


class Diagnostics:
    """Collects the findings about one source; errors never stop the collecting."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: list[Diagnostic] = []

    def add(self, code: str, message: str, span: Span | None, help: str | None = None) -> None:
        self.found.append(Diagnostic(code, message, self.source, span, help))

    @property
    def has_errors(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.found)

    def in_order(self) -> list[Diagnostic]:
        """All findings in the order of the text."""
        return sorted(self.found, key=lambda d: (d.span.start if d.span else -1, d.code))


def nearest(name: str, known: Iterable[str]) -> str:
    """A help text that suggests the valid name closest to `name`, or lists them all."""
    choices = list(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    if not choices:
        return "none is declared"
    return "known here: " + ", ".join(f"`{choice}`" for choice in choices)
