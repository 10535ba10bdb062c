"""What a random objective means, by plain numpy: the recursion of docs/semantics.md.

An independent reference: no code shared with the compiler. Stop-gradients read a second batch, so
that differences of the loss are its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.property.nodes import Floats, Node, Scope, saturated, value
from tests.property.specs import Spec, Step, Use
from tests.property.tokens import Tokens

Lean = int
"""1 or -1: the sign of the advantages a gate is for."""


@dataclass(frozen=True)
class World:
    """An objective on a batch; `held` is the batch that stop-gradients read.

    All values are given at every token, those of a cell at each of its tokens.
    """

    spec: Spec
    tokens: Tokens
    logp: Floats
    held: World | None = None
    memo: dict[tuple[object, ...], Floats] = field(default_factory=dict)

    @property
    def frozen(self) -> World:
        return self.held or self

    def moved(self, logp: Floats) -> World:
        """Other log-probabilities; stop-gradients still read these."""
        return World(self.spec, self.tokens, logp, self)

    # --- up -------------------------------------------------------------------------------------

    @property
    def log_ratio(self) -> Floats:
        return self.logp - self.tokens.values["old_logp"]

    @property
    def lean(self) -> Floats:
        return np.where(self.tokens.values["advantages"] >= 0, 1.0, -1.0)

    @cached_property
    def signal(self) -> Floats:
        after = self.spec.after
        if after is None:
            return self.raw
        return self.by_lean(lambda lean: self.gated(after, "after", 0, lean))

    def by_lean(self, of: Callable[[Lean], Floats]) -> Floats:
        return np.where(self.lean > 0, of(1), of(-1))

    @cached_property
    def raw(self) -> Floats:
        return self.log_ratio if self.spec.signal == "log_ratio" else np.expm1(self.log_ratio)

    def channel(self, channel: int) -> Floats:
        """The signal (0), or what of it is in the + or the - channel."""
        s = self.signal
        if channel == 0:
            return s
        own = s >= 0 if channel > 0 else s < 0
        return np.where(own, np.abs(s), 0.0)

    def each(self, level: str, values: NDArray[Any]) -> NDArray[Any]:
        """One value a cell of the level."""
        return np.broadcast_to(values, self.tokens.row.shape)[self.tokens.first[level]]

    def total(self, fine: str, coarse: str, values: Floats) -> Floats:
        """The sum over the `fine` cells in each `coarse` cell, at each token."""
        ids = self.tokens.cells[coarse]
        sums = np.bincount(self.each(fine, ids), self.each(fine, values))
        return np.asarray(sums[ids])

    def count(self, fine: str, coarse: str) -> Floats:
        key = "count", fine, coarse
        if key not in self.memo:
            self.memo[key] = self.total(fine, coarse, np.ones(len(self.tokens.row)))
        return self.memo[key]

    def aggregates(self, level: str, channel: int) -> Floats:
        """The aggregate of a level: of the children, each weighed by the cells it is counted by."""
        names = self.spec.names
        if level == "token":
            return self.channel(channel)
        child = names[names.index(level) - 1]
        reduction, finer = self.spec.aggregates.get(level, ("mean", child))
        if reduction == "sum":
            return self.total(finer, level, self.aggregates(finer, channel))
        weight = np.ones(len(self.tokens.row)) if finer == child else self.count(finer, child)
        return self.total(child, level, weight * self.aggregates(child, channel)) / self.total(
            child, level, weight
        )

    # --- down -----------------------------------------------------------------------------------

    def seen(self, level: str, channel: int) -> Floats:
        """What the gate of a level sees: the aggregate, or how it deviates from the coarser one."""
        if level == "after":
            return self.raw
        key = "seen", level, channel
        if key not in self.memo:
            names = self.spec.names
            found = self.aggregates(level, channel)
            if level != list(self.spec.gates)[-1]:
                found = found - self.aggregates(names[names.index(level) + 1], channel)
            self.memo[key] = found
        return self.memo[key]

    def gated(self, use: Use, level: str, channel: int, lean: Lean) -> Floats:
        return self.gate_of(use, level, channel, lean, self.seen(level, channel))

    def gate_of(self, use: Use, level: str, channel: int, lean: Lean, x: Floats) -> Floats:
        """What a gate makes of x in the cells of a level."""
        scope = _Gate(self, use, level, channel, lean, x)
        found = np.broadcast_to(value(use.definition.body, scope), x.shape)
        if not use.pessimistic:
            return found
        lowers = lean * (channel or 1) > 0
        return np.where(found < x, found, x) if lowers else np.where(found > x, found, x)

    def budget(self, use: Use, level: str, channel: int, lean: Lean) -> Floats:
        """The budget C of a gate in each cell of a level; 0 of one that has none."""
        x = self.seen(level, channel)
        if "C" not in use.arguments:
            return np.zeros_like(x)
        scope = _Gate(self, use, level, channel, lean, x)
        return np.broadcast_to(scope.value("C"), x.shape)

    def y(self, channel: int, lean: Lean) -> Floats:
        total = np.zeros(len(self.tokens.row))
        for level, use in self.spec.gates.items():
            total = total + self.gated(use, level, channel, lean)
        return total

    @cached_property
    def gates(self) -> Floats:
        """G before any bypass."""

        def of(lean: Lean) -> Floats:
            if not self.spec.split:
                return self.y(0, lean)
            return self.y(1, lean) - self.y(-1, lean)

        y = self.by_lean(of)
        return saturated(y) if self.spec.signal == "log_ratio" else 1.0 + y

    @cached_property
    def bypassed(self) -> tuple[Floats, Floats]:
        """G, and whether a bypass holds."""
        G, acting = self.gates, np.zeros(len(self.tokens.row))
        for condition, instead in reversed(self.spec.bypasses):
            holds = np.broadcast_to(value(condition, _Token(self)), G.shape)
            G = np.where(holds, value(instead, _Token(self)), G)
            acting = np.where(holds, 1.0, acting)
        return G, acting

    # --- the objective --------------------------------------------------------------------------

    def at_tokens(self, node: Node) -> Floats:
        return np.broadcast_to(value(node, _Token(self)), self.tokens.row.shape)

    @cached_property
    def surrogate(self) -> Floats:
        surrogate = self.spec.surrogate
        return self.bypassed[0] if surrogate is None else self.at_tokens(surrogate)

    @cached_property
    def factor(self) -> Floats:
        """What the advantage is multiplied with; the weight is that of the batch held."""
        weight = self.spec.weight
        return self.surrogate if weight is None else self.surrogate * self.frozen.at_tokens(weight)

    @cached_property
    def penalty(self) -> Floats:
        penalty = self.spec.penalty
        return np.zeros(len(self.tokens.row)) if penalty is None else self.at_tokens(penalty)

    @cached_property
    def loss(self) -> float:
        term = self.factor * self.tokens.values["advantages"] - self.penalty
        return -self.reduced(self.spec.reduce, term)

    def reduced(self, steps: Sequence[Step], term: Floats) -> float:
        levels = [step.level for step in steps]
        enclosing = ["batch", *levels[:-1]]
        for step, outer in reversed(list(zip(steps, enclosing, strict=True))):
            term = self.total(step.level, outer, term)
            if step.reduction == "mean":
                term = term / self.count(step.level, outer)
            if step.divisor is not None:
                term = term / step.divisor
        return float(term[0])

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Some of the metrics."""
        found = {
            "gated_ratio/mean": self.bypassed[0].mean(),
            "ratio/mean": np.exp(self.log_ratio).mean(),
            "kl/k1": -self.log_ratio.mean(),
        }
        if self.spec.bypasses:
            found["bypassed"] = self.bypassed[1].mean()
        if self.spec.weight is not None:
            found["weight/mean"] = self.at_tokens(self.spec.weight).mean()
        if self.spec.penalty is not None:
            found["penalty/mean"] = self.penalty.mean()
        return {metric: float(mean) for metric, mean in found.items()}


@dataclass(frozen=True)
class _Token:
    """Where the statements at the token stand."""

    world: World

    def value(self, word: str) -> Floats:
        world, given = self.world, self.world.tokens.values
        match word:
            case "log_ratio":
                return world.log_ratio
            case "ratio":
                return np.exp(world.log_ratio)
            case "logp":
                return world.logp
            case "prob":
                return np.exp(world.logp)
            case "old_prob":
                return np.exp(given["old_logp"])
            case "advantage":
                return given["advantages"]
            case "gated_ratio":
                return world.bypassed[0]
            case _ if word in world.spec.lets:
                return value(world.spec.lets[word], self)
            case _ if word in world.spec.params:
                return np.asarray(world.spec.params[word])
            case _:
                return given[word]

    def frozen(self) -> Scope:
        return _Token(self.world.frozen)

    def aggregate(self, reduction: str, level: str, values: Floats) -> Floats:
        total = self.world.total("token", level, values)
        return total / self.world.count("token", level) if reduction == "mean" else total


@dataclass(frozen=True)
class _Gate:
    """Where the body of a gate stands."""

    world: World
    use: Use
    level: str
    channel: int
    lean: Lean
    x: Floats

    def value(self, word: str) -> Floats:
        world, names = self.world, self.world.spec.names
        if word == "x":
            return self.x
        if word in self.use.arguments:
            above, below = (value(side, self) for side in self.use.arguments[word])
            if self.channel:
                return above if self.channel > 0 else below
            return np.where(self.x >= 0, above, below)
        match word:
            case "advantage":
                return np.asarray(float(self.lean))
            case "size":
                return world.count(names[names.index(self.level) - 1], self.level)
            case "tokens":
                return world.count("token", self.level)
            case _:
                return _Token(world).value(word)

    def frozen(self) -> Scope:
        held = self.world.frozen
        x = self.x if held is self.world else held.seen(self.level, self.channel)
        return _Gate(held, self.use, self.level, self.channel, self.lean, x)

    def aggregate(self, reduction: str, level: str, values: Floats) -> Floats:
        raise AssertionError("a gate sees one cell")
