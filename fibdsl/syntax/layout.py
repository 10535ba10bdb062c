"""The canonical layout: what stands on which line, and which columns line up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fibdsl.syntax.lines import WIDTH, Line, align_comments, broken, comment_line, joined
from fibdsl.syntax.outline import Part, outline
from fibdsl.syntax.words import CLOSING, Word

_INDENT = 2

_KEYWORD = {0: len("signal")}
"""Operands start in one column, behind the widest keyword that every objective has."""

_Padding = Mapping[int, int]
"""To which width the word at an index of a statement is filled up."""


def laid_out(words: tuple[Word, ...]) -> str:
    """The text of a file in canonical format."""
    file = outline(words)
    lines: list[Line] = []
    for before, part in zip((None, *file.parts), file.parts, strict=False):
        top = _item(part)
        if before and not part.after_blank and not _keeps_close(before, part):
            top[0] = replace(top[0], after_blank=True)
        lines += top
    lines += [comment_line(0, comment) for comment in file.tail]
    return joined(_first_unspaced(lines))


def _keeps_close(before: Part, part: Part) -> bool:
    """Whether it is the author's to say if a blank line parts the two."""
    return part.keyword == "use" and before.keyword in ("edition", "use")


def _item(part: Part) -> list[Line]:
    match part.keyword:
        case "objective":
            return _objective(part)
        case "gate":
            return _gate(part)
        case _:
            return _statement(part, 0, {})


def _gate(part: Part) -> list[Line]:
    """A gate with a case a line, or on one line with the one expression it is."""
    if not _holds_cases(part) and _fits(part, 0, {}):
        return _statement(part, 0, {})
    return _braced(part, 0, _cases(part, _INDENT), align_comments)


def _objective(part: Part) -> list[Line]:
    paddings = {**_param_paddings(part.body or ()), **_at_paddings(part.body or ())}
    body: list[Line] = []
    for index, statement in enumerate(part.body or ()):
        if statement.body is None or index in paddings:
            padding = {} if statement.keyword in ("waive", "let") else _KEYWORD
            body += _statement(statement, _INDENT, paddings.get(index, padding))
        elif statement.keyword == "at":
            body += _block(statement, _INDENT)
        else:
            body += _braced(statement, _INDENT, _cases(statement, 2 * _INDENT))
    return _braced(part, 0, body, align_comments)


def _block(part: Part, indent: int) -> list[Line]:
    """An `at` with a clause a line."""
    inside = indent + _INDENT
    body: list[Line] = []
    for clause in part.body or ():
        if clause.body is None or _fits(clause, inside, {}):
            body += _statement(clause, inside, {})
        else:
            body += _braced(clause, inside, _cases(clause, inside + _INDENT))
    return _braced(part, indent, body)


def _cases(part: Part, indent: int) -> list[Line]:
    """The cases of a part, or its cells, each on a line."""
    cases = part.body or ()
    paddings = _case_paddings(cases, indent)
    return [
        line
        for index, case in enumerate(cases)
        for line in _statement(case, indent, paddings.get(index, {}))
    ]


def _holds_cases(part: Part) -> bool:
    return any(case.index_of("WHEN", "OTHERWISE") for case in part.body or ())


def _fits(part: Part, indent: int, padding: _Padding) -> bool:
    """Whether a part can stand on one line."""
    if part.holds_comments:
        return False
    [line] = broken(list(part.all_words()), indent, padding, math.inf)
    return part.is_directed or line.width <= WIDTH


def _braced(
    part: Part,
    indent: int,
    body: list[Line],
    finish: Callable[[Sequence[Line]], list[Line]] = list,
) -> list[Line]:
    """A part whose braces stand on different lines, unless there is nothing between them."""
    body += [comment_line(indent + _INDENT, comment) for comment in part.tail]
    if not body and not part.opened:
        return _with_comments(part, broken([*part.words, CLOSING], indent, {}))
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

    def columns(flat: set[int]) -> dict[int, _Padding]:
        paddings: dict[int, _Padding] = {}
        for run in _runs(statements, flat):
            levels = max(len(statements[i].words[1].text) for i in run)
            roles = [s.keyword for i in run for s in (statements[i].body or ())[:1]]
            role = max((len(word) for word in roles if word in ("base", "fiber")), default=0)
            paddings.update((i, {1: levels, 3: role}) for i in run)
        return paddings

    flat = {i for i, s in enumerate(statements) if s.keyword == "at"}
    return _fitting(statements, flat, _INDENT, columns)


def _case_paddings(cases: Sequence[Part], indent: int) -> dict[int, _Padding]:
    """Of each case or cell, by its index: the width of its label, and of its value if it stands on
    one line."""
    simple = {i for i, case in enumerate(cases) if not case.holds_comments}
    runs = _runs(cases, simple)
    labels: dict[int, _Padding] = {}
    for run in runs:
        label = max((len(cases[i].words[0].text) for i in run if cases[i].is_labelled), default=0)
        # The `:` is filled up, which stands close behind the label.
        labels |= {i: _label_padding(cases[i], label + 1) for i in run}
    ends = {i: cases[i].index_of("WHEN", "OTHERWISE") or len(cases[i].words) for i in simple}
    values = {i: broken(cases[i].words[: ends[i]], 0, labels[i], math.inf)[0].width for i in simple}

    def columns(flat: set[int]) -> dict[int, _Padding]:
        paddings: dict[int, _Padding] = {}
        for run in runs:
            value = max((values[i] for i in run if i in flat), default=0)
            for i in flat.intersection(run):
                last = ends[i] - 1
                width = len(cases[i].words[last].text) + value - values[i]
                paddings[i] = {**labels[i], last: width}
        return paddings

    return labels | _fitting(cases, simple, indent, columns)


def _label_padding(case: Part, width: int) -> _Padding:
    return {1: width - len(case.words[0].text)} if case.is_labelled else {}


def _fitting(
    parts: Sequence[Part],
    flat: set[int],
    indent: int,
    columns: Callable[[set[int]], dict[int, _Padding]],
) -> dict[int, _Padding]:
    """The columns of those parts in `flat` that stand on one line."""
    flat = {i for i in flat if _fits(parts[i], indent, {})}
    while True:
        paddings = columns(flat)
        # Columns may make a line too wide; then it leaves them, and they change.
        wide = {i for i, padding in paddings.items() if not _fits(parts[i], indent, padding)}
        if not wide:
            return paddings
        flat -= wide


def _runs(parts: Sequence[Part], members: set[int]) -> list[list[int]]:
    """The members that follow each other without a blank line, together."""
    runs: list[list[int]] = []
    for index in sorted(members):
        if runs and runs[-1][-1] == index - 1 and not parts[index].after_blank:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
