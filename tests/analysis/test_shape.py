"""Rational functions and the shapes of gates against sympy and plain formulas."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import sympy  # type: ignore[import-untyped]

from fibc.analysis.proofs.rational import K, Rational
from fibc.analysis.proofs.shape import Shape, shape
from fibc.gates.builtin import builtin_gates
from fibc.gates.rule import GateRule
from fibc.ir.interval import Interval, Real
from fibdsl.diagnostics.errors import InternalError
from tests.analysis.checks import value_of_gate

k = sympy.Symbol("k", positive=True)
C, a = sympy.symbols("C a", positive=True)


def as_sympy(value: Rational) -> Any:
    numerator = sum(
        (sympy.Rational(c.numerator, c.denominator) * k**n for n, c in enumerate(value.numerator)),
        sympy.Integer(0),
    )
    denominator = sum(
        sympy.Rational(c.numerator, c.denominator) * k**n for n, c in enumerate(value.denominator)
    )
    return numerator / denominator


def random_pair(rng: random.Random, depth: int = 4) -> tuple[Rational, Any]:
    """The same expression in k twice."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.5:
            return K, k
        number = Fraction(rng.randint(-6, 6), rng.randint(1, 5))
        return Rational.of(number), sympy.Rational(number.numerator, number.denominator)
    (p, x), (q, y) = random_pair(rng, depth - 1), random_pair(rng, depth - 1)
    match rng.choice("+-*/n"):
        case "+":
            return p + q, x + y
        case "-":
            return p - q, x - y
        case "*":
            return p * q, x * y
        case "/" if sympy.simplify(y) != 0:
            return p / q, x / y
    return -p, -x


def below(end: Real, value: Fraction) -> bool:
    return math.isinf(end) or Fraction(end) <= value


# --- rational functions -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_arithmetic_is_that_of_sympy(seed: int) -> None:
    value, expected = random_pair(random.Random(seed))
    assert sympy.simplify(as_sympy(value) - expected) == 0


@pytest.mark.parametrize("seed", range(60))
def test_a_constant_is_known_as_one(seed: int) -> None:
    value, expected = random_pair(random.Random(seed))
    simple = sympy.simplify(expected)
    constant = None if simple.has(k) else Fraction(int(simple.p), int(simple.q))
    assert value.constant == constant


def test_numbers_on_either_side() -> None:
    half = Fraction(1, 2)
    assert sympy.simplify(as_sympy(half + K) - (k + sympy.Rational(1, 2))) == 0
    assert sympy.simplify(as_sympy(half - K) - (sympy.Rational(1, 2) - k)) == 0
    assert sympy.simplify(as_sympy(half * K) - k / 2) == 0
    assert sympy.simplify(as_sympy(half / K) - 1 / (2 * k)) == 0
    assert ((K * K - 1) / (K - 1) - K).constant == 1
    assert (K - K).constant == 0


@pytest.mark.parametrize("seed", range(60))
def test_enclosures_hold_all_values(seed: int) -> None:
    rng = random.Random(seed)
    value, expected = random_pair(rng)
    low = Fraction(rng.randint(1, 40), 10)
    high: Fraction = low + Fraction(rng.randint(0, 60), 10)
    found = value.at(Interval(low, high))
    for step in range(11):
        point = low + (high - low) * step / 10
        at = expected.subs(k, sympy.Rational(point.numerator, point.denominator))
        if at.is_finite:
            exact = Fraction(int(at.p), int(at.q))
            assert below(found.low, exact)
            assert below(-found.high, -exact)
            same = value.at(Interval.point(point))
            assert Fraction(same.low) == exact
            assert Fraction(same.high) == exact


def test_an_enclosure_of_one_over_k_is_exact() -> None:
    found = ((K + 1) / K).at(Interval(Fraction(2), Fraction(5)))
    assert (found.low, found.high) == (Fraction(6, 5), Fraction(3, 2))
    unbounded = ((K + 1) / K).at(Interval(Fraction(1), float("inf"), False, True))
    assert (unbounded.low, unbounded.high) == (1, 2)
    assert unbounded.low_open


# --- gates --------------------------------------------------------------------------------------

# regime: slope, intercept and end for a budget of 1, as the documentation prints them.
PRINTED: dict[str, list[tuple[str, Any, Any, Any]]] = {
    "rollback": [("pass", 1, 0, 1), ("rollback", -k, k + 1, 1 + 1 / k), ("zeroed", 0, 0, None)],
    "clip": [("pass", 1, 0, 1), ("clipped", 0, 1, None)],
    "censor": [("pass", 1, 0, 1), ("clipped", 0, 1, None)],
    "pass": [("pass", 1, 0, None)],
    "drop": [("dropped", 0, 0, None)],
}


def test_every_gate_is_in_these_tests() -> None:
    assert PRINTED.keys() == builtin_gates().keys()


@pytest.mark.parametrize("name", builtin_gates())
def test_the_pieces_of_a_gate(name: str) -> None:
    found = shape(builtin_gates()[name])
    assert [p.regime for p in found.pieces] == [regime for regime, *_ in PRINTED[name]]
    for piece, (_, slope, intercept, until) in zip(found.pieces, PRINTED[name], strict=True):
        assert sympy.simplify(as_sympy(piece.slope) - slope) == 0
        assert sympy.simplify(as_sympy(piece.intercept) - intercept) == 0
        assert (piece.until is None) == (until is None)
        if piece.until is not None:
            assert sympy.simplify(as_sympy(piece.until) - until) == 0


@pytest.mark.parametrize("name", builtin_gates())
def test_a_gate_is_its_shape_times_the_budget(name: str) -> None:
    """g(a; C, k) = C g(a / C; 1, k), identically in a, C and k."""
    for rule, piece in zip(
        builtin_gates()[name].pieces, shape(builtin_gates()[name]).pieces, strict=True
    ):
        value = rule.intercept(C, k) + rule.slope(C, k) * a
        scaled = C * (as_sympy(piece.intercept) + as_sympy(piece.slope) * a / C)
        assert sympy.simplify(value - scaled) == 0
        if rule.until is not None:
            assert piece.until is not None
            assert sympy.simplify(rule.until(C, k) - C * as_sympy(piece.until)) == 0


@pytest.mark.parametrize("name", builtin_gates())
def test_a_gate_is_continuous(name: str) -> None:
    """By sympy, for every C and k; and so says the shape."""
    pieces = builtin_gates()[name].pieces
    assert pieces[0].intercept(C, k) == 0
    for before, after in itertools.pairwise(pieces):
        assert before.until is not None
        end = before.until(C, k)
        jump = after.intercept(C, k) + after.slope(C, k) * end
        jump -= before.intercept(C, k) + before.slope(C, k) * end
        assert sympy.simplify(jump) == 0
    assert shape(builtin_gates()[name]).jumps == ()


@pytest.mark.parametrize(
    ("name", "identity_at_zero", "identity", "zero", "clips"),
    [
        ("rollback", True, False, False, False),
        ("clip", True, False, False, True),
        ("censor", True, False, False, True),
        ("pass", True, True, False, False),
        ("drop", False, False, True, False),
    ],
)
def test_what_a_gate_is(
    name: str, identity_at_zero: bool, identity: bool, zero: bool, clips: bool
) -> None:
    found = shape(builtin_gates()[name])
    properties = found.identity_at_zero, found.identity, found.zero, found.clips
    assert properties == (identity_at_zero, identity, zero, clips)


def changed(name: str, index: int, **changes: Any) -> GateRule:
    pieces = list(builtin_gates()[name].pieces)
    pieces[index] = replace(pieces[index], **changes)
    return replace(builtin_gates()[name], pieces=tuple(pieces))


def test_jumps_are_found_and_measured() -> None:
    higher = changed("clip", 1, intercept=lambda C, k: C * Fraction(11, 10))
    [(before, after, jump)] = shape(higher).jumps
    assert (before, after, jump.constant) == ("pass", "clipped", Fraction(1, 10))
    flat = changed("rollback", 1, slope=lambda C, k: 0, intercept=lambda C, k: C)
    [(before, after, jump)] = shape(flat).jumps
    assert (before, after, jump.constant) == ("rollback", "zeroed", Fraction(-1))
    steeper = changed("rollback", 1, slope=lambda C, k: -2 * k)
    jumps = [sympy.simplify(as_sympy(jump)) for *_, jump in shape(steeper).jumps]
    # k + 1 - 2 k at 1 instead of 1; (k + 1) - 2 k (1 + 1/k) = -(k + 1) at the end instead of 0.
    assert [sympy.simplify(j - e) for j, e in zip(jumps, (-k, k + 1), strict=True)] == [0, 0]
    raised = changed("pass", 0, intercept=lambda C, k: C)
    [(_, _, jump)] = shape(raised).jumps
    assert jump.constant == 2  # from -C to C at 0


def test_a_formula_that_does_not_scale_is_refused() -> None:
    with pytest.raises(InternalError, match="clip: a formula is not of degree 0 in C"):
        shape(changed("clip", 0, slope=lambda C, k: C))
    with pytest.raises(InternalError, match="clip: a formula is not of degree 1 in C"):
        shape(changed("clip", 1, intercept=lambda C, k: C * C))


def exact_range(
    name: str, budget: Fraction, steepness: Fraction, far: Fraction
) -> tuple[Fraction, Fraction]:
    """The hull of a piecewise-linear gate on [0, far]: its values at the ends of its pieces."""
    ends = {Fraction(0), far, budget, (1 + 1 / steepness) * budget}
    numbers = [_exact(name, end, budget, steepness) for end in ends if end <= far]
    return min(numbers), max(numbers)


def _exact(name: str, x: Fraction, budget: Fraction, steepness: Fraction) -> Fraction:
    match name:
        case "pass":
            return x
        case "drop":
            return Fraction(0)
        case "rollback" if x > budget:
            return max(Fraction(0), (steepness + 1) * budget - steepness * x)
        case _:
            return min(x, budget)


@pytest.mark.parametrize("name", builtin_gates())
def test_the_range_of_a_gate_is_exact_at_a_point(name: str) -> None:
    rng = random.Random(name)
    for _ in range(200):
        budget, steepness = Fraction(rng.randint(1, 30), 10), Fraction(rng.randint(1, 40), 8)
        far = Fraction(rng.randint(1, 80), 10)
        found = shape(builtin_gates()[name]).range(
            Interval.point(budget), Interval.point(steepness), Interval(Fraction(0), far)
        )
        expected = exact_range(name, budget, steepness, far)
        assert Fraction(found.low) == expected[0]
        assert Fraction(found.high) == expected[1]


@pytest.mark.parametrize("name", [n for n in builtin_gates() if n != "censor"])
def test_the_range_of_a_gate_holds_all_values(name: str) -> None:
    rng = random.Random(name)
    for _ in range(100):
        low, steep = Fraction(rng.randint(0, 30), 10), Fraction(rng.randint(1, 40), 8)
        budgets = Interval(low, low + Fraction(rng.randint(1, 20), 10), low_open=True)
        steepnesses = Interval(steep, steep + rng.randint(0, 9))
        far: Real = Fraction(rng.randint(1, 80), 10) if rng.random() < 0.5 else math.inf
        found = shape(builtin_gates()[name]).range(budgets, steepnesses, Interval(Fraction(0), far))
        for _ in range(20):
            budget = rng.uniform(float(budgets.low) + 1e-6, float(budgets.high))
            at = rng.uniform(float(steepnesses.low), float(steepnesses.high))
            value = value_of_gate(name, rng.uniform(0.0, min(float(far), 20.0)), budget, at)
            assert float(found.low) - 1e-9 <= value <= float(found.high) + 1e-9


def test_pieces_that_no_magnitude_reaches_are_left_out() -> None:
    def reached(name: str, far: Fraction | float, far_open: bool = False) -> list[str]:
        point = Interval.point(Fraction(1, 5)), Interval.point(Fraction(4))
        parts = shape(builtin_gates()[name]).parts(
            *point, Interval(Fraction(0), far, False, far_open)
        )
        return [part.piece.regime for part in parts]

    # C = 0.2, zero from 0.25.
    assert reached("rollback", Fraction(1, 10)) == ["pass"]
    assert reached("rollback", Fraction(1, 5)) == ["pass"]
    assert reached("rollback", Fraction(6, 25)) == ["pass", "rollback"]
    assert reached("rollback", Fraction(1)) == ["pass", "rollback", "zeroed"]
    assert reached("clip", float("inf"), True) == ["pass", "clipped"]


def test_shapes_know_a_rule_by_its_pieces_and_not_by_its_name() -> None:
    wide: Shape = shape(changed("clip", 1, slope=lambda C, k: 1, intercept=lambda C, k: 0))
    assert wide.jumps == ()
    assert wide != shape(builtin_gates()["clip"])
