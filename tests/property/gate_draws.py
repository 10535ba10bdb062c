"""Random gates: bodies that check, of anything that a gate may look at."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial

from tests.property.draws import Draw, Draws, words
from tests.property.nodes import Node, call, name, number, text
from tests.property.specs import Definition


@dataclass
class GateDraws(Draws):
    """The body of a gate of x, budgets and plain numbers.

    Attributes:
        budgets, plains: names of its parameters.
        signal: the space of x, where the gate says it; else "".
        where: what it may look at: "token" (a token), "cell" (sizes of a cell), or "".
    """

    budgets: list[str] = field(default_factory=list)
    plains: list[str] = field(default_factory=list)
    signal: str = ""
    where: str = ""

    def body(self) -> Node:
        if self.rng.random() < 0.4:
            return self.value()
        parts: list[Node] = []
        for _ in range(self.rng.randint(1, 3)):
            parts += [self.value(3), self.condition(self.comparisons())]
        return Node("cases", (*parts, self.value(3)))

    def value(self, deep: int = 4) -> Node:
        """Something in the space of x."""
        x, S, P = partial(name, "x"), self.value, self.plain_value
        leaves: list[Draw] = [x, x, x, lambda: call("sign", x()) * self.budget()]
        if self.where == "token" and self.signal == "log":
            leaves += [lambda: name("log_ratio"), lambda: name("logp") - name("old_logp")]
            leaves += [lambda: call("log", name("ratio"))]
        if self.where == "token" and self.signal == "deviation":
            leaves += [lambda: name("ratio") - number("1")]
        pick = self.rng.choice
        return self.one(
            leaves,
            [
                lambda: Node(pick("+-"), (S(deep), S(deep))),
                lambda: P() * S(deep),
                lambda: S(deep) / self.plain(0.5, 3.0),
                lambda: call("abs", x()) * x() / self.named(),
                lambda: call(pick(["min", "max", "truncate"]), S(deep), S(deep)),
                lambda: call("clip", S(deep), Node("negative", (self.budget(),)), self.budget()),
                lambda: call("sign", x()) * call("abs", S(deep)),
                lambda: call("mask", S(deep), Node("negative", (self.budget(),)), self.budget()),
                lambda: call("stopgrad", S(deep)),
                lambda: call("by_advantage", S(deep), S(deep)),
                lambda: call("sign", name("advantage")) * S(deep),
                lambda: self.budget() * call(pick(["tanh", "sigmoid"]), P()),
            ],
            deep,
        )

    def plain_value(self, deep: int = 3) -> Node:
        """A pure number, of moderate size where x is."""
        P = self.plain_value
        leaves: list[Draw] = [self.plain, *(partial(name, w) for w in self.plains)]
        leaves.append(lambda: name("x") / self.named())
        leaves.append(lambda: call("sign", name("x")))
        if self.where == "cell":
            leaves += [
                lambda: number("1") / name("size"),
                lambda: name("size") / name("tokens"),
                lambda: call("min", name("tokens"), number("5")),
            ]
        if self.where == "token":
            leaves += [lambda: name("prob"), lambda: name("old_prob")]
        pick = self.rng.choice
        return self.one(
            leaves,
            [
                lambda: Node(pick("+-"), (P(deep), P(deep))),
                lambda: call(pick(["tanh", "sigmoid"]), P(deep)),
                lambda: call("exp", call("clip", P(deep), number("0.5"), number("1.5"))),
                lambda: call("log", number("1") + call("exp", call("tanh", P(deep)))),
                lambda: call("sqrt", number("0.2") + call("abs", call("tanh", P(deep)))),
                lambda: call("abs", call("tanh", P(deep))),
                lambda: number("1") / (number("1") + call("abs", P(deep))),
                lambda: call(pick(["k2", "k3"]), call("tanh", P(deep))),
            ],
            deep,
        )

    def budget(self) -> Node:
        if not self.budgets:
            return self.plain(0.02, 0.3)
        found = name(self.rng.choice(self.budgets))
        return found if self.rng.random() < 0.7 else self.plain(0.5, 2.0) * found

    def named(self) -> Node:
        """A quantity of the space of x that is certainly not 0."""
        if self.budgets:
            return name(self.rng.choice(self.budgets))
        return call("max", call("abs", name("x")), self.plain(0.1, 0.5))

    def comparisons(self) -> list[Draw]:
        x = name("x")
        found: list[Draw] = [
            lambda: self.compared(Node("magnitude", of="x"), self.budget()),
            lambda: self.compared(Node("magnitude", of="x"), self.budget()),
            lambda: self.compared(x, self.budget()),
            lambda: call("<=", x, self.budget()),
            lambda: self.compared(x, number("0")),
            lambda: self.compared(name("advantage"), number("0")),
            lambda: self.compared(self.value(2), self.budget()),
        ]
        if self.where == "token":
            found.append(lambda: self.compared(name("prob"), name("old_prob")))
        if self.where == "cell":
            found.append(lambda: self.compared(name("size"), number("2")))
        return found


def definition(rng: random.Random, own: str, space: str, where: str) -> Definition:
    """A gate for signals of a space; one of three says so. Odd ones are of a few forms."""
    if rng.random() < 0.15:
        return rng.choice(ODD)(own)
    budgets = ["C", "D"][: rng.randrange(3)]
    plains = ["tau", "w"][: rng.randrange(3)]
    signal = space if rng.random() < 0.35 else ""
    draws = GateDraws(rng, 0, budgets, plains, signal, where)
    body = draws.body()
    used = text(body)
    parameters = [b for b in budgets if b in words(used)]
    parameters += [f"{p} : pure" for p in plains if p in words(used)]
    return Definition(own, tuple(parameters), body, signal)


def _soft(own: str) -> Definition:
    x, C = name("x"), name("C")
    return Definition(own, ("C",), C * call("tanh", x / C), odd=True)


def _folded(own: str) -> Definition:
    C, w = name("C"), name("w")
    magnitude = Node("magnitude", of="x")
    body = call("sign", name("x")) * (magnitude / (number("1") + w * magnitude / C))
    return Definition(own, ("C", "w : pure"), body, odd=True)


def _banded(own: str) -> Definition:
    x, C, D = name("x"), name("C"), name("D")
    magnitude = Node("magnitude", of="x")
    held = C * x / call("max", magnitude, C)
    cases = (x, call("<=", magnitude, C), held, call("<=", magnitude, C + D))
    return Definition(own, ("C", "D"), Node("cases", (*cases, number("0.1") * x)), odd=True)


ODD = (_soft, _folded, _banded)
