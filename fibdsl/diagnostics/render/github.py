"""Workflow commands of GitHub Actions, which become annotations of the changed lines, and a
Markdown summary for the page of the job.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
GitHub shows ten errors and ten warnings a step as annotations; the summary has them all.
"""

from __future__ import annotations

import re

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.report import Report, counted
from fibdsl.diagnostics.render.text import safe

_MESSAGE = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = _MESSAGE | str.maketrans({":": "%3A", ",": "%2C"})

# A summary may have 1 MiB a step.
_ROWS = 1000


def document(report: Report) -> str:
    return "\n".join(_annotation(report, d) for d in report.findings)


def _annotation(report: Report, d: Diagnostic) -> str:
    properties = {"file": report.in_root(d.source.path) or d.source.path}
    if d.span is not None:
        (line, column), (end_line, end_column) = map(d.source.position, (d.span.start, d.span.end))
        if line == end_line:
            places = {"line": line, "col": column, "endLine": line, "endColumn": end_column}
        else:
            # The runner takes no columns for several lines. A place may end with a line's end.
            places = {"line": line, "endLine": end_line - (end_column == 1)}
        properties |= {name: str(number) for name, number in places.items()}
    properties["title"] = f"{d.code} {d.rule.name}"
    said = ",".join(f"{name}={text.translate(_PROPERTY)}" for name, text in properties.items())
    text = "\n".join((d.message, *d.notes, *([f"help: {d.help}"] if d.help else [])))
    text = "\n".join(map(safe, text.split("\n")))
    return f"::{d.severity.value} {said}::{text.translate(_MESSAGE)}"


def summary(report: Report) -> str:
    """The outcome in Markdown, one row a finding, with a line end."""
    files = counted(len(report.files), "file")
    if not report.findings:
        return f"### fib check: {files}, no findings\n"
    lines = [
        f"### fib check: {files}, {counted(len(report.findings), 'finding')}",
        "",
        "| | where | what | how to mend it |",
        "|---|---|---|---|",
    ]
    for d in report.findings[:_ROWS]:
        place = f":{d.line}:{d.column}" if d.span else ""
        where = f"{report.in_root(d.source.path) or d.source.path}{place}"
        cells = (f"{d.severity.value} {d.code}", where, d.message, d.help or "")
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    if len(report.findings) > _ROWS:
        lines += ["", f"and {counted(len(report.findings) - _ROWS, 'more finding')}"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A text as a cell of a Markdown table shows it: what stands in backticks stays code, all
    else is text."""
    parts = re.split(r"(`[^`]*`)", safe(text.replace("\n", " ")))
    plain = [re.sub(r"([\\`*_\[\]<>&#~@!])", r"\\\1", part) for part in parts]
    marked = "".join(part if n % 2 else plain[n] for n, part in enumerate(parts))
    return marked.replace("|", r"\|")
