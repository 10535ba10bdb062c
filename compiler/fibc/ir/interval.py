"""Intervals of reals with open or closed ends: what a parameter's range lets an expression be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    @staticmethod
    def point(value: float) -> Interval:
        return Interval(value, value)

    @staticmethod
    def everything() -> Interval:
        return Interval(-math.inf, math.inf, True, True)

    @property
    def empty(self) -> bool:
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    @property
    def positive(self) -> bool:
        """Whether every member is above 0."""
        return self.low > 0 or (self.low == 0 and self.low_open)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low, self.high_open, self.low_open)

    def __add__(self, other: Interval) -> Interval:
        low, high = self.low + other.low, self.high + other.high
        return Interval(
            -math.inf if math.isnan(low) else low,
            math.inf if math.isnan(high) else high,
            self.low_open or other.low_open,
            self.high_open or other.high_open,
        )

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __mul__(self, other: Interval) -> Interval:
        return _hull(
            # A zero that is reached makes the product 0 whatever the other factor does.
            (_product(a, b), (a_open or b_open) and not _reached_zero(a, a_open, b, b_open))
            for a, a_open in ((self.low, self.low_open), (self.high, self.high_open))
            for b, b_open in ((other.low, other.low_open), (other.high, other.high_open))
        )

    def __truediv__(self, other: Interval) -> Interval:
        if 0 in other or (other.low < 0 < other.high):
            return Interval.everything()
        if other.low < 0:
            return -self / -other
        return _hull(
            # A zero, or an infinite divisor, that is reached makes the quotient 0 by itself.
            (_quotient(a, b), (a_open or b_open) and not _reached_ratio_zero(a, a_open, b, b_open))
            for a, a_open in ((self.low, self.low_open), (self.high, self.high_open))
            for b, b_open in ((other.low, other.low_open), (other.high, other.high_open))
        )

    def log(self) -> Interval:
        def of(value: float) -> float:
            return -math.inf if value <= 0 else math.log(value)

        return Interval(of(self.low), of(self.high), self.low_open, self.high_open)

    def __str__(self) -> str:
        return (
            f"{'(' if self.low_open else '['}{self.low:g}, "
            f"{self.high:g}{')' if self.high_open else ']'}"
        )


def _hull(corners: Iterable[tuple[float, bool]]) -> Interval:
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


def _product(a: float, b: float) -> float:
    # 0 * inf is 0 here: the factor 0 is a value, the infinity only a limit.
    return 0.0 if a == 0 or b == 0 else a * b


def _quotient(a: float, b: float) -> float:
    # b is 0 or above, and 0 or infinite only as a limit; then a = 0 and b = inf go first.
    if a == 0 or math.isinf(b):
        return 0.0
    return math.copysign(math.inf, a) if b == 0 else a / b


def _reached_ratio_zero(a: float, a_open: bool, b: float, b_open: bool) -> bool:
    return (a == 0 and not a_open) or (math.isinf(b) and not b_open)


def _reached_zero(a: float, a_open: bool, b: float, b_open: bool) -> bool:
    return (a == 0 and not a_open) or (b == 0 and not b_open)
