"""The LALR parser that lark makes of grammar/fib.lark."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from lark import Lark, Token

from fibdsl.resources import folder


@cache
def grammar() -> Lark:
    """The LALR parser of grammar/fib.lark, built once a process."""

    class KeepUnknown:
        # Lark drops terminals no rule uses; this one must reach the parser to be reported.
        always_accept = ("UNKNOWN",)

        def process(self, stream: Iterator[Token]) -> Iterator[Token]:
            return stream

    return Lark(
        (folder("grammar") / "fib.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        postlex=cast(Any, KeepUnknown()),
        propagate_positions=True,
        maybe_placeholders=True,
    )
