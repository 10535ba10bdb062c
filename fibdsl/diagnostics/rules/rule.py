"""What a rule is: one record, read by `fib rule`, docs/rules.md, the output formats, the tests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Fix(StrEnum):
    """What doing what the help says does to the loss."""

    SAFE = "safe"
    """The loss stays what it is."""
    UNSAFE = "unsafe"
    """The loss changes: a decision for whoever owns the objective."""
    NONE = "none"
    """There is no one way to mend it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        code: FIB and three digits.
        name: in words, for people who read logs.
        summary: what is found, in one line.
        why: what goes wrong if it stays, with a source where there is one.
        example: a spec in which it is found; empty where it is not about a spec.
        mended: the example after the mend, in which it is not; empty where `fix` is NONE.
        fix: what the mend does to the loss; for errors of a spec that has no loss yet, SAFE.
    """

    code: str
    name: str
    summary: str
    why: str = ""
    example: str = ""
    mended: str = ""
    fix: Fix = Fix.SAFE

    @property
    def severity(self) -> Severity:
        return Severity.WARNING if self.code.startswith("FIB6") else Severity.ERROR
