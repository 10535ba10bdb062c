"""Expressions as the random specs draw them: their text, and their value by plain numpy.

Nothing here is shared with the compiler: this is what its reference is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OPERATORS = frozenset({"+", "-", "*", "/"})
COMPARISONS = frozenset({"<", "<=", ">", ">="})


@dataclass(frozen=True)
class Node:
    """An expression or a condition.

    Attributes:
        head: "number", "name", "magnitude" (|name|), "negative", an operator, a comparison, "and",
            "or", "cases" (values and conditions in turn, the last value otherwise), "mean" or
            "sum" (over the level `of`), or a function.
        of: the number, the name or the level.
    """

    head: str
    parts: tuple[Node, ...] = ()
    of: str = ""

    def __add__(self, other: Node) -> Node:
        return Node("+", (self, other))

    def __sub__(self, other: Node) -> Node:
        return Node("-", (self, other))

    def __mul__(self, other: Node) -> Node:
        return Node("*", (self, other))

    def __truediv__(self, other: Node) -> Node:
        return Node("/", (self, other))


def number(value: float | str) -> Node:
    return Node("number", of=f"{value:.3g}" if isinstance(value, float) else value)


def name(word: str) -> Node:
    return Node("name", of=word)


def call(function: str, *parts: Node) -> Node:
    return Node(function, parts)


def over(reduction: str, level: str, part: Node) -> Node:
    return Node(reduction, (part,), level)


class Scope(Protocol):
    """Where an expression stands."""

    def value(self, word: str) -> Floats:
        """What a name is, a value a token."""

    def frozen(self) -> Scope:
        """The same place in the batch that stop-gradients read."""

    def aggregate(self, reduction: str, level: str, values: Floats) -> Floats:
        """Their mean or sum over the tokens of each cell, at each of its tokens."""


# --- text ---------------------------------------------------------------------------------------


def text(node: Node) -> str:
    parts = [text(part) for part in node.parts]
    match node.head:
        case "number" | "name":
            return node.of
        case "magnitude":
            return f"|{node.of}|"
        case "negative":
            return f"(-{parts[0]})"
        case "cases":
            pairs = zip(parts[:-1:2], parts[1:-1:2], strict=True)
            listed = " ".join(f"{value} when {condition};" for value, condition in pairs)
            return f"{{ {listed} {parts[-1]} otherwise; }}"
        case "mean" | "sum":
            return f"{node.head}({parts[0]} over {node.of})"
        case head if head in COMPARISONS:
            return f"{parts[0]} {head} {parts[1]}"
        case "and" | "or" | "+" | "-" | "*" | "/":
            return f"({parts[0]} {node.head} {parts[1]})"
        case function:
            return f"{function}({', '.join(parts)})"


# --- values -------------------------------------------------------------------------------------


def value(node: Node, scope: Scope) -> Floats:
    """The value at every token; of a condition, whether it holds."""
    match node.head:
        case "number":
            return np.asarray(float(node.of))
        case "name":
            return scope.value(node.of)
        case "magnitude":
            return np.abs(scope.value(node.of))
        case "stopgrad":
            return value(node.parts[0], scope.frozen())
        case "mean" | "sum":
            return scope.aggregate(node.head, node.of, value(node.parts[0], scope))
    parts = [value(part, scope) for part in node.parts]
    match node.head:
        case "cases":
            found = parts[-1]
            for index in range(len(parts) - 3, -1, -2):
                found = np.where(parts[index + 1], parts[index], found)
            return found
        case "by_advantage":
            return np.where(scope.value("advantage") >= 0, parts[0], parts[1])
        case head:
            return np.asarray(FUNCTIONS[head](*parts))


def _sign(x: Floats) -> Floats:
    return np.where(x >= 0, 1.0, -1.0)


def saturated(x: Floats) -> Floats:
    """e^x, the same for all x beyond what a float holds (docs/semantics.md)."""
    return np.exp(np.minimum(x, 709.0))


def _mask(w: Floats, low: Floats, high: Floats) -> Floats:
    return np.where((low <= w) & (w <= high), w, 0.0)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "negative": np.negative,
    "min": np.minimum,
    "max": np.maximum,
    "truncate": np.minimum,
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "mask": _mask,
    "abs": np.abs,
    "sign": _sign,
    "exp": saturated,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + saturated(-x)),
    "k1": np.negative,
    "k2": lambda d: d * d / 2,
    "k3": lambda d: saturated(d) - 1 - d,
}
