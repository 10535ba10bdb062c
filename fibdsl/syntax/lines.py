"""Words to lines: the spaces between words, where a line may break, the column of comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fibdsl.syntax.words import Comment, Word

WIDTH = 100
"""Columns of a line that holds more than one word, its comment aside."""

_NARROW = 60
"""Wider lines do not push away the comments of others."""

_CONTINUED = 4
"""How much deeper the further lines of a statement stand."""

_BREAK_BEFORE = frozenset({"IN", "WHEN", "AND", "OR", "OTHERWISE"})
_OPERATORS = frozenset({"+", "-", "*", "/", "<", "<=", ">", ">="})


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a comment of its own, or words with the comment at their end.

    Attributes:
        in_column: whether its comment lines up with others, as those of whole statements do.
        after_blank: whether a blank line is above it.
    """

    indent: int
    text: str
    comment: str | None = None
    in_column: bool = False
    after_blank: bool = False

    @property
    def width(self) -> int:
        return self.indent + len(self.text)


def comment_line(indent: int, comment: Comment) -> Line:
    """The line of a comment that stands alone."""
    return Line(indent, comment.text, after_blank=comment.after_blank)


def broken(
    words: Sequence[Word], indent: int, padding: Mapping[int, int], width: float = WIDTH
) -> list[Line]:
    """The lines of a statement: one, if it fits and no comment stands in it.

    A comment between two words stays between them: the line ends after it.

    Args:
        padding: to which width the word at an index is filled up.
        width: the columns of a line.
    """
    lines = _filled(words, indent, padding, width, within_terms=False)
    if all(line.width <= width for line in lines):
        return lines
    return _filled(words, indent, padding, width, within_terms=True)


def _filled(
    words: Sequence[Word],
    indent: int,
    padding: Mapping[int, int],
    width: float,
    within_terms: bool,
) -> list[Line]:
    lines: list[Line] = []
    text = ""
    step = indent
    for first, chunk in _chunks(words, padding, within_terms):
        if not text:
            text = chunk
        elif not first.comments and step + len(text) + len(chunk) <= width:
            text += chunk
        else:
            comment = first.trailing.text if first.trailing else None
            lines.append(Line(step, text.rstrip(), comment))
            step = indent + _CONTINUED
            lines += [Line(step, above.text) for above in first.above]
            text = chunk.lstrip()
    return [*lines, Line(step, text.rstrip())]


def _chunks(
    words: Sequence[Word], padding: Mapping[int, int], within_terms: bool
) -> Iterator[tuple[Word, str]]:
    """What stays on one line, with the space in front of it; and the first word of each.

    Args:
        within_terms: whether a line may break before an operator too.
    """
    first = before = words[0]
    text = first.text.ljust(padding.get(0, 0))
    tight = _opens(None, first)
    for index, word in enumerate(words[1:], 1):
        breaks = before.text == "," or word.kind in _BREAK_BEFORE or _next_level(words[0], word)
        if within_terms and not _opens(before, word):
            breaks = breaks or word.text in _OPERATORS
        if word.comments or breaks:
            yield first, text
            first, text = word, ""
        space = "" if tight or _touches(before, word) else " "
        text += space + word.text.ljust(padding.get(index, 0))
        tight = _opens(before, word)
        before = word
    yield first, text


def _opens(before: Word | None, word: Word) -> bool:
    """Whether no space stands behind a word: a sign, or what opens a bracket."""
    if word.text in ("+", "-", "|"):
        return before is None or not _ends_operand(before)
    return word.text in ("(", "[")


def _next_level(first: Word, word: Word) -> bool:
    """Whether a word of the statement that starts with `first` parts two levels."""
    return first.kind == "LEVELS" and word.text == "<"


def _ends_operand(word: Word) -> bool:
    """Whether a `+` or `-` after this word is arithmetic and not a sign."""
    return word.kind in ("NAME", "NUMBER") or word.text in (")", "]", "|")


def _touches(before: Word, word: Word) -> bool:
    """Whether no space stands between the two."""
    if word.text == "(":
        return before.kind == "NAME"
    if word.text == "|":
        return before.kind == "NAME"
    if word.ends_label or word.text in (")", "]", ",", ";"):
        return True
    return (before.text, word.text) == ("{", "}")


def align_comments(lines: Sequence[Line]) -> list[Line]:
    """The lines with the comments that line up filled up to their column, and added.

    All of an objective share the first multiple of four that leaves two spaces. A line too wide for
    that takes the lines with it that follow each other with such comments.
    """
    shared = _column(line for line in lines if line.in_column and line.width <= _NARROW)
    aligned: list[Line] = []
    for run in _runs(lines):
        column = max(shared, _column(run))
        aligned += [_commented(line, column) if line.in_column else line for line in run]
    return aligned


def _commented(line: Line, column: int) -> Line:
    text = f"{line.text:{column - line.indent}}{line.comment}"
    return replace(line, text=text, comment=None)


def _runs(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines with comments of the column that follow each other, together; each other line alone."""
    runs: list[list[Line]] = []
    for line in lines:
        follows = runs and runs[-1][-1].in_column and line.in_column and not line.after_blank
        if follows:
            runs[-1].append(line)
        else:
            runs.append([line])
    return runs


def _column(lines: Iterable[Line]) -> int:
    widest = max((line.width for line in lines), default=-2)
    return -(-(widest + 2) // 4) * 4


def joined(lines: Sequence[Line]) -> str:
    """The text of the lines; a comment outside the column stands two spaces behind its words."""
    return "".join(
        ("\n" if line.after_blank else "")
        + " " * line.indent
        + line.text
        + (f"  {line.comment}" if line.comment else "")
        + "\n"
        for line in lines
    )
