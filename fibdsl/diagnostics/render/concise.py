"""One line a finding: path:line:column: code message."""

from __future__ import annotations

from collections.abc import Iterable

from fibdsl.diagnostics.diagnostic import Diagnostic


def render(diagnostics: Iterable[Diagnostic]) -> str:
    return "\n".join(
        f"{d.source.path}:{d.line}:{d.column}: {d.code} {d.message}" for d in diagnostics
    )
