"""The words of a spec as objectives, statements and clauses, each with the comments that belong to
it. Only keywords and braces are looked at, so a new form of a statement needs nothing here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fibdsl.syntax.words import Comment, Word

_STARTS = (
    frozenset({"edition", "objective"}),
    frozenset({"doc", "param", "signal", "levels", "at", "reduce", "require", "assume"}),
    frozenset({"base", "fiber", "aggregate"}),
)
"""What starts a part of a file, of an objective and of an `at`. No name can be one of them."""


@dataclass(frozen=True, slots=True)
class Part:
    """An edition, an objective, a statement or a clause.

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
            yield Word("}")


@dataclass(frozen=True, slots=True)
class Outline:
    """A file: its editions and objectives, and the comments below the last."""

    parts: tuple[Part, ...]
    tail: tuple[Comment, ...]


def outline(words: tuple[Word, ...]) -> Outline:
    """The parts of a file that parses."""
    parts, end = _parts(words, 0, 0)
    return Outline(parts, words[end].above)


def _parts(words: tuple[Word, ...], index: int, depth: int) -> tuple[tuple[Part, ...], int]:
    """The parts from `index` up to a `}` or the end of the file, and where that stands."""
    parts = []
    while words[index].text not in ("}", ""):
        part, index = _part(words, index, depth)
        parts.append(part)
    return tuple(parts), index


def _part(words: tuple[Word, ...], first: int, depth: int) -> tuple[Part, int]:
    lead = words[first].above
    index = first + 1
    while words[index].text not in ("{", "}", "") and not _starts(words, index, depth):
        index += 1
    if words[index].text != "{":
        return Part(words[first:index], lead, words[index].trailing), index
    body, closing = _parts(words, index + 1, depth + 1)
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


def _starts(words: tuple[Word, ...], index: int, depth: int) -> bool:
    word = words[index].text
    # In `require odd at token` the `at` starts nothing: no brace follows the level.
    continues = word == "at" and words[index + 2].text != "{"
    return word in _STARTS[depth] and not continues
