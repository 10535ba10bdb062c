"""Intervals of reals with open or closed ends: what a parameter's range lets an expression be.

Ends are rational where they were given exactly, so that what is proved of them is proved of the
numbers a spec writes and not of their nearest floats; infinities are floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

Real = float | Fraction


def exact(value: Real) -> Real:
    """The decimal number that `value` is written as, 1/10 for 0.1; infinities stay."""
    if isinstance(value, Fraction) or math.isinf(value):
        return value
    return Fraction(repr(float(value)))


@dataclass(frozen=True, slots=True)
class Interval:
    low: Real
    high: Real
    low_open: bool = False
    high_open: bool = False

    @staticmethod
    def point(value: Real) -> Interval:
        return Interval(value, value)

    @staticmethod
    def exact(value: Real) -> Interval:
        """The number that `value` is written as."""
        return Interval.point(exact(value))

    def exactly(self) -> Interval:
        """The same interval with the ends it is written with."""
        return replace(self, low=exact(self.low), high=exact(self.high))

    @staticmethod
    def everything() -> Interval:
        return Interval(-math.inf, math.inf, True, True)

    @property
    def empty(self) -> bool:
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def __contains__(self, value: Real) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def within(self, other: Interval) -> bool:
        """Whether every member is one of `other`."""
        low = self.low == other.low and (self.low_open or not other.low_open)
        high = self.high == other.high and (self.high_open or not other.high_open)
        return (low or self.low > other.low) and (high or self.high < other.high)

    @property
    def positive(self) -> bool:
        """Whether every member is above 0."""
        return self.low > 0 or (self.low == 0 and self.low_open)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.high_open, self.low_open)

    def __add__(self, other: Interval) -> Interval:
        low, high = self.low + other.low, self.high + other.high
        return _tamed(
            Interval(
                -math.inf if low != low else low,  # NaN, of infinities
                math.inf if high != high else high,
                self.low_open or other.low_open,
                self.high_open or other.high_open,
            )
        )

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __mul__(self, other: Interval) -> Interval:
        return _tamed(
            _hull(
                # A zero that is reached makes the product 0 whatever the other factor does.
                (_product(a, b), (a_open or b_open) and not _reached_zero(a, a_open, b, b_open))
                for a, a_open in ((self.low, self.low_open), (self.high, self.high_open))
                for b, b_open in ((other.low, other.low_open), (other.high, other.high_open))
            )
        )

    def __truediv__(self, other: Interval) -> Interval:
        if 0 in other or (other.low < 0 < other.high):
            return Interval.everything()
        if other.low < 0:
            return -self / -other
        return _tamed(
            _hull(
                # A zero, or an infinite divisor, that is reached makes the quotient 0 by itself.
                (
                    _quotient(a, b),
                    (a_open or b_open) and not _reached_ratio_zero(a, a_open, b, b_open),
                )
                for a, a_open in ((self.low, self.low_open), (self.high, self.high_open))
                for b, b_open in ((other.low, other.low_open), (other.high, other.high_open))
            )
        )

    def log(self) -> Interval:
        return Interval(_log(self.low, -1), _log(self.high, 1), self.low_open, self.high_open)

    def __str__(self) -> str:
        return (
            f"{'(' if self.low_open else '['}{float(self.low):g}, "
            f"{float(self.high):g}{')' if self.high_open else ']'}"
        )


# Beyond these an end is no float any more.
_HUGE, _SMALL = Fraction(10) ** 300, Fraction(1, 10**300)


def _tamed(interval: Interval) -> Interval:
    """An interval around this one with ends that are floats."""
    low, low_open = _tame_low(interval.low, interval.low_open)
    high, high_open = _tame_low(-interval.high, interval.high_open)
    return Interval(low, -high, low_open, high_open)


def _tame_low(low: Real, low_open: bool) -> tuple[Real, bool]:
    """A lower end, moved down where it is no float."""
    if -_HUGE <= low <= -_SMALL or _SMALL <= low <= _HUGE or low in (0, math.inf, -math.inf):
        return low, low_open
    if low > 0:
        return (_HUGE, False) if low > _HUGE else (Fraction(0), True)
    return (-math.inf, True) if low < -_HUGE else (-_SMALL, False)


def hull(intervals: Iterable[Interval]) -> Interval:
    """The smallest interval that holds all of them."""
    return _hull(
        (value, is_open)
        for i in intervals
        for value, is_open in ((i.low, i.low_open), (i.high, i.high_open))
    )


def _hull(corners: Iterable[tuple[Real, bool]]) -> Interval:
    """The interval between the least and the greatest corner, each a value and whether it is left
    out. An end is reached as soon as one of the corners that give it is."""
    ends = list(corners)
    low = min(value for value, _ in ends)
    high = max(value for value, _ in ends)
    return Interval(
        low,
        high,
        all(is_open for value, is_open in ends if value == low),
        all(is_open for value, is_open in ends if value == high),
    )


def _product(a: Real, b: Real) -> Real:
    # 0 * inf is 0 here: the factor 0 is a value, the infinity only a limit.
    return Fraction(0) if a == 0 or b == 0 else a * b


def _quotient(a: Real, b: Real) -> Real:
    # b is 0 or above, and 0 or infinite only as a limit; then a = 0 and b = inf go first.
    if a == 0 or math.isinf(b):
        return Fraction(0)
    return math.copysign(math.inf, a) if b == 0 else a / b


def _reached_ratio_zero(a: Real, a_open: bool, b: Real, b_open: bool) -> bool:
    return (a == 0 and not a_open) or (math.isinf(b) and not b_open)


def _reached_zero(a: Real, a_open: bool, b: Real, b_open: bool) -> bool:
    return (a == 0 and not a_open) or (b == 0 and not b_open)


def _log(value: Real, side: int) -> Real:
    """log of an end; of a rational one a rational bound on that side (1: not below the logarithm,
    -1: not above it)."""
    if value <= 0:
        return -math.inf
    log = math.log(value)
    if not isinstance(value, Fraction) or value == 1:
        return Fraction(0) if value == 1 else log
    # Rounding `value` moves the logarithm by at most one unit roundoff, math.log by its last digit.
    error = Fraction(2) ** -52 + 2 * Fraction(math.ulp(log))
    return Fraction(log) + side * error
