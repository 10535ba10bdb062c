"""The shape of a gate, exactly: its pieces as rational functions of k, the budget taken out.

A gate of the table is C times a function of a / C and k: slopes do not depend on C, values and ends
are multiples of it. So with C = 1 all there is to prove of a gate is proved of rational functions
of k, and then holds for every budget and every steepness.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from fibc.analysis.proofs.rational import K, Rational
from fibc.gates.rule import Formula, GateRule
from fibc.ir.interval import Interval, Real, hull
from fibdsl.diagnostics.errors import InternalError

ZERO = Rational.of(Fraction(0))


@dataclass(frozen=True, slots=True)
class ShapePiece:
    """One piece for a budget of 1: `intercept + slope * a` for a from `start` to `until`.

    `first` and `last` are the values at its two ends; `until` and `last` are None where it has no
    upper end.
    """

    regime: str
    slope: Rational
    intercept: Rational
    start: Rational
    until: Rational | None
    first: Rational
    last: Rational | None


@dataclass(frozen=True, slots=True)
class Shape:
    """A gate on magnitudes, for a budget of 1. One that is not made of pieces has none, and nothing
    is known of it here."""

    pieces: tuple[ShapePiece, ...]

    @property
    def identity_at_zero(self) -> bool:
        """Whether it is x -> x around 0 (with a positive budget)."""
        first = self.pieces[:1]
        return any(p.slope.constant == 1 and p.intercept.constant == 0 for p in first)

    @property
    def identity(self) -> bool:
        """Whether it is x -> x everywhere."""
        return len(self.pieces) == 1 and self.identity_at_zero

    @property
    def clips(self) -> bool:
        """Whether it is x up to its budget and its budget beyond."""
        if len(self.pieces) != 2 or not self.identity_at_zero or self.jumps:
            return False
        last = self.pieces[1]
        return last.slope.constant == 0 and last.intercept.constant == 1

    @property
    def zero(self) -> bool:
        """Whether it is 0 everywhere."""
        zeros = [p.slope.constant == 0 == p.intercept.constant for p in self.pieces]
        return bool(zeros) and all(zeros)

    @property
    def jumps(self) -> tuple[tuple[str, str, Rational], ...]:
        """The pieces between which the value jumps, and by how much for a budget of 1. At 0 the
        odd gate jumps by twice the first value."""
        found: list[tuple[str, str, Rational]] = []
        if not self.pieces:
            return ()
        first = self.pieces[0]
        if first.intercept.constant != 0:
            found.append((first.regime, first.regime, first.intercept * 2))
        for before, after in zip(self.pieces, self.pieces[1:], strict=False):
            assert before.last is not None
            jump = after.first - before.last
            if jump.constant != 0:
                found.append((before.regime, after.regime, jump))
        return tuple(found)

    def range(self, C: Interval, k: Interval, a: Interval) -> Interval:
        """The values on magnitudes in `a` = [0, A]; exact for points C and k."""
        parts = [part.values for part in self.parts(C, k, a)]
        return hull(parts) if parts else Interval.point(Fraction(0))

    def parts(self, C: Interval, k: Interval, a: Interval) -> tuple[Part, ...]:
        """The pieces that magnitudes in `a` = [0, A] can reach, and what they make of them."""
        found = []
        for piece in self.pieces:
            start = C * piece.start.at(k)
            if start.low > a.high or (start.low == a.high and (a.high_open or start.low > 0)):
                continue
            limit = Interval.point(a.high)
            C_here = _at_most(C, piece.start.at(k), a.high)
            cut = C_here * piece.intercept.at(k) + limit * piece.slope.at(k)
            values, reach = [cut], limit
            if piece.until is not None and piece.last is not None:
                until = C_here * piece.until.at(k)
                C_inside = _at_most(C_here, piece.until.at(k), a.high)
                last = C_inside * piece.last.at(k)
                if until.high <= a.high:
                    values, reach = [last], until
                elif until.low < a.high:
                    values, reach = [last, cut], hull([until, limit])
            elif piece.slope.constant == 0:
                values = [C_here * piece.intercept.at(k)]
            inputs = Interval(start.low, min(reach.high, a.high))
            found.append(Part(piece, inputs, hull([C_here * piece.first.at(k), *values])))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Part:
    """What of a piece can be reached: an enclosure of its inputs and of its values."""

    piece: ShapePiece
    inputs: Interval
    values: Interval


@lru_cache(maxsize=64)
def shape(rule: GateRule) -> Shape:
    """The shape of a gate of the table."""
    pieces = []
    start = ZERO
    for piece in rule.pieces:
        slope = _for_budget_one(piece.slope, rule, degree=0)
        intercept = _for_budget_one(piece.intercept, rule, degree=1)
        until = _for_budget_one(piece.until, rule, degree=1) if piece.until else None
        pieces.append(
            ShapePiece(
                piece.regime,
                slope,
                intercept,
                start,
                until,
                intercept + slope * start,
                None if until is None else intercept + slope * until,
            )
        )
        start = until if until is not None else start
    return Shape(tuple(pieces))


def _for_budget_one(formula: Formula, rule: GateRule, degree: int) -> Rational:
    """A formula of (C, k) at C = 1, and the assurance that it is C**degree times that."""
    one = Rational.of(formula(Rational.of(Fraction(1)), K))
    for C in (Fraction(2), Fraction(3)):
        scaled = Rational.of(formula(Rational.of(C), K))
        if (scaled - one * C**degree).constant != 0:
            raise InternalError(f"gate {rule.name}: a formula is not of degree {degree} in C")
    return one


def _at_most(C: Interval, end: Interval, limit: Real) -> Interval:
    """The budgets in `C` with which an end of `end` for a budget of 1 is not above `limit`."""
    if end.low <= 0 or limit / end.low >= C.high:
        return C
    return Interval(C.low, limit / end.low)


def shrinks(gate: Shape, k: Interval) -> bool:
    """Whether |g(x)| <= |x| for every x and k, so that a gate that may only lower never raises."""
    if not gate.pieces:
        return False
    for piece in gate.pieces:
        ends = [piece.first - piece.start]
        if piece.last is not None and piece.until is not None:
            ends.append(piece.last - piece.until)
        elif piece.slope.at(k).high > 1:
            return False
        if any(end.at(k).high > 0 for end in ends):
            return False
    return True
