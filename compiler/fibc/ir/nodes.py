"""The IR: a straight-line program of typed operations on tokens and cells.

Every value lives at a level and has one entry a cell of it. Values move up one level at a time by
`PushForward` (a sum over children; divided by a `Count` it is pi_*) and down by `Lift`
(K). The gating hierarchy of docs/semantics.md then reads, for each channel,

    y_L = g_L(S_L)        y_l = K y_{l+1} + g_l(S_l - K S_{l+1})        log G = sum_l l * y_0^l

Values are named, and operands are names of earlier operations (single assignment).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from fibc.gates.rule import GateRule
from fibc.ir.expression import Expr
from fibc.ir.scalar import Scalar
from fibc.typed import CellBudget, TypedParam
from fibdsl.types import Level, Signal

Sign = Literal[1, -1]


@dataclass(frozen=True, slots=True)
class Op:
    """An operation; `name` is the value it defines, `level` where that value lives."""

    OPERANDS: ClassVar[tuple[str, ...]] = ()

    name: str
    level: str

    @property
    def operands(self) -> tuple[str, ...]:
        """The values it reads."""
        return tuple(v for f in self.OPERANDS if (v := getattr(self, f)) is not None)

    def renamed(self, names: dict[str, str]) -> Op:
        """The same operation on other operands: `names` maps old to new."""
        changes = {
            f: names[v] for f in self.OPERANDS if (v := getattr(self, f)) is not None and v in names
        }
        return replace(self, **changes) if changes else self


# --- at the token -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogRatio(Op):
    """x = logp - old_logp, 0 under the mask."""


@dataclass(frozen=True, slots=True)
class LogProb(Op):
    """logp, 0 under the mask: x and a constant, so that its derivative is that of x."""

    OPERANDS: ClassVar = ("x",)
    x: str


@dataclass(frozen=True, slots=True)
class Data(Op):
    """A tensor of the batch, 0 under the mask; no gradient flows into it.

    Attributes:
        tensor: "advantages", "old_logp", "ref_logp", "rollout_logp", or what the caller gives a
            token for a level's `budget`.
    """

    tensor: str


@dataclass(frozen=True, slots=True)
class Deviation(Op):
    """r - 1 = exp(x) - 1."""

    OPERANDS: ClassVar = ("x",)
    x: str


@dataclass(frozen=True, slots=True)
class Ratio(Op):
    """r = exp(x)."""

    OPERANDS: ClassVar = ("x",)
    x: str


@dataclass(frozen=True, slots=True)
class KL(Op):
    """An estimate of KL(old || new) from one token: k1 = -x, k3 = r - 1 - x (in nats)."""

    OPERANDS: ClassVar = ("x",)
    x: str
    estimator: Literal["k1", "k3"]


@dataclass(frozen=True, slots=True)
class Channel(Op):
    """The part of x in one sign channel, as a magnitude; zero belongs to the + channel (F)."""

    OPERANDS: ClassVar = ("x",)
    x: str
    sign: Sign


@dataclass(frozen=True, slots=True)
class OwnChannel(Op):
    """`plus` where x >= 0, else `-minus`: of two channels the one that a token is in, signed.

    R of channels of which one is 0, computed in one.
    """

    OPERANDS: ClassVar = ("x", "plus", "minus")
    x: str
    plus: str
    minus: str


@dataclass(frozen=True, slots=True)
class GatedRatio(Op):
    """G: exp of a gated log-ratio, or 1 + a gated deviation.

    Attributes:
        bounded: whether y is proved to stay where no exponential overflows.
    """

    OPERANDS: ClassVar = ("y",)
    y: str
    signal: Signal
    bounded: bool = False


@dataclass(frozen=True, slots=True)
class Term(Op):
    """What a token adds to the objective: factor * advantage - penalty.

    Attributes:
        factor: weight * surrogate; G where an objective says neither.
    """

    OPERANDS: ClassVar = ("factor", "penalty")
    factor: str
    penalty: str | None = None


@dataclass(frozen=True, slots=True)
class NonNegativeAdvantage(Op):
    """1 where the advantage is >= 0, else 0."""


@dataclass(frozen=True, slots=True)
class Select(Op):
    """`up` where the advantage is >= 0, else `down`: what a pessimistic gate leaves open above."""

    OPERANDS: ClassVar = ("up", "down")
    up: str
    down: str


# --- between levels -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Count(Op):
    """The number of non-empty `of` cells in each cell of `level`.

    Attributes:
        counts: the same count one level finer, or None where the `of` cells are the children.
        members: some count at the level `of`, by which empty cells are known; None at the token.
    """

    OPERANDS: ClassVar = ("counts", "members")
    of: str
    counts: str | None
    members: str | None


@dataclass(frozen=True, slots=True)
class PushForward(Op):
    """The sum of `x` over the children of each cell."""

    OPERANDS: ClassVar = ("x",)
    x: str


@dataclass(frozen=True, slots=True)
class Shared(Op):
    """The value that all children of a cell have, which is data."""

    OPERANDS: ClassVar = ("x",)
    x: str


@dataclass(frozen=True, slots=True)
class Weighted(Op):
    """`x * count`: a cell's aggregate weighed by how many members it speaks for."""

    OPERANDS: ClassVar = ("x", "count")
    x: str
    count: str


@dataclass(frozen=True, slots=True)
class Mean(Op):
    """`total / max(count, 1)`: the mean over a fiber, 0 in an empty cell."""

    OPERANDS: ClassVar = ("total", "count")
    total: str
    count: str


@dataclass(frozen=True, slots=True)
class Lift(Op):
    """The value of a cell copied to each of its children (K)."""

    OPERANDS: ClassVar = ("x",)
    x: str


# --- at any level -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Residual(Op):
    """`x - coarse`: the deviation from the lifted aggregate of the next coarser level."""

    OPERANDS: ClassVar = ("x", "coarse")
    x: str
    coarse: str


@dataclass(frozen=True, slots=True)
class Compose(Op):
    """`coarse + fine`: base part and fiber part (K y + g)."""

    OPERANDS: ClassVar = ("coarse", "fine")
    coarse: str
    fine: str


@dataclass(frozen=True, slots=True)
class Recombine(Op):
    """`plus - minus`: the signed value from its two channels (R)."""

    OPERANDS: ClassVar = ("plus", "minus")
    plus: str
    minus: str


@dataclass(frozen=True, slots=True)
class Magnitude(Op):
    """|x|, with slope +1 at zero (zero belongs to the + channel)."""

    OPERANDS: ClassVar = ("x",)
    x: str


@dataclass(frozen=True, slots=True)
class Present(Op):
    """x, but 0 where there is nothing: under the mask and in empty cells.

    Aggregates are 0 there by themselves, residuals are not; a sum of residuals needs this.

    Attributes:
        members: some count at this level, by which empty cells are known; None at the token.
    """

    OPERANDS: ClassVar = ("x", "members")
    x: str
    members: str | None


@dataclass(frozen=True, slots=True)
class Divided(Op):
    """`x / divisor`: a sum over something else than a count."""

    OPERANDS: ClassVar = ("x",)
    x: str
    divisor: Scalar


@dataclass(frozen=True, slots=True)
class Pointwise(Op):
    """An expression of values at the same level, cell by cell; under the mask it is 0.

    Attributes:
        inputs: the values that the expression's inputs are; at least one.
    """

    inputs: tuple[str, ...]
    expr: Expr

    @property
    def operands(self) -> tuple[str, ...]:
        return self.inputs

    def renamed(self, names: dict[str, str]) -> Pointwise:
        inputs = tuple(names.get(name, name) for name in self.inputs)
        return replace(self, inputs=inputs) if inputs != self.inputs else self


@dataclass(frozen=True, slots=True)
class NeighbourBudget(Op):
    """`max(0, count * delta - (total - magnitude))`: what the other members leave (APC-Obj)."""

    OPERANDS: ClassVar = ("total", "count", "magnitude")
    total: str
    count: str
    magnitude: str
    delta: Scalar


@dataclass(frozen=True, slots=True)
class Gate(Op):
    """A gate given by linear pieces, odd in x.

    Attributes:
        rule: the gate.
        upper, lower: budgets for x >= 0 and x < 0; None for gates without one.
        budget: a computed budget (a `NeighbourBudget`) in place of `upper` and `lower`.
        steepness: k of a rollback; in it `Count("size")` and `Count("tokens")` stand for the
            values of the `Count` operations `size` and `tokens`.
        side: where the gate may act. None: everywhere; 1: only where it lowers y; -1: only where
            it raises y (the two halves of a pessimistic gate).
    """

    OPERANDS: ClassVar = ("x", "budget", "size", "tokens")
    x: str
    rule: GateRule
    upper: Scalar | None = None
    lower: Scalar | None = None
    budget: str | None = None
    steepness: Scalar | None = None
    size: str | None = None
    tokens: str | None = None
    side: Sign | None = None


# --- what is measured ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeanOf:
    """The mean of a value over the non-empty cells of its level.

    Attributes:
        members: some count at that level, by which empty cells are known; None at the token.
    """

    name: str
    value: str
    members: str | None = None

    @property
    def operands(self) -> tuple[str, ...]:
        return tuple(v for v in (self.value, self.members) if v is not None)


@dataclass(frozen=True, slots=True)
class RegimeShare:
    """The share of non-empty cells in which a gate is in a regime.

    Attributes:
        gate: the gate; of a pessimistic pair, its half for advantages >= 0.
        down: the other half of the pair, or None.
        up_share: the share of a cell's tokens with advantage >= 0, which weighs the two halves.
        regime: a name of the gate's pieces.
        sign: count only cells with x >= 0 (1) or x < 0 (-1); None counts all.
        members: as in `MeanOf`.
    """

    name: str
    gate: str
    regime: str
    sign: Sign | None = None
    down: str | None = None
    up_share: str | None = None
    members: str | None = None

    @property
    def operands(self) -> tuple[str, ...]:
        values = (self.gate, self.down, self.up_share, self.members)
        return tuple(v for v in values if v is not None)


@dataclass(frozen=True, slots=True)
class TokensClipped:
    """The share of tokens at which a token gate, of either channel, does not pass.

    Attributes:
        up: the token gates that apply where the advantage is >= 0.
        down: those where it is < 0; the same ones if no gate is pessimistic.
    """

    name: str
    up: tuple[str, ...]
    down: tuple[str, ...]

    @property
    def operands(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.up + self.down))


Metric = MeanOf | RegimeShare | TokensClipped


@dataclass(frozen=True, slots=True)
class Program:
    """One objective, lowered.

    Attributes:
        levels: the chain, fine to coarse.
        ops: in order of computation.
        gated_ratio: the value G, at the token.
        objective: the value J, at the batch; the loss is -J.
        outermost: the level whose cells the last mean of the reduce counts, or None (a sum).
        budgets: of cells, by level: what the tensors `cell_budget_name(level)` are made of.
    """

    name: str
    levels: tuple[Level, ...]
    params: tuple[TypedParam, ...]
    signal: Signal
    ops: tuple[Op, ...]
    gated_ratio: str
    objective: str
    outermost: str | None
    metrics: tuple[Metric, ...]
    budgets: dict[str, CellBudget] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Op]:
        return {op.name: op for op in self.ops}

    @property
    def factor(self) -> str:
        """What a token's advantage is multiplied with: weight * surrogate, G if it says neither."""
        return next(op.factor for op in self.ops if isinstance(op, Term))

    def summed(self, total: str) -> str:
        """What a sum is a sum of, weighed or not: the value whose mean it makes."""
        op = self.by_name[total]
        return self.summed(op.x) if isinstance(op, PushForward | Weighted) else total

    @property
    def level_names(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.levels)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(level.key for level in self.levels if level.key)

    @property
    def roots(self) -> tuple[str, ...]:
        """The values that are wanted, in a fixed order."""
        wanted = [self.gated_ratio, self.objective]
        for metric in self.metrics:
            wanted += metric.operands
        return tuple(dict.fromkeys(wanted))
