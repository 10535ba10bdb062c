"""What type checking hands on: an objective in which every quantity has a space and fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fibc.gates.rule import GateRule
from fibc.ir.expression import Expr
from fibc.ir.interval import Interval
from fibc.ir.scalar import Scalar, show_scalar, variants
from fibc.resolved import ReduceStep
from fibdsl.source import Span
from fibdsl.types import Channels, Level, Signal, Space


@dataclass(frozen=True, slots=True)
class TypedParam:
    """A run-time value of the objective: its space, default and the range it must stay in."""

    name: str
    space: Space
    default: float
    range: Interval
    span: Span


@dataclass(frozen=True, slots=True)
class Budget:
    """Two positive magnitudes. Split: bounds of the + and the - channel; net: upper and lower."""

    upper: Scalar
    lower: Scalar

    @property
    def bounds(self) -> tuple[Scalar, ...]:
        """Upper and lower, for advantages of either sign."""
        return tuple(s for bound in (self.upper, self.lower) for s in variants(bound))


@dataclass(frozen=True, slots=True)
class TypedGate:
    """A gate of an objective.

    Attributes:
        arguments: what its parameters are, by name; a plain number has the same on both sides.
        over: the level whose cells share its budget.
    """

    rule: GateRule
    role: Literal["base", "fiber"]
    arguments: dict[str, Budget]
    over: str | None
    pessimistic: bool
    span: Span

    @property
    def budget(self) -> Budget | None:
        """The budget of a gate of pieces."""
        names = self.rule.budgets
        return self.arguments[names[0]] if self.rule.pieces and names else None

    @property
    def steepness(self) -> Scalar | None:
        """The steepness of a gate of pieces."""
        k = self.rule.steepness
        return self.arguments[k.name].upper if k is not None else None

    @property
    def by_advantage(self) -> bool:
        """Whether what it does depends on the sign of the advantage."""
        scalars = [s for a in self.arguments.values() for s in (a.upper, a.lower)]
        return (
            self.pessimistic or self.rule.by_advantage or any(len(variants(s)) > 1 for s in scalars)
        )

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """Everything it was given."""
        return tuple(s for a in self.arguments.values() for s in (a.upper, a.lower))


@dataclass(frozen=True, slots=True)
class TokenValue:
    """An expression at the token, and what its inputs are.

    Attributes:
        inputs: names of `LEAVES`, or of the aggregates of the objective.
        span: of the statement, where the expression is what one says.
    """

    expr: Expr
    inputs: tuple[str, ...]
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`mean(value over level)` or `sum(value over level)`, at each token of the cell."""

    name: str
    reduction: Literal["mean", "sum"]
    level: str
    value: TokenValue


LEAVES = ("log_ratio", "logp", "old_logp", "ref_logp", "rollout_logp", "advantage")
"""What expressions at the token are made of, besides `gated_ratio`; `ratio`, `prob` and `old_prob`
are exponentials of these."""


@dataclass(frozen=True, slots=True)
class Bypass:
    """Where the condition holds, G is the value: both at the token."""

    condition: TokenValue
    value: TokenValue
    span: Span


@dataclass(frozen=True, slots=True)
class CellBudget:
    """Budgets by the name of a cell.

    Attributes:
        entries: by name; names stand for ids that the caller gives.
        otherwise: of all cells that no entry names; None: there may be none.
    """

    key: str
    entries: dict[str, Scalar]
    otherwise: Scalar | None
    span: Span

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """All budgets: those of the names in their order, then that of the other cells."""
        return (*self.entries.values(), *(() if self.otherwise is None else (self.otherwise,)))

    @property
    def words(self) -> tuple[str, ...]:
        """What each of them is called in a spec."""
        return (*self.entries, *(() if self.otherwise is None else ("else",)))


@dataclass(frozen=True, slots=True)
class Promise:
    """A `require` or `assume` whose arguments fit its property.

    Attributes:
        property: a name of `fibc.analysis.properties`.
        at, over: levels, where it names them.
        within: the range after `in`, with the ends as written.
        tv: the bound after `tv <=`.
        assumed: whether it may stay undecided.
        of: the objective that it is inherited from.
    """

    property: str
    span: Span
    at: str | None = None
    over: str | None = None
    within: Interval | None = None
    tv: Scalar | None = None
    assumed: bool = False
    of: str | None = None

    def __str__(self) -> str:
        words = [self.property]
        words += [f"at {self.at}"] if self.at else []
        words += [f"tv <= {show_scalar(self.tv)}"] if self.tv else []
        words += [f"over {self.over}"] if self.over else []
        words += [f"in {self.within}"] if self.within else []
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class TypedObjective:
    """A checked objective.

    Attributes:
        levels: the chain, fine to coarse, `token` first.
        gates: by level name; exactly the levels from token to the coarsest gated one.
        after: the gate that every token's signal has passed before it is aggregated.
        aggregates: for each level above token, the finer level its mean is over.
        summed: the levels whose aggregate is a sum over that level, and no mean.
        budgets: the budgets of cells, by level.
        sums: the aggregates in expressions, in an order in which each uses earlier ones only.
        bypasses: the first whose condition holds gives G.
        surrogate: what a token's advantage is multiplied with; None: G.
        weight: what the product is multiplied with, without gradient.
        penalty: what is taken from it.
        labelled: 1 where a labelled case of these holds, by the name of the metric.
        reduce: outermost step first.
    """

    name: str
    doc: str
    params: tuple[TypedParam, ...]
    signal: Signal
    channels: Channels
    levels: tuple[Level, ...]
    gates: dict[str, TypedGate]
    aggregates: dict[str, str]
    reduce: tuple[ReduceStep, ...]
    promises: tuple[Promise, ...]
    span: Span
    reduce_span: Span
    after: TypedGate | None = None
    summed: frozenset[str] = frozenset()
    budgets: dict[str, CellBudget] = field(default_factory=dict)
    sums: tuple[Aggregate, ...] = ()
    bypasses: tuple[Bypass, ...] = ()
    surrogate: TokenValue | None = None
    weight: TokenValue | None = None
    penalty: TokenValue | None = None
    labelled: dict[str, TokenValue] = field(default_factory=dict)

    @property
    def token_values(self) -> tuple[TokenValue, ...]:
        """All expressions at the token."""
        parts = [v for b in self.bypasses for v in (b.condition, b.value)]
        parts += [aggregate.value for aggregate in self.sums]
        return (*parts, *(v for v in (self.surrogate, self.weight, self.penalty) if v is not None))

    @property
    def exact(self) -> bool:
        """Whether G is a sum of linear pieces, about which the proofs are exact."""
        pieces = all(gate.rule.pieces for gate in self.gates.values())
        return pieces and self.after is None and not self.summed and not self.bypasses

    @property
    def plain(self) -> bool:
        """Whether its gates are all there is: a token's term is G times its advantage."""
        return not self.bypasses and self.surrogate is self.weight is self.penalty is None

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors it needs besides those that every loss takes, in a fixed order."""
        used = {name for value in self.token_values for name in value.inputs}
        return tuple(name for name in ("rollout_logp", "ref_logp") if name in used)

    @property
    def level_names(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.levels)

    @property
    def coarsest_gated(self) -> str:
        return [name for name in self.level_names if name in self.gates][-1]

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids a batch must bring, in the order of the levels."""
        return tuple(level.key for level in self.levels if level.key)

    @property
    def defaults(self) -> dict[str, float]:
        return {p.name: p.default for p in self.params}
