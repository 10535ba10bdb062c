"""The words of a spec as items, statements, clauses and cases, each with the comments that belong
to it. Only keywords, braces and what ends a case are looked at, so a new form of a statement needs
nothing here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fibc.grammar import CLAUSES, ITEMS, STATEMENTS
from fibdsl.syntax.words import CLOSING, Comment, Word


@dataclass(frozen=True, slots=True)
class _Inside:
    """How what a pair of braces holds falls into parts: each starts with a keyword, or it ends with
    a sign, and perhaps starts with a label."""

    starts: frozenset[str] = frozenset()
    end: str | None = None


_FILE = _Inside(ITEMS)
_CASES = _Inside(end="SEMICOLON")
_BRACES: Mapping[str, _Inside] = {
    "OBJECTIVE": _Inside(STATEMENTS),
    "AT": _Inside(CLAUSES),
    "BUDGET": _Inside(end="COMMA"),
    "GATE": _CASES,
    "LET": _CASES,
    "SURROGATE": _CASES,
    "WEIGHT": _CASES,
    "PENALTY": _CASES,
}
"""What the braces of a part hold, by its keyword."""


@dataclass(frozen=True, slots=True)
class Part:
    """An item of a file, a statement, a clause, a case, or the budget of a cell.

    Attributes:
        words: up to and with the `{`, where it has one; comments before the first are in `lead`.
        lead: the comments on lines of their own above it.
        trailing: the comment on the line on which it ends.
        body: what its braces hold, or None without braces.
        opened: the comment on the line of the `{`.
        tail: the comments on lines of their own above the `}`.
    """

    words: tuple[Word, ...]
    lead: tuple[Comment, ...]
    trailing: Comment | None
    body: tuple[Part, ...] | None = None
    opened: Comment | None = None
    tail: tuple[Comment, ...] = ()

    @property
    def keyword(self) -> str:
        return self.words[0].text

    def index_of(self, *kinds: str) -> int | None:
        """Where its first word of one of the kinds stands."""
        return next((i for i, word in enumerate(self.words) if word.kind in kinds), None)

    @property
    def is_labelled(self) -> bool:
        """Whether it is a case or the budget of a cell that starts with its label."""
        return len(self.words) > 1 and self.words[1].ends_label

    @property
    def after_blank(self) -> bool:
        """Whether a blank line parts it from what is above, or from its own lead."""
        return self.words[0].after_blank or any(comment.after_blank for comment in self.lead)

    @property
    def holds_comments(self) -> bool:
        """Whether a comment stands between its first and its last word."""
        return (
            any(word.comments for word in self.words[1:])
            or bool(self.opened or self.tail)
            or any(p.lead or p.trailing or p.holds_comments for p in self.body or ())
        )

    @property
    def is_directed(self) -> bool:
        """Whether a comment for the checker is about the line it starts on."""
        return any(c.is_directive for c in (*self.lead, self.trailing) if c is not None)

    def all_words(self) -> Iterator[Word]:
        """Its words in order, with its body and the `}`."""
        yield from self.words
        if self.body is not None:
            for part in self.body:
                yield from part.all_words()
            yield CLOSING


@dataclass(frozen=True, slots=True)
class Outline:
    """A file: its items, and the comments below the last."""

    parts: tuple[Part, ...]
    tail: tuple[Comment, ...]


def outline(words: tuple[Word, ...]) -> Outline:
    """The parts of a file that parses."""
    parts, end = _parts(words, 0, _FILE)
    return Outline(parts, words[end].above)


def _parts(words: tuple[Word, ...], index: int, inside: _Inside) -> tuple[tuple[Part, ...], int]:
    """The parts from `index` up to a `}` or the end of the file, and where that stands."""
    parts = []
    while words[index].kind not in ("RBRACE", "$END"):
        part, index = _part(words, index, inside)
        parts.append(part)
    return tuple(parts), index


def _part(words: tuple[Word, ...], first: int, inside: _Inside) -> tuple[Part, int]:
    lead = words[first].above
    index = _end(words, first, inside)
    if words[index].kind != "LBRACE":
        own = words[first:index]
        if inside.end is not None:
            own = _labelled(own)
        return Part(own, lead, words[index].trailing), index
    body, closing = _parts(words, index + 1, _BRACES[words[first].kind])
    after = closing + 1
    part = Part(
        words[first : index + 1],
        lead,
        trailing=words[after].trailing,
        body=body,
        opened=words[index + 1].trailing,
        tail=words[closing].above,
    )
    return part, after


def _end(words: tuple[Word, ...], first: int, inside: _Inside) -> int:
    """The index of the `{` of the part that starts at `first`, or of the word after it."""
    parentheses = 0
    for index, word in enumerate(words[first:], first):
        if word.kind in ("LBRACE", "RBRACE", "$END"):
            return index
        if word.kind in inside.starts and index > first:
            return index
        parentheses += {"LPAR": 1, "RPAR": -1}.get(word.kind, 0)
        if word.kind == inside.end and not parentheses:
            return index + 1
    raise AssertionError("the words of a text end with `$END`")


def _labelled(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """The words of a case or of the budget of a cell, the `:` of its label marked."""
    if len(words) > 1 and words[1].text == ":":
        return (words[0], replace(words[1], ends_label=True), *words[2:])
    return words
