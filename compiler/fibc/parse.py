"""Text to syntax tree. Every syntax error is reported."""

from __future__ import annotations

from typing import Any, cast

from lark import Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from fibc import syntax_errors
from fibc.build import Builder
from fibc.grammar import grammar, in_context
from fibc.recover import resume, starts_statement
from fibc.syntax_errors import branch
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.source import Source
from fibdsl.syntax import ast


def parse(source: Source, diagnostics: Diagnostics, foreign: bool = False) -> ast.File | None:
    """The tree of `source`, or None after a syntax error (all of them are in `diagnostics`).

    Args:
        foreign: whether it is not the file that is being checked, but one that is used; then its
            spans say so.
    """
    errors = Diagnostics(source)
    tree = _parse_tokens(source, errors)
    diagnostics.found += errors.found
    if tree is None or errors.found:
        return None
    return Builder(source, foreign).file(tree)


def _parse_tokens(source: Source, diagnostics: Diagnostics) -> Tree[Any] | None:
    tokens = list(grammar().lex(source.text))
    end = Token("$END", "", start_pos=len(source.text), end_pos=len(source.text))
    parser = grammar().parse_interactive("")
    index = 0
    doubtful: InteractiveParser | None = None
    while True:
        raw = tokens[index] if index < len(tokens) else end
        token = in_context(parser, raw)
        before, doubtful = doubtful, None
        if token is not raw and starts_statement(tokens, index):
            doubtful = branch(parser)
        try:
            result = parser.feed_token(token)
        except UnexpectedToken:
            if before is not None:
                # The word before was no name: it starts a statement, and something was missing.
                parser, index = before, index - 1
                token = tokens[index]
            previous = tokens[index - 1] if index else None
            syntax_errors.report(parser, previous, token, diagnostics)
            resumed = resume(parser, tokens, index)
            if resumed is None:
                return None
            parser, index = resumed
            continue
        if token is end:
            return cast("Tree[Any]", result)
        index += 1
