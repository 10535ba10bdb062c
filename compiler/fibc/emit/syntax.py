"""Small builders for Python's own syntax tree. Code is only ever made of these nodes, so nothing
a spec says can become code: names come from a table, numbers and texts are constants."""

from __future__ import annotations

import ast
import keyword
import math
from collections.abc import Iterable, Sequence

_OPERATORS: dict[str, ast.operator] = {
    "+": ast.Add(),
    "-": ast.Sub(),
    "*": ast.Mult(),
    "/": ast.Div(),
    "&": ast.BitAnd(),
    "|": ast.BitOr(),
}
_COMPARISONS: dict[str, ast.cmpop] = {
    "<=": ast.LtE(),
    "<": ast.Lt(),
    ">=": ast.GtE(),
    ">": ast.Gt(),
    "==": ast.Eq(),
}


def name(text: str) -> ast.expr:
    return ast.Name(text, ast.Load())


def constant(value: float | int | str | bool | None) -> ast.expr:
    if isinstance(value, float) and not math.isfinite(value):
        return dotted("math", "inf") if value > 0 else negative(dotted("math", "inf"))
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return negative(ast.Constant(-value))
    return ast.Constant(value)


def dotted(*parts: str) -> ast.expr:
    result = name(parts[0])
    for part in parts[1:]:
        result = ast.Attribute(result, part, ast.Load())
    return result


def method(value: ast.expr, attribute: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Attribute(value, attribute, ast.Load()), list(arguments), [])


def call(function: ast.expr | str, *arguments: ast.expr, **named: ast.expr) -> ast.expr:
    target = name(function) if isinstance(function, str) else function
    return ast.Call(target, list(arguments), [ast.keyword(k, v) for k, v in named.items()])


def binary(operator: str, left: ast.expr, right: ast.expr) -> ast.expr:
    return ast.BinOp(left, _OPERATORS[operator], right)


def negative(value: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), value)


def compare(left: ast.expr, operator: str, right: ast.expr) -> ast.expr:
    return ast.Compare(left, [_COMPARISONS[operator]], [right])


def item(value: ast.expr, index: ast.expr) -> ast.expr:
    return ast.Subscript(value, index, ast.Load())


def tuple_of(values: Iterable[ast.expr]) -> ast.expr:
    return ast.Tuple(list(values), ast.Load())


def dictionary(entries: Iterable[tuple[ast.expr, ast.expr]]) -> ast.expr:
    pairs = list(entries)
    return ast.Dict([key for key, _ in pairs], [value for _, value in pairs])


def assign(target: str | Sequence[str], value: ast.expr) -> ast.stmt:
    if isinstance(target, str):
        return ast.Assign([ast.Name(target, ast.Store())], value, lineno=0)
    names: list[ast.expr] = [ast.Name(t, ast.Store()) for t in target]
    return ast.Assign([ast.Tuple(names, ast.Store())], value, lineno=0)


def store(target: str, key: str, value: ast.expr) -> ast.stmt:
    """`target[key] = value`"""
    place = ast.Subscript(ast.Name(target, ast.Load()), constant(key), ast.Store())
    return ast.Assign([place], value, lineno=0)


def docstring(text: str) -> ast.stmt:
    return ast.Expr(ast.Constant(text))


def function(
    title: str, arguments: Sequence[str], doc: str, body: Sequence[ast.stmt], result: ast.expr
) -> ast.FunctionDef:
    parameters = ast.arguments([], [ast.arg(a) for a in arguments], None, [], [], None, [])
    statements: list[ast.stmt] = [docstring(doc), *body, ast.Return(result)]
    return ast.FunctionDef(title, parameters, statements, [], lineno=0)


def text(statements: Iterable[ast.stmt]) -> str:
    """The source of top-level statements, two blank lines between definitions."""
    trees = [ast.Module([statement], []) for statement in statements]
    return "\n\n\n".join(ast.unparse(ast.fix_missing_locations(tree)) for tree in trees)


class Names:
    """Python names for values: readable, unique, and never a word already in use."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken) | set(keyword.kwlist) | set(keyword.softkwlist)
        self._given: dict[tuple[str, str], str] = {}

    def give(self, kind: str, text: str) -> str:
        """The Python name of `text` among things of one kind; the same at every call."""
        if (kind, text) not in self._given:
            self._given[kind, text] = self.fresh(text)
        return self._given[kind, text]

    def fresh(self, text: str) -> str:
        """A Python name like `text` that was never given before."""
        plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
        while plain in self._taken:
            plain += "_"
        self._taken.add(plain)
        return plain
