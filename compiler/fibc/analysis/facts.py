"""What the analyses know of one objective at given parameters, each computed when first asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fibc.ir.interval import Interval
from fibc.ir.nodes import Program
from fibc.ir.scalar import Scalar, bounds
from fibc.ir.verify import verify
from fibc.lower import lower
from fibc.typed import TypedObjective, TypedParam

if TYPE_CHECKING:
    from fibc.analysis.linear import Form
    from fibc.analysis.ranges import Ranges


@dataclass(frozen=True)
class Facts:
    """An objective and what its parameters may be.

    Attributes:
        objective: the checked objective.
        params: the range of each parameter; a point where its value is fixed.
        values: the parameter values, where all are fixed.
    """

    objective: TypedObjective
    params: Mapping[str, Interval]
    values: Mapping[str, float] | None = None

    @staticmethod
    def at(objective: TypedObjective, values: Mapping[str, float]) -> Facts:
        """What holds at these parameter values."""
        return Facts(objective, {name: Interval.exact(v) for name, v in values.items()}, values)

    @staticmethod
    def over_ranges(objective: TypedObjective) -> Facts:
        """What holds whatever the parameters are within their declared ranges."""
        return Facts(objective, {p.name: p.range for p in objective.params})

    @cached_property
    def samples(self) -> tuple[Facts, ...]:
        """Single sets of parameter values, to look for counterexamples at: the values themselves;
        over ranges the defaults, and each parameter near either end of its range."""
        if self.values is not None:
            return (self,)
        defaults = self.objective.defaults
        choices = [defaults]
        for param in self.objective.params:
            choices += [{**defaults, param.name: v} for v in _near_ends(param)]
        return tuple(Facts.at(self.objective, values) for values in choices)

    def bounds(self, scalar: Scalar) -> Interval:
        """What a budget or a steepness can be."""
        return bounds(scalar, self.params)

    def value(self, scalar: Scalar) -> float:
        """The value of a budget or steepness that counts nothing, where parameters are points."""
        return float(self.bounds(scalar).high)

    @cached_property
    def program(self) -> Program:
        """The reference program, an operation a symbol of docs/semantics.md."""
        return verify(lower(self.objective), "lower")

    @cached_property
    def ranges(self) -> Ranges:
        """What every value can be, over all batches."""
        from fibc.analysis.ranges import ranges

        return ranges(self)

    @cached_property
    def tight_ranges(self) -> tuple[Interval, Interval]:
        """The range of G for advantages >= 0 and < 0, with what levels have to do with each other
        taken into account; takes longer."""
        from fibc.analysis.tight import tight_ranges

        return tight_ranges(self)

    @cached_property
    def forms(self) -> Mapping[str, Form | None]:
        """The values that are linear in aggregates on every batch."""
        from fibc.analysis.linear import everywhere

        return everywhere(self)

    @cached_property
    def top(self) -> str:
        """The coarsest level at which a gate looks at whole cells."""
        names = self.objective.level_names
        over = [g.over for g in self.objective.gates.values() if g.over is not None]
        return max([self.objective.coarsest_gated, *over], key=names.index)


def _near_ends(param: TypedParam) -> list[float]:
    """Values inside the range, a thousandth of its width from either end; on an infinite side a
    thousand times the default."""
    low, high = float(param.range.low), float(param.range.high)
    scale = max(abs(param.default), 1.0)
    low = low if math.isfinite(low) else min(param.default, high) - 1e3 * scale
    high = high if math.isfinite(high) else max(param.default, low) + 1e3 * scale
    margin = (high - low) / 1000
    return [value for value in (low + margin, high - margin) if value in param.range]
