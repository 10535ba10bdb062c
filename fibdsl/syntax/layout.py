"""The canonical layout: what stands on which line, and which columns line up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fibdsl.syntax.lines import WIDTH, Line, align_comments, broken, comment_line, joined
from fibdsl.syntax.outline import Part, outline
from fibdsl.syntax.words import Word

_INDENT = 2

_KEYWORD = {0: len("signal")}
"""Operands start in one column, behind the widest keyword that every objective has."""

_Padding = Mapping[int, int]
"""To which width the word at an index of a statement is filled up."""


def laid_out(words: tuple[Word, ...]) -> str:
    """The text of a file in canonical format."""
    file = outline(words)
    lines: list[Line] = []
    for part in file.parts:
        top = _objective(part) if part.keyword == "objective" else _statement(part, 0, {})
        if lines and not part.after_blank:
            top[0] = replace(top[0], after_blank=True)
        lines += top
    lines += [comment_line(0, comment) for comment in file.tail]
    return joined(_first_unspaced(lines))


def _objective(part: Part) -> list[Line]:
    paddings = {**_param_paddings(part.body or ()), **_at_paddings(part.body or ())}
    body: list[Line] = []
    for index, statement in enumerate(part.body or ()):
        if statement.body is not None and index not in paddings:
            body += _block(statement, _INDENT)
        else:
            body += _statement(statement, _INDENT, paddings.get(index, _KEYWORD))
    return _braced(part, 0, body, align_comments)


def _block(part: Part, indent: int) -> list[Line]:
    """An `at` with a clause a line."""
    inside = indent + _INDENT
    clauses = [line for clause in part.body or () for line in _statement(clause, inside, {})]
    return _braced(part, indent, clauses)


def _braced(
    part: Part,
    indent: int,
    body: list[Line],
    finish: Callable[[Sequence[Line]], list[Line]] = list,
) -> list[Line]:
    """A part whose braces stand on different lines, unless there is nothing between them."""
    body += [comment_line(indent + _INDENT, comment) for comment in part.tail]
    if not body and not part.opened:
        return _with_comments(part, broken([*part.words, Word("}")], indent, {}))
    head = broken(part.words, indent, {})
    if part.opened:
        head[-1] = replace(head[-1], comment=part.opened.text)
    inside = finish(_first_unspaced(body))
    return _with_comments(part, [*head, *inside, Line(indent, "}")])


def _statement(part: Part, indent: int, padding: _Padding) -> list[Line]:
    """A statement or a clause on one line, if it fits and no comment stands in it."""
    # A comment for the checker is about one line, so the statement stays on that line.
    width = math.inf if part.is_directed else WIDTH
    return _with_comments(part, broken(list(part.all_words()), indent, padding, width))


def _with_comments(part: Part, lines: list[Line]) -> list[Line]:
    lead = [comment_line(lines[0].indent, comment) for comment in part.lead]
    lines[0] = replace(lines[0], after_blank=part.words[0].after_blank)
    if part.trailing:
        in_column = len(lines) == 1
        lines[-1] = replace(lines[-1], comment=part.trailing.text, in_column=in_column)
    return [*lead, *lines]


def _first_unspaced(lines: list[Line]) -> list[Line]:
    return [replace(line, after_blank=False) for line in lines[:1]] + lines[1:]


# --- columns ------------------------------------------------------------------------------------


def _param_paddings(statements: Sequence[Part]) -> dict[int, _Padding]:
    """Of each `param`, by its index: the widths of names and spaces in its run."""
    paddings: dict[int, _Padding] = {}
    simple = {i for i, s in enumerate(statements) if s.keyword == "param" and not s.holds_comments}
    for run in _runs(statements, simple):
        widths = {n: max(len(statements[i].words[n].text) for i in run) for n in (1, 3)}
        paddings.update((i, {**_KEYWORD, **widths}) for i in run)
    return paddings


def _at_paddings(statements: Sequence[Part]) -> dict[int, _Padding]:
    """Of each `at` that stands on one line, by its index: the widths of level and `base` or `fiber`
    in its run."""

    def fits(index: int, padding: _Padding) -> bool:
        part = statements[index]
        lines = broken(list(part.all_words()), _INDENT, padding, math.inf)
        return part.is_directed or lines[0].width <= WIDTH

    flat = {i for i, s in enumerate(statements) if s.keyword == "at" and not s.holds_comments}
    flat = {i for i in flat if fits(i, {})}
    while True:
        paddings: dict[int, _Padding] = {}
        for run in _runs(statements, flat):
            levels = max(len(statements[i].words[1].text) for i in run)
            roles = [s.keyword for i in run for s in (statements[i].body or ())[:1]]
            role = max((len(word) for word in roles if word != "aggregate"), default=0)
            paddings.update((i, {1: levels, 3: role}) for i in run)
        # Columns may make a line too wide; then it leaves its run, and the columns change.
        wide = {i for i, padding in paddings.items() if not fits(i, padding)}
        if not wide:
            return paddings
        flat -= wide


def _runs(statements: Sequence[Part], members: set[int]) -> list[list[int]]:
    """The members that follow each other without a blank line, together."""
    runs: list[list[int]] = []
    for index in sorted(members):
        if runs and runs[-1][-1] == index - 1 and not statements[index].after_blank:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
