"""The extremes of one channel, exactly: the sum of its gates over all aggregates there can be.

With P the aggregates on the way from the coarsest gated cell to a token, a channel is

    y = sum over levels of g_l(P_l - P_{l+1}),   P_{L+1} = 0

a piecewise-linear function of P on the box that aggregates are in (those of a sign channel are not
negative).
So where it is bounded it is extreme at a vertex, and there each P is tied to 0 or to an end of
the box by residuals at ends of pieces. Those are all tried, in rational arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from fibc.ir.interval import Interval, Real


@dataclass(frozen=True, slots=True)
class Line:
    """A gate on residuals of an interval: `slope * residual + offset`, the offset anywhere in an
    interval (where the piece depends on a k that is not known)."""

    residuals: Interval
    slope: Fraction
    offset: Interval

    def bounded(self, sign: int) -> bool:
        """Whether it does not grow (sign 1) or fall (-1) without end."""
        rising, falling = sign * self.slope > 0, sign * self.slope < 0
        upwards, downwards = math.isinf(self.residuals.high), math.isinf(self.residuals.low)
        return not (rising and upwards) and not (falling and downwards)


@dataclass(frozen=True)
class Chain:
    """The gates of a channel, coarsest first.

    Attributes:
        gates: for each level, what its gate does.
        box: the interval that aggregates are in.
    """

    gates: tuple[tuple[Line, ...], ...]
    box: Interval
    _best: dict[tuple[int, Real, Real | None, int], Real] = field(default_factory=dict)

    def bounded(self, sign: int) -> bool:
        """Whether vertices decide: no gate grows (sign 1) or falls (-1) without end."""
        return all(line.bounded(sign) for gate in self.gates for line in gate)

    def extreme(self, sign: int, token: Fraction | None) -> Real:
        """The largest (sign 1) or least (-1) sum; `token` fixes the token's own aggregate.

        Only where it is `bounded`.
        """
        return self._extreme(0, Fraction(0), token, sign)

    def _extreme(self, level: int, above: Real, token: Real | None, sign: int) -> Real:
        """The extreme of the sum from `level` down, the next coarser aggregate being `above`."""
        key = level, above, token, sign
        if key not in self._best:
            last = level == len(self.gates) - 1
            found: Real = -sign * math.inf
            for P in self._tried(level, above, token if last else None):
                gated = self._gate(level, P - above, sign)
                if gated is None:
                    continue
                total = gated if last else gated + self._extreme(level + 1, P, token, sign)
                found = max(found, total) if sign > 0 else min(found, total)
            self._best[key] = found
        return self._best[key]

    def _gate(self, level: int, residual: Real, sign: int) -> Real | None:
        """The extreme value of the gate; None where no piece has such a residual."""
        values = [
            line.slope * residual + (line.offset.high if sign > 0 else line.offset.low)
            for line in self.gates[level]
            if line.residuals.low <= residual <= line.residuals.high
        ]
        return (max(values) if sign > 0 else min(values)) if values else None

    def _tried(self, level: int, above: Real, token: Real | None) -> Iterable[Real]:
        """What the aggregate at `level` is at a vertex."""
        if token is not None:
            return [token]
        tied = {above + end for end in self._ends(level)} | self._from_below[level]
        return [P for P in tied if self.box.low <= P <= self.box.high]

    def _ends(self, level: int) -> set[Real]:
        """The ends of the pieces of a gate, as residuals."""
        ends = {e for line in self.gates[level] for e in (line.residuals.low, line.residuals.high)}
        return {end for end in ends if not math.isinf(end)}

    @cached_property
    def _from_below(self) -> Sequence[set[Real]]:
        """For each level, the aggregates from which a finer one is at an end of the box."""
        anchors = {end for end in (self.box.low, self.box.high) if not math.isinf(end)} | {
            Fraction(0)
        }
        found = [anchors]
        for level in range(len(self.gates) - 1, 0, -1):
            below = {P - end for P in found[-1] for end in self._ends(level)}
            found.append(anchors | {P for P in below if self.box.low <= P <= self.box.high})
        return found[::-1]
