"""What is analysed: an objective, and what its parameters may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fibc.ir.interval import Interval
from fibc.ir.nodes import Program
from fibc.ir.scalar import Scalar, bounds
from fibc.ir.verify import verify
from fibc.lower import lower
from fibc.typed import TypedObjective


@dataclass(frozen=True)
class Setting:
    """An objective and what its parameters may be.

    Attributes:
        objective: the checked objective.
        params: the range of each parameter; a point where its value is fixed.
        values: the parameter values, where all are fixed.
    """

    objective: TypedObjective
    params: Mapping[str, Interval]
    values: Mapping[str, float] | None = None

    def bounds(self, scalar: Scalar) -> Interval:
        """What a budget or a steepness can be."""
        return bounds(scalar, self.params)

    def value(self, scalar: Scalar) -> float:
        """The value of a budget or steepness that counts nothing, where parameters are points."""
        if scalar not in self._known:
            self._known[scalar] = float(self.bounds(scalar).high)
        return self._known[scalar]

    @cached_property
    def _known(self) -> dict[Scalar, float]:
        return {}

    @cached_property
    def program(self) -> Program:
        """The reference program, an operation a symbol of docs/semantics.md."""
        return verify(lower(self.objective), "lower")

    @cached_property
    def top(self) -> str:
        """The coarsest level at which a gate looks at whole cells."""
        names = self.objective.level_names
        over = [g.over for g in self.objective.gates.values() if g.over is not None]
        return max([self.objective.coarsest_gated, *over], key=names.index)
