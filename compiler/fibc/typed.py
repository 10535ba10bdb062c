"""What type checking hands on: an objective in which every quantity has a space and fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fibc.ir.interval import Interval
from fibc.ir.scalar import Scalar, show_scalar
from fibc.resolved import ReduceStep
from fibdsl.builtins import GateRule
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


@dataclass(frozen=True, slots=True)
class TypedGate:
    rule: GateRule
    role: Literal["base", "fiber"]
    budget: Budget | None
    steepness: Scalar | None
    over: str | None
    pessimistic: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Promise:
    """A `require` or `assume` whose arguments fit its property.

    Attributes:
        property: a name of `fibc.analysis.properties`.
        at, over: levels, where it names them.
        within: the range after `in`, with the ends as written.
        tv: the bound after `tv <=`.
        assumed: whether it may stay undecided.
    """

    property: str
    span: Span
    at: str | None = None
    over: str | None = None
    within: Interval | None = None
    tv: Scalar | None = None
    assumed: bool = False

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
        aggregates: for each level above token, the finer level its mean is over.
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
