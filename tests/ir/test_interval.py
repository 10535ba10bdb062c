"""Interval arithmetic: it never leaves out a value that the operands allow.

Exact where floats are exact (fractions of small integers), and up to the closure of the interval
for any floats: there a sum or product may be rounded onto an end that is open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fibc.ir.interval import Interval

INF = math.inf
Pair = tuple[Interval, Fraction]

OPERATORS: dict[str, Callable[..., Interval]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
EXACT: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
FLOAT: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


def holds(interval: Interval, value: Fraction) -> bool:
    """Membership, decided without rounding."""
    above = value > interval.low if interval.low_open else value >= interval.low
    below = value < interval.high if interval.high_open else value <= interval.high
    return above and below


ends = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([-INF, INF]))


@st.composite
def small(draw: st.DrawFn) -> Pair:
    """An interval with small integer or infinite ends, and one of its members."""
    low, high = sorted((draw(ends), draw(ends)))
    interval = Interval(low, high, draw(st.booleans()), draw(st.booleans()))
    if not math.isfinite(low):
        interval = Interval(low, high, True, interval.high_open)
    if not math.isfinite(high):
        interval = Interval(low, high, interval.low_open, True)
    first = Fraction(low) if math.isfinite(low) else Fraction(-40)
    last = Fraction(high) if math.isfinite(high) else Fraction(40)
    # Ends, places very near to them, and places between.
    tiny = Fraction(1, 2**40)
    between = first + (last - first) * draw(st.integers(0, 16)) / 16
    member = draw(st.sampled_from([first, first + tiny, between, last - tiny, last]))
    if not holds(interval, member):
        interval, member = Interval.point(float(draw(st.integers(-3, 3)))), Fraction(0)
        member = Fraction(interval.low)
    return interval, member


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from("+-*/"), small(), small())
@example(
    "*", (Interval(0, 1, True, False), Fraction(1)), (Interval(0, INF, False, True), Fraction())
)
@example("/", (Interval(0, 1, True, True), Fraction(1, 2)), (Interval.point(-2), Fraction(-2)))
def test_operations_hold_every_value(operator: str, left: Pair, right: Pair) -> None:
    (a, x), (b, y) = left, right
    result = OPERATORS[operator](a, b)
    assert not math.isnan(result.low)
    assert not math.isnan(result.high)
    if operator == "/" and y == 0:
        return
    value = EXACT[operator](x, y)
    # The ends of a quotient are rounded (thirds), as its float value is.
    assert holds(result, value) or float(value) in result, (result, value)
    if result.positive:
        assert value > 0


@settings(max_examples=300, deadline=None)
@given(small())
def test_negation_and_logarithm_hold_every_value(pair: Pair) -> None:
    interval, member = pair
    assert holds(-interval, -member)
    negated = -interval
    assert -negated == interval
    if member <= 0:
        return
    result, value = interval.log(), math.log(member)
    assert result.low <= value <= result.high
    if result.positive:
        assert member > 1


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@st.composite
def floats(draw: st.DrawFn) -> tuple[Interval, float]:
    low, value, high = sorted(draw(st.tuples(finite, finite, finite)))
    return Interval(low, high), value


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from("+-*/"), floats(), floats())
@example("/", (Interval.point(5.0), 5.0), (Interval.point(49.0), 49.0))
@example("/", (Interval.point(1e300), 1e300), (Interval.point(1e-300), 1e-300))
def test_operations_hold_what_floats_compute(
    operator: str, left: tuple[Interval, float], right: tuple[Interval, float]
) -> None:
    (a, x), (b, y) = left, right
    if operator == "/" and y == 0:
        return
    value = FLOAT[operator](x, y)
    result = OPERATORS[operator](a, b)
    if math.isinf(value):
        return  # too large for a float: not a number that a spec can mean
    assert value in result, (result, value)
    assert value > 0 or not result.positive


@settings(max_examples=500, deadline=None)
@given(st.sampled_from("+-"), st.tuples(floats(), st.booleans()), floats())
def test_a_sum_is_never_wrongly_positive(
    operator: str, left: tuple[tuple[Interval, float], bool], right: tuple[Interval, float]
) -> None:
    ((a, x), is_open), (b, y) = left, right
    a = Interval(a.low, a.high, is_open, is_open)
    if x in a and OPERATORS[operator](a, b).positive:
        assert EXACT[operator](Fraction(x), Fraction(y)) > 0


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        (Interval(0, 1, True, True), "+", Interval(0, 1), Interval(0, 2, True, True)),
        (Interval(1, 2), "-", Interval(0, 1, True, True), Interval(0, 2, True, True)),
        (
            Interval(0, 1, True, True),
            "*",
            Interval(1, INF, False, True),
            Interval(0, INF, True, True),
        ),
        # 0 is reached on the left, whatever the right is.
        (Interval(0, 1), "*", Interval(1, 2, True, True), Interval(0, 2, False, True)),
        (Interval(-1, 2), "*", Interval(-3, 1), Interval(-6, 3)),
        (Interval.point(0.0), "*", Interval.everything(), Interval.point(0.0)),
        (Interval(1, 2), "/", Interval(2, 4, True, False), Interval(0.25, 1, False, True)),
        (Interval(1, 2), "/", Interval(0, 4, True, False), Interval(0.25, INF, False, True)),
        (Interval(1, 2), "/", Interval(-4, 0, False, True), Interval(-INF, -0.25, True, False)),
        (Interval(1, 2), "/", Interval(1, INF, False, True), Interval(0, 2, True, False)),
        (Interval(1, 2), "/", Interval(0, 4), Interval.everything()),
        # Only an overflow, or the word `inf`, is infinite itself: then the quotient is 0.
        (Interval(0, 1, True, True), "/", Interval.point(INF), Interval.point(0)),
        (Interval(1, 2), "/", Interval(-1, 4), Interval.everything()),
    ],
)
def test_hand_computed(left: Interval, operator: str, right: Interval, result: Interval) -> None:
    assert OPERATORS[operator](left, right) == result


def test_positive_needs_every_member_above_zero() -> None:
    assert Interval(0, 1, True, False).positive
    assert Interval(1e-300, 1).positive
    assert not Interval(0, 1).positive
    assert not Interval(-1, 1).positive
    assert not Interval.everything().positive
    # (1 - a) for a in (0, 1) is; for a in (0, 1] it is not.
    assert (Interval.point(1) - Interval(0, 1, True, True)).positive
    assert not (Interval.point(1) - Interval(0, 1, True, False)).positive


def test_empty_and_members() -> None:
    assert Interval(1, 0).empty
    assert Interval(1, 1, True, False).empty
    assert Interval(1, 1, False, True).empty
    assert not Interval.point(1).empty
    assert 0.5 in Interval(0, 1)
    assert 0 not in Interval(0, 1, True)
    assert 1 not in Interval(0, 1, False, True)
    assert math.nan not in Interval.everything()


def test_logarithm_ends() -> None:
    assert Interval(0, 1, True, False).log() == Interval(-INF, 0, True, False)
    assert Interval(1, INF, True, True).log() == Interval(0, INF, True, True)
    assert Interval(1, 2, True, True).log().positive
    assert not Interval(1, 2).log().positive
    assert Interval(-1, 1).log().low == -INF


def test_text() -> None:
    assert str(Interval(0, 1, True, False)) == "(0, 1]"
    assert str(Interval.everything()) == "(-inf, inf)"
