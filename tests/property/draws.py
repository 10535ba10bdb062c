"""What random expressions are drawn with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.property.nodes import Node, call, number

Draw = Callable[[], Node]


@dataclass
class Draws:
    """Draws one of several things that can be said; leaves only, once it is deep enough."""

    rng: random.Random
    depth: int = 0

    def one(self, leaves: list[Draw], compound: list[Draw], deep: int) -> Node:
        if self.depth >= deep or self.rng.random() < 0.15:
            return self.rng.choice(leaves)()
        self.depth += 1
        found = self.rng.choice(compound)()
        self.depth -= 1
        return found

    def plain(self, low: float = 0.1, high: float = 2.0) -> Node:
        return number(round(self.rng.uniform(low, high), 2))

    def condition(self, comparisons: list[Draw]) -> Node:
        found = self.rng.choice(comparisons)()
        if self.rng.random() < 0.3:
            joined = self.rng.choice(["and", "or"])
            found = call(joined, found, self.rng.choice(comparisons)())
        return found

    def compared(self, left: Node, right: Node) -> Node:
        return call(self.rng.choice(["<", "<=", ">", ">="]), left, right)


def words(written: str) -> set[str]:
    """The names in a text."""
    return set("".join(c if c.isalnum() or c == "_" else " " for c in written).split())
