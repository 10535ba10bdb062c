"""What every output format is given: the outcome of one run, as data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.rules import Severity

if TYPE_CHECKING:
    from fibc.analysis.witnesses.witness import Witness


class FailOn(StrEnum):
    """The least severity that makes a run fail."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"

    def fails(self, diagnostic: Diagnostic) -> bool:
        if self is FailOn.WARNING:
            return True
        return self is FailOn.ERROR and diagnostic.severity is Severity.ERROR


@dataclass(frozen=True)
class Report:
    """One run of `fib check`.

    Attributes:
        files: what was checked, under the names it is reported under, in order.
        findings: all findings, in the order of the files.
        root: what the files of formats for code hosts are relative to: the top of the repository.
        fail_on: which findings make the run fail.
        ignored: how many findings were left out because they are ignored.
        witness_files: the batch files written, by witness.
        colour: whether to use terminal colours, in the formats that have any.
    """

    files: tuple[str, ...]
    findings: tuple[Diagnostic, ...]
    root: Path
    fail_on: FailOn = FailOn.WARNING
    ignored: int = 0
    witness_files: Mapping[Witness, str] = field(default_factory=dict)
    colour: bool = False

    @property
    def failed(self) -> bool:
        return any(map(self.fail_on.fails, self.findings))

    def count(self, severity: Severity) -> int:
        return sum(found.severity is severity for found in self.findings)

    def by_file(self) -> dict[str, list[Diagnostic]]:
        """The findings of each file, of those without any too, and of files that these use."""
        files: dict[str, list[Diagnostic]] = {file: [] for file in self.files}
        for found in self.findings:
            files.setdefault(found.source.path, []).append(found)
        return files

    def witness_file(self, found: Diagnostic) -> str | None:
        return None if found.witness is None else self.witness_files.get(found.witness)

    def in_root(self, file: str) -> str | None:
        """The path of a file from the root, with `/`; None if it lies elsewhere."""
        for whole in (os.path.abspath, os.path.realpath):  # either may go through links
            path, root = Path(whole(file)), Path(whole(self.root))
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return None


def counted(number: int, what: str) -> str:
    """A number and its noun: `1 file`, `no files`."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
