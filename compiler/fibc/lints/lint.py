"""What a lint is: the record of its rule, and a function that finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fibc.analysis.facts import Facts
from fibdsl.diagnostics.diagnostic import Label
from fibdsl.diagnostics.rules import Rule
from fibdsl.source import Span


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a lint's rule is found: where, what is wrong there, how to mend it."""

    span: Span
    message: str
    help: str
    labels: tuple[Label, ...] = ()


Check = Callable[[Facts], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Lint:
    rule: Rule
    check: Check


def lint(rule: Rule) -> Callable[[Check], Lint]:
    """Makes a lint of a check: a function from what is known of an objective to findings."""
    return lambda check: Lint(rule, check)
