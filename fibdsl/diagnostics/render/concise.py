"""One line a finding: path:line:column: code message."""

from __future__ import annotations

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.report import Report
from fibdsl.diagnostics.render.text import safe


def document(report: Report) -> str:
    return "\n".join(map(_line, report.findings))


def _line(d: Diagnostic) -> str:
    return safe(f"{d.source.path}:{d.line}:{d.column}: {d.code} {d.message}")
