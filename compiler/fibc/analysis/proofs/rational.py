"""Rational functions of one variable: what the pieces of a gate are in k. Coefficients are exact.

sympy would do; importing it takes longer than checking a spec.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fibc.ir.interval import Interval, Real

Coefficients = tuple[Fraction, ...]
"""Of a polynomial, the constant first, no zero last; () is the polynomial 0."""


@dataclass(frozen=True, slots=True)
class Rational:
    """`numerator(k) / denominator(k)`. Takes part in + - * / with numbers."""

    numerator: Coefficients
    denominator: Coefficients = (Fraction(1),)

    @staticmethod
    def of(value: Rational | Real) -> Rational:
        return value if isinstance(value, Rational) else Rational(_trim([Fraction(value)]))

    @property
    def constant(self) -> Fraction | None:
        """The value, if it is the same for all k."""
        if not self.numerator:
            return Fraction(0)
        if len(self.numerator) != len(self.denominator):
            return None
        value = self.numerator[-1] / self.denominator[-1]
        same = self.numerator == tuple(value * d for d in self.denominator)
        return value if same else None

    def at(self, k: Interval) -> Interval:
        """An interval that holds every value for k in `k`; exact where k is a point."""
        if self.constant is not None:
            return Interval.point(self.constant)
        # (k + 1) / k as 1 + 1 / k: k stands once less, so the interval is narrower.
        quotient, rest = _divide(self.numerator, self.denominator)
        return _value(quotient, k) + _value(rest, k) / _value(self.denominator, k)

    def __add__(self, other: Rational | Real) -> Rational:
        o = Rational.of(other)
        total = _plus(_times(self.numerator, o.denominator), _times(o.numerator, self.denominator))
        return Rational(total, _times(self.denominator, o.denominator))

    def __mul__(self, other: Rational | Real) -> Rational:
        o = Rational.of(other)
        return Rational(
            _times(self.numerator, o.numerator), _times(self.denominator, o.denominator)
        )

    def __truediv__(self, other: Rational | Real) -> Rational:
        o = Rational.of(other)
        return self * Rational(o.denominator, o.numerator)

    def __neg__(self) -> Rational:
        return self * -1

    def __sub__(self, other: Rational | Real) -> Rational:
        return self + -Rational.of(other)

    def __rsub__(self, other: Real) -> Rational:
        return Rational.of(other) - self

    def __rtruediv__(self, other: Real) -> Rational:
        return Rational.of(other) / self

    __radd__ = __add__
    __rmul__ = __mul__


K = Rational((Fraction(0), Fraction(1)))
"""The variable."""


def _trim(coefficients: list[Fraction]) -> Coefficients:
    while coefficients and coefficients[-1] == 0:
        coefficients.pop()
    return tuple(coefficients)


def _plus(a: Coefficients, b: Coefficients) -> Coefficients:
    size = max(len(a), len(b))
    pad = (Fraction(0),)
    return _trim(
        [x + y for x, y in zip(a + pad * (size - len(a)), b + pad * (size - len(b)), strict=True)]
    )


def _times(a: Coefficients, b: Coefficients) -> Coefficients:
    product = [Fraction(0)] * (len(a) + len(b))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return _trim(product)


def _divide(a: Coefficients, b: Coefficients) -> tuple[Coefficients, Coefficients]:
    """Quotient and rest of polynomials."""
    quotient, rest = [Fraction(0)] * max(len(a) - len(b) + 1, 0), a
    while len(rest) >= len(b):
        shift = len(rest) - len(b)
        factor = rest[-1] / b[-1]
        quotient[shift] = factor
        taken = (Fraction(0),) * shift + tuple(-factor * x for x in b)
        rest = _plus(rest, taken)
    return _trim(quotient), rest


def _value(coefficients: Coefficients, k: Interval) -> Interval:
    value = Interval.point(Fraction(0))
    for coefficient in reversed(coefficients):
        value = value * k + Interval.point(coefficient)
    return value
