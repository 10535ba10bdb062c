"""Random expressions and conditions for the statements at the token."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from tests.property.draws import Draw, Draws
from tests.property.nodes import Node, call, name, number, over


@dataclass
class TokenDraws(Draws):
    """Expressions of the statements at the token.

    Attributes:
        levels: those that aggregates may be over.
        lets: by their kind.
        gated: whether `gated_ratio` may stand there.
    """

    levels: list[str] = field(default_factory=list)
    lets: dict[str, list[str]] = field(default_factory=dict)
    gated: bool = True

    def again(self, kind: str) -> list[Draw]:
        return [partial(name, w) for w in self.lets.get(kind, [])]

    def over(self, of: Node) -> Node:
        level = self.rng.choice(self.levels)
        if self.rng.random() < 0.6:
            return over("mean", level, of)
        return number("0.2") * over("sum", level, of)

    def log(self, deep: int = 3) -> Node:
        """Something in nats."""
        L, P = self.log, self.pure
        words = ("log_ratio", "log_ratio", "logp", "old_logp", "ref_logp", "rollout_logp", "b")
        pick = self.rng.choice
        return self.one(
            [*(partial(name, w) for w in words), *self.again("log")],
            [
                lambda: Node(pick("+-"), (L(deep), L(deep))),
                lambda: call("tanh", P(deep)) * L(deep),
                lambda: call("clip", L(deep), Node("negative", (name("b"),)), name("b")),
                lambda: call("log", self.ratio(deep)),
                lambda: call("k1", L(deep)),
                lambda: call("stopgrad", L(deep)),
                lambda: self.over(L(deep)),
                lambda: call("by_advantage", L(deep), L(deep)),
                lambda: self.cases(lambda: L(deep)),
            ],
            deep,
        )

    def ratio(self, deep: int = 3) -> Node:
        """A positive ratio."""
        R = self.ratio
        words = ["ratio", "ratio", "h"]
        pick = self.rng.choice
        return self.one(
            [*(partial(name, w) for w in words), *self.again("ratio")],
            [
                lambda: call(pick(["min", "truncate"]), R(deep), self.plain(0.8, 2.0)),
                lambda: call("max", R(deep), self.plain(0.2, 1.0)),
                lambda: call("clip", R(deep), number("0.7"), name("h")),
                lambda: call("exp", call("clip", self.log(deep), number("0.1"), name("b"))),
                lambda: R(deep) * call("min", R(deep), number("2")),
                lambda: call("stopgrad", R(deep)),
                lambda: over("mean", pick(self.levels), R(deep)),
                lambda: call("by_advantage", R(deep), R(deep)),
            ],
            deep,
        )

    def pure(self, deep: int = 3) -> Node:
        """A number of moderate size."""
        P, L, R = self.pure, self.log, self.ratio
        words = ["p", "prob", "old_prob", "advantage"]
        pick = self.rng.choice
        return self.one(
            [self.plain, *(partial(name, w) for w in words), *self.again("pure")],
            [
                lambda: Node(pick("+-"), (P(deep), P(deep))),
                lambda: P(deep) * call("tanh", P(deep)),
                lambda: call(pick(["tanh", "sigmoid"]), pick([P, L, R])(deep)),
                lambda: call("sign", L(deep)) * P(deep),
                lambda: call("exp", call("tanh", L(deep))),
                lambda: call(pick(["k2", "k3"]), call("clip", L(deep), number("0.2"), name("b"))),
                lambda: P(deep) / (number("1") + call("abs", P(deep))),
                lambda: call("sqrt", number("0.2") + call("abs", P(deep))),
                lambda: call("stopgrad", P(deep)),
                lambda: self.over(P(deep)),
                lambda: number("1") / over("sum", pick(self.levels), number("1")),
                lambda: call("mask", P(deep), number("0.5"), number("2.5")),
                lambda: call("by_advantage", P(deep), P(deep)),
            ],
            deep,
        )

    def cases(self, of: Draw) -> Node:
        """Cases stand at the top of a statement only; inside, a choice by a condition is a mask."""
        return call("mask", of(), Node("negative", (name("b"),)), name("b"))

    def gated_ratio(self) -> Node:
        """Something made of G, which may be any number."""
        G = name("gated_ratio")
        return self.rng.choice(
            [
                G,
                call("min", G, name("h")),
                call("clip", G, number("0.6"), name("h")),
                call("max", G, call("stopgrad", G) * number("0.5")),
                G * call("stopgrad", self.pure(2)),
                call("by_advantage", G, call("min", G, self.plain(0.9, 1.5))),
                G * self.ratio(2),
                over("mean", self.rng.choice(self.levels), G) + G,
            ]
        )

    def comparisons(self) -> list[Draw]:
        return [
            lambda: self.compared(name("advantage"), number("0")),
            lambda: self.compared(name("log_ratio"), self.rng.choice([name("b"), number("0")])),
            lambda: self.compared(name("ratio"), name("h")),
            lambda: self.compared(self.pure(2), name("p")),
            lambda: self.compared(name("prob"), name("old_prob")),
            lambda: self.compared(self.log(2), number("0")),
        ]

    def statement(self, of: Draw) -> Node:
        """An expression or cases."""
        if self.rng.random() < 0.6:
            return of()
        parts: list[Node] = []
        for _ in range(self.rng.randint(1, 2)):
            parts += [of(), self.condition(self.comparisons())]
        return Node("cases", (*parts, of()))

    def surrogate(self) -> Node:
        """All cases of a statement are of one space."""
        of: Draw = self.rng.choice(
            [
                self.gated_ratio,
                self.gated_ratio,
                lambda: call("stopgrad", self.gated_ratio()) * name("logp"),
                lambda: self.ratio(3),
                lambda: self.pure(3) * self.log(3),
            ]
        )
        return self.statement(of)
