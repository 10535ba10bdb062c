"""What is analysed: an objective, and what its parameters may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fibc.gates.use import cell_budget_name
from fibc.ir.interval import Interval, hull
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
        return bounds(scalar, self.known)

    @cached_property
    def known(self) -> Mapping[str, Interval]:
        """What each parameter and each budget of a cell can be."""
        found = dict(self.params)
        for level, budget in self.objective.budgets.items():
            entries = [*budget.entries.values()]
            entries += [] if budget.otherwise is None else [budget.otherwise]
            if entries:
                name = cell_budget_name(level)
                found[name] = hull(bounds(entry, self.params) for entry in entries)
        return found

    def value(self, scalar: Scalar) -> float:
        """The value of a budget or steepness that counts nothing, where parameters are points."""
        if scalar not in self._values:
            self._values[scalar] = float(self.bounds(scalar).high)
        return self._values[scalar]

    @cached_property
    def _values(self) -> dict[Scalar, float]:
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
        over += [a.level for a in self.objective.sums if a.level in names]
        return max([self.objective.coarsest_gated, *over], key=names.index)
