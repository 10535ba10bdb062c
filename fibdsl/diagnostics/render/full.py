"""The format for people: message, place, the line with a caret, help."""

from __future__ import annotations

from collections.abc import Iterable

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.rules import RULES


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """All findings, a blank line between two; no trailing newline."""
    return "\n\n".join(render_one(d) for d in diagnostics)


def render_one(d: Diagnostic) -> str:
    head = f"{d.severity.value}[{d.code}]: {d.message}"
    lines = [head]
    if d.span is None:
        lines.append(f"  --> {d.source.path}")
    else:
        lines.append(f"  --> {d.source.path}:{d.line}:{d.column}")
        text = d.source.line(d.line)
        gutter = " " * len(str(d.line))
        # Tabs keep their width so that the caret stands under what it means.
        indent = "".join("\t" if c == "\t" else " " for c in text[: d.column - 1])
        width = max(1, min(d.span.end - d.span.start, len(text) - d.column + 1))
        lines += [
            f" {gutter} |",
            f" {d.line} | {text}",
            f" {gutter} | {indent}{'^' * width} {RULES[d.code].name}",
        ]
    if d.help:
        lines.append(f"  help: {d.help}")
    return "\n".join(lines)
