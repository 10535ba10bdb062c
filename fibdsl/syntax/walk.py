"""Questions about pieces of syntax of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from fibdsl.source import Span
from fibdsl.syntax import ast


def references(node: object) -> Iterator[str]:
    """The names that expressions in a piece of syntax use."""
    if isinstance(node, ast.Reference):
        yield node.name
    elif isinstance(node, tuple):
        for item in node:
            yield from references(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        for f in fields(node):
            yield from references(getattr(node, f.name))


def same(a: object, b: object) -> bool:
    """Whether two pieces of syntax say the same, wherever they stand."""
    if isinstance(a, Span) and isinstance(b, Span):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b
