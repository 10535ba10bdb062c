"""What the analyses know of one objective at given parameters, each computed when first asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fibc.analysis.proofs import linear
from fibc.analysis.proofs.ranges import Ranges, ranges
from fibc.analysis.proofs.setting import Setting
from fibc.analysis.proofs.tight import tight_ranges
from fibc.ir.interval import Interval
from fibc.typed import TypedObjective, TypedParam


@dataclass(frozen=True)
class Facts(Setting):
    """A setting and what follows from it."""

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

    @cached_property
    def forms(self) -> Mapping[str, linear.Form | None]:
        """The values that are linear in aggregates on every batch."""
        return linear.everywhere(self.program)

    @cached_property
    def ranges(self) -> Ranges:
        """What every value can be, over all batches."""
        return ranges(self)

    @cached_property
    def tight_ranges(self) -> tuple[Interval, Interval]:
        """The range of G for advantages >= 0 and < 0, with what levels have to do with each other
        taken into account; takes longer."""
        return tight_ranges(self, self.ranges)


def _near_ends(param: TypedParam) -> list[float]:
    """Values inside the range, a thousandth of its width from either end; on an infinite side a
    thousand times the default."""
    low, high = float(param.range.low), float(param.range.high)
    scale = max(abs(param.default), 1.0)
    low = low if math.isfinite(low) else min(param.default, high) - 1e3 * scale
    high = high if math.isfinite(high) else max(param.default, low) + 1e3 * scale
    margin = (high - low) / 1000
    return [value for value in (low + margin, high - margin) if value in param.range]
