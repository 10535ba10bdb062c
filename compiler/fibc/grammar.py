"""The LALR parser that lark makes of grammar/fib.lark."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from lark import Lark, Token
from lark.parsers.lalr_interactive_parser import InteractiveParser

from fibdsl.resources import folder

ITEMS = frozenset({"EDITION", "USE", "GATE", "OBJECTIVE"})
STATEMENTS = frozenset(
    {
        *("DOC", "PARAM", "SIGNAL", "LEVELS", "AT", "LET", "BYPASS", "SURROGATE", "WEIGHT"),
        *("PENALTY", "REDUCE", "REQUIRE", "ASSUME", "WAIVE"),
    }
)
CLAUSES = frozenset({"BASE", "FIBER", "AGGREGATE", "BUDGET"})
"""What starts an item of a file, a statement of an objective, a clause of an `at`."""

CONTEXTUAL = frozenset(
    {
        "AFTER",
        "BUDGET",
        "BYPASS",
        "CELL",
        "ELSE",
        "EXTENDS",
        "GATE",
        "LET",
        "ODD",
        "PENALTY",
        "PER",
        "SURROGATE",
        "USE",
        "WAIVE",
        "WEIGHT",
    }
)
"""Keywords that are names where only a name can stand, as in `+budget`."""


@cache
def grammar() -> Lark:
    """The LALR parser of grammar/fib.lark, built once a process."""

    class SecondPass:
        # Lark drops terminals no rule uses; this one must reach the parser to be reported.
        always_accept = ("UNKNOWN",)

        def process(self, stream: Iterator[Token]) -> Iterator[Token]:
            tokens = list(stream)
            for first, _, at, level, after in _windows(tokens, 5):
                # `require odd` may be followed by the statement `at token { ... }`.
                promise = _is(first, "REQUIRE", "ASSUME", "WAIVE")
                named = _is(level, "NAME", *CONTEXTUAL)
                if promise and _is(at, "AT") and named and not _is(after, "LBRACE"):
                    assert at is not None
                    at.type = "AT_LEVEL"
            return iter(tokens)

    return Lark(
        (folder("grammar") / "fib.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        postlex=cast(Any, SecondPass()),
        propagate_positions=True,
        maybe_placeholders=True,
    )


def tokens(text: str) -> list[Token]:
    """The tokens of a text that parses."""
    parser = grammar().parse_interactive("")
    found = []
    for token in grammar().lex(text):
        found.append(in_context(parser, token))
        parser.feed_token(found[-1])
    return found


def in_context(parser: InteractiveParser, token: Token) -> Token:
    """The token as `parser` takes it next: a contextual keyword where none can stand is a name."""
    if token.type in CONTEXTUAL:
        possible = parser.choices()  # type: ignore[no-untyped-call]
        if token.type not in possible and "NAME" in possible:
            return Token.new_borrow_pos("NAME", token, token)
    return token


def _windows(tokens: list[Token], width: int) -> Iterator[tuple[Token | None, ...]]:
    """Each token with the `width` - 1 after it, None beyond the end."""
    padded = [*tokens, *[None] * (width - 1)]
    return zip(*(padded[start:] for start in range(width)), strict=False)


def _is(token: Token | None, *kinds: str) -> bool:
    return token is not None and token.type in kinds
