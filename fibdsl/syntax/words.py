"""The words of a spec with the comments and blank lines between them: all that a formatter may not
lose, and all that it may look at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fibc.grammar import tokens

_COMMENT = re.compile(r"#[^\n]*")
_DIRECTIVE = re.compile(r"#\s*fib:")


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment.

    Attributes:
        text: from its `#` on, without white space at its end.
        own_line: whether nothing but white space stands before it on its line.
        after_blank: whether the line before is blank.
    """

    text: str
    own_line: bool
    after_blank: bool

    @property
    def is_directive(self) -> bool:
        """Whether the checker reads it, as in `# fib: allow[FIB602] why`."""
        return _DIRECTIVE.match(self.text) is not None


@dataclass(frozen=True, slots=True)
class Word:
    """A word or sign of the language; the end of the file is the empty word.

    Attributes:
        text: as the author spelled it.
        kind: the name the grammar has for it: `NAME`, `WHEN`, `LBRACE`.
        comments: those between the word before and this one.
        after_blank: whether the line before, a comment's or a word's, is blank.
        ends_label: whether it is the `:` of a label, which stands close behind it.
    """

    text: str
    kind: str
    comments: tuple[Comment, ...] = ()
    after_blank: bool = False
    ends_label: bool = False

    @property
    def trailing(self) -> Comment | None:
        """The comment on the line of the word before."""
        first = self.comments[:1]
        return first[0] if first and not first[0].own_line else None

    @property
    def above(self) -> tuple[Comment, ...]:
        """The comments that stand on lines of their own."""
        return tuple(comment for comment in self.comments if comment.own_line)


CLOSING = Word("}", "RBRACE")
"""The end of a block."""


def scan(text: str) -> tuple[Word, ...]:
    """The words of a text that parses, then the empty word for its end."""
    words = []
    end = 0
    for token in tokens(text):
        start, stop = token.start_pos or 0, token.end_pos or 0
        words.append(_word(text, end, start, str(token), token.type))
        end = stop
    return (*words, _word(text, end, len(text), "", "$END"))


def _word(text: str, start: int, stop: int, word: str, kind: str) -> Word:
    """The word after the gap `text[start:stop]`, which holds white space and comments only."""
    comments = []
    position = start
    for match in _COMMENT.finditer(text, start, stop):
        newlines = text.count("\n", position, match.start())
        comments.append(Comment(match.group().rstrip(), newlines > 0 or start == 0, newlines > 1))
        position = match.end()
    return Word(word, kind, tuple(comments), text.count("\n", position, stop) > 1)
