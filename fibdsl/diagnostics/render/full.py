"""The format for people: message, place, the lines with marks below, notes, help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.colour import paint
from fibdsl.diagnostics.render.report import Report
from fibdsl.diagnostics.render.text import safe, shown
from fibdsl.source import Source, Span


def document(report: Report) -> str:
    return "\n\n".join(
        render_one(d, report.colour, report.witness_file(d)) for d in report.findings
    )


def render(diagnostics: Iterable[Diagnostic], colour: bool = False) -> str:
    """All findings, a blank line between two; no trailing newline."""
    return "\n\n".join(render_one(d, colour) for d in diagnostics)


def render_one(d: Diagnostic, colour: bool = False, witness_file: str | None = None) -> str:
    head = paint(f"{d.severity.value}[{d.code}]", d.severity.value, colour)
    lines = [f"{head}{paint(f': {safe(d.message)}', 'message', colour)}"]
    place = f":{d.line}:{d.column}" if d.span else ""
    lines.append(f"  {paint('-->', 'frame', colour)} {safe(d.source.path)}{place}")
    if d.span is not None:
        marks = list(_marks(d.source, d.span, d.rule.name, d.severity.value))
        for label in d.labels:
            marks += _marks(d.source, label.span, label.text, "label")
        lines += _excerpt(d.source, marks, colour)
    said = [("note", note) for note in d.notes]
    said += [("note", f"a batch that shows it: {witness_file}")] if witness_file else []
    said += [("help", d.help)] if d.help else []
    for what, text in said:
        first, *rest = map(safe, text.split("\n"))
        lines.append(f"  {paint(f'{what}:', what, colour)} {first}")
        lines += [f"        {line}" for line in rest]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What stands below one line: an underline from one printed column to another, and a text;
    empty where the underline goes on in a later line."""

    line: int
    start: int
    end: int
    text: str
    style: str

    @property
    def char(self) -> str:
        return "-" if self.style == "label" else "^"


def _marks(source: Source, span: Span, text: str, style: str) -> Iterable[_Mark]:
    """The marks of a place: one, or below its first and its last line."""
    inside = source.text[span.start : span.end].rstrip()
    first, start = source.position(span.start)
    last, end = source.position(span.start + len(inside))
    columns = shown(source.line(first))[1]
    if last == first:
        begin = columns[start - 1]
        # A place between two characters has no width; its mark has, to be seen.
        yield _Mark(first, begin, max(begin + 1, columns[end - 1]), safe(text), style)
        return
    yield _Mark(first, columns[start - 1], columns[-1], "", style)
    line = source.line(last)
    columns = shown(line)[1]
    indent = len(line) - len(line.lstrip())
    yield _Mark(last, columns[indent], columns[end - 1], safe(text), style)


def _excerpt(source: Source, marks: list[_Mark], colour: bool) -> Iterable[str]:
    """The lines that have marks, each with its marks below; `:` for lines left out."""
    numbers = sorted({mark.line for mark in marks})
    width = len(str(numbers[-1]))
    gutter = paint(f" {'':{width}} |", "frame", colour)
    yield gutter
    before = numbers[0]
    for number in numbers:
        if number > before + 1:
            yield paint(f" {'':{width}} :", "frame", colour)
        before = number
        text = shown(source.line(number))[0]
        yield f"{paint(f' {number:>{width}} |', 'frame', colour)} {text}"
        for below in _below([mark for mark in marks if mark.line == number], colour):
            yield f"{gutter} {below}"


def _below(marks: list[_Mark], colour: bool) -> Iterable[str]:
    """All underlines on one line and the text of the last one behind it; then the other texts,
    from right to left, each below the start of its underline:

        ------   ^^^^^^^ text of the last
        text of the first
    """
    row: dict[int, tuple[str, str]] = {}
    for mark in reversed(marks):  # the first is what the finding is about: it covers the others
        row |= dict.fromkeys(range(mark.start, mark.end), (mark.char, mark.style))
    behind = max(marks, key=lambda mark: mark.end)
    yield f"{_row(row, colour)} {paint(behind.text, behind.style, colour)}".rstrip()
    waiting = sorted((m for m in marks if m is not behind and m.text), key=lambda m: m.start)
    while waiting:
        mark = waiting.pop()
        bars = {w.start: ("|", w.style) for w in waiting if w.start < mark.start}
        text = paint(mark.text, mark.style, colour)
        yield f"{_row(bars, colour)}{_pad(bars, mark.start)}{text}"


def _pad(row: dict[int, tuple[str, str]], column: int) -> str:
    return " " * (column - (max(row) + 1 if row else 0))


def _row(row: dict[int, tuple[str, str]], colour: bool) -> str:
    """The characters at their printed columns, up to the last one."""
    cells = [row.get(column, (" ", "frame")) for column in range(max(row, default=-1) + 1)]
    return "".join(
        paint("".join(char for char, _ in run), style, colour)
        for style, run in ((style, list(group)) for style, group in groupby(cells, lambda c: c[1]))
    )
