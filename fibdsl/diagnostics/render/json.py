"""One JSON object a run, for programs. docs/ci.md says what each entry means.

`version` is raised when an entry changes its meaning or goes; entries may be added without that.
"""

from __future__ import annotations

import json
from typing import Any

from fibdsl._version import __version__
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.report import Report
from fibdsl.diagnostics.rules import Severity
from fibdsl.source import Source, Span

VERSION = 1


def document(report: Report) -> str:
    # ASCII only: right in whatever encoding the standard output has.
    return json.dumps(
        {
            "version": VERSION,
            "tool": {"name": "fibdsl", "version": __version__},
            "files": list(report.files),
            "findings": [_finding(report, d) for d in report.findings],
            "summary": {
                "files": len(report.files),
                "errors": report.count(Severity.ERROR),
                "warnings": report.count(Severity.WARNING),
                "ignored": report.ignored,
                "failed": report.failed,
            },
        },
        indent=2,
    )


def _finding(report: Report, d: Diagnostic) -> dict[str, Any]:
    return {
        "code": d.code,
        "name": d.rule.name,
        "severity": d.severity.value,
        "message": d.message,
        "help": d.help,
        "notes": list(d.notes),
        "fix": d.rule.fix.value,
        "file": d.source.path,
        **_place(d.source, d.span),
        "labels": [{"message": at.text, **_place(d.source, at.span)} for at in d.labels],
        "witness": None
        if d.witness is None
        else {
            "name": d.witness.name,
            "shows": d.witness.shows,
            "file": report.witness_file(d),
        },
    }


def _place(source: Source, span: Span | None) -> dict[str, Any]:
    if span is None:
        return {"start": None, "end": None}
    return {"start": _point(source, span.start), "end": _point(source, span.end)}


def _point(source: Source, offset: int) -> dict[str, int]:
    line, column = source.position(offset)
    return {"line": line, "column": column, "offset": offset}
