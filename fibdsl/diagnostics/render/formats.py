"""The table of output formats: being here is all it takes to be offered."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from fibdsl.diagnostics.render.report import Report


@dataclass(frozen=True, slots=True)
class Format:
    """An output format, the file of its name beside this one.

    Attributes:
        name: its name, and its module's, whose `document` makes the text of a report. Only the
            one asked for is imported: a check must start fast.
        summary: what it is, for the help.
    """

    name: str
    summary: str

    def document(self, report: Report) -> str:
        """The report in this format, without a last line end."""
        text: str = import_module(f"fibdsl.diagnostics.render.{self.name}").document(report)
        return text


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("full", "for people: the line and a caret, notes and help"),
        Format("concise", "one line a finding"),
        Format("json", "everything there is to know, for programs"),
        Format("sarif", "SARIF 2.1.0, for code scanning"),
        Format("github", "annotations of GitHub Actions, and a job summary"),
        Format("junit", "JUnit XML, a test case a file"),
    )
}
