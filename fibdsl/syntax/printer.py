"""The formatter: any spec that parses, in the one canonical format of docs/language.md.

It prints words, not values, and never moves a comment past a word, so that it can lose nothing; and
it proves of each text that it did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from fibc import driver
from fibc.parse import parse
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.diagnostics.errors import FibError, InternalError
from fibdsl.source import Source, Span
from fibdsl.syntax import ast
from fibdsl.syntax.layout import laid_out
from fibdsl.syntax.words import Word, scan


def format_source(source: Source) -> str:
    """The text of a spec in canonical format: the same words, numbers spelled as they were, and the
    same comments at the same words.

    Raises:
        FibError: the text is not of the language's form.
        InternalError: the result would not have been the same spec.
    """
    tree = _parsed(source)
    words = scan(source.text)
    text = laid_out(words)
    _prove(tree, words, text)
    return text


def _parsed(source: Source) -> ast.File:
    diagnostics = Diagnostics(source)
    try:
        tree = parse(source, diagnostics)
    except RecursionError:
        raise FibError(driver.check(source).diagnostics) from None
    if tree is None:
        raise FibError(diagnostics.in_order())
    return tree


# --- the proof ----------------------------------------------------------------------------------


def _prove(tree: ast.File, words: Sequence[Word], text: str) -> None:
    """Raises InternalError unless `text` has the tree, the words and the comments of its origin,
    and is printed as itself."""
    again = Source("<formatted>", text)
    diagnostics = Diagnostics(again)
    formatted = parse(again, diagnostics)
    if formatted is None:
        raise InternalError(f"formatted text does not parse: {FibError(diagnostics.found)}")
    if _shape(formatted) != _shape(tree):
        raise InternalError("formatted text has another syntax tree")
    printed = scan(text)
    if _kept(printed) != _kept(words):
        raise InternalError("formatted text has other comments or words")
    if laid_out(printed) != text:
        raise InternalError("formatted text is not in canonical format")


def _shape(tree: ast.File) -> list[object]:
    """Everything in a tree but where it stands, in one flat list, however deep it is."""
    shape: list[object] = []
    rest: list[object] = [tree]
    while rest:
        item = rest.pop()
        if is_dataclass(item) and not isinstance(item, Span | Source):
            shape.append(type(item))
            rest += [getattr(item, field.name) for field in fields(item)]
        elif isinstance(item, tuple):
            shape.append(len(item))
            rest += item
        elif not isinstance(item, Span | Source):
            shape.append(item)
    return shape


def _kept(words: Sequence[Word]) -> list[tuple[str, list[tuple[str, bool]]]]:
    return [(word.text, [(c.text, c.own_line) for c in word.comments]) for word in words]
