"""Enclosures of random expressions hold what the expressions come to, and what has no doubts has a
value: intervals with open and infinite ends, cases, inputs that stand more than once."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from fibc.analysis.proofs.enclosure import doubts, enclosure
from fibc.ir.expression import Call, Const, Expr, Input, Param, show
from fibc.ir.functions import value
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified

INPUTS = 3
NAMES = ["a", "b", "c"]
PARAMS = {"p": Interval(0.5, 2.0), "q": Interval(-1.0, 1.0, True, True)}

Draw = Callable[[], Expr]


class Expressions:
    """Random ones, of any functions of the table."""

    def __init__(self, rng: random.Random, inputs: int = INPUTS) -> None:
        self.rng = rng
        self.inputs = inputs

    def leaf(self) -> Expr:
        options: list[Draw] = [
            lambda: Input(self.rng.randrange(self.inputs)),
            lambda: Input(self.rng.randrange(self.inputs)),
            lambda: Const(round(self.rng.uniform(-2, 2), 1)),
            lambda: Param(self.rng.choice(["p", "q"])),
        ]
        return self.rng.choice(options)()

    def expr(self, depth: int) -> Expr:
        if depth == 0 or self.rng.random() < 0.1:
            return self.leaf()
        pick, E = self.rng.choice, partial(self.expr, depth - 1)
        options: list[Draw] = [
            lambda: Call(pick(["+", "-", "*", "min", "max"]), (E(), E())),
            lambda: Call(pick(["+", "-", "*", "min", "max"]), (E(), E())),
            lambda: Call("/", (E(), E())),
            lambda: Call("/", (E(), Call("+", (Const(1.0), Call("abs", (E(),)))))),
            lambda: Call("where", (self.condition(depth - 1), E(), E())),
            lambda: Call("where", (self.condition(depth - 1), E(), E())),
            lambda: Call(pick(["abs", "sign", "tanh", "sigmoid", "stopgrad"]), (E(),)),
            lambda: Call(pick(["exp", "expm1", "k3"]), (Call("min", (E(), Const(3.0))),)),
            lambda: Call(pick(["log", "sqrt"]), (E(),)),
            lambda: Call(pick(["log", "sqrt"]), (Call("exp", (Call("tanh", (E(),)),)),)),
            lambda: Call("clip", (E(), Const(-0.5), Const(1.0))),
            self.square,
        ]
        return pick(options)()

    def square(self) -> Expr:
        inner = self.expr(1)
        return Call("*", (inner, inner))

    def condition(self, depth: int) -> Expr:
        if depth > 0 and self.rng.random() < 0.3:
            joined = self.rng.choice(["and", "or"])
            return Call(joined, (self.condition(depth - 1), self.condition(depth - 1)))
        # Those that narrow an input first: x, |x| and exp(x) compared with something.
        x = Input(self.rng.randrange(self.inputs))
        left = self.rng.choice([x, Call("abs", (x,)), Call("exp", (x,)), self.expr(1)])
        right = self.rng.choice([self.leaf(), self.expr(1), Call("abs", (self.leaf(),))])
        pair = (left, right) if self.rng.random() < 0.5 else (right, left)
        return Call(self.rng.choice(["<", "<="]), pair)


def random_interval(rng: random.Random) -> tuple[Interval, NDArray[np.float64]]:
    """An interval and members of it, the ends among them where they are not left out."""
    ends = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    low, high = sorted(rng.choice(ends) for _ in range(2))
    left = rng.random() < 0.3 and low < high
    right = rng.random() < 0.3 and low < high
    members = [] if left else [low]
    members += [] if right else [high]
    members += [low + (high - low) * rng.random() for _ in range(5) if low < high]
    members += [low + (high - low) * t for t in (1e-9, 1 - 1e-9) if low < high]
    low_end, high_end = low, high
    if rng.random() < 0.15:
        high_end, right = math.inf, True
        members += [high + 0.1, high + 9.0, high + 300.0]
    if rng.random() < 0.15:
        low_end, left = -math.inf, True
        members += [low - 0.1, low - 9.0, low - 300.0]
    return Interval(low_end, high_end, left, right).exactly(), np.array(members)


def values_of(
    expr: Expr, rng: random.Random, members: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """What it comes to at members of its inputs, for several parameters within their ranges."""
    grid = np.meshgrid(*members, indexing="ij")
    found = []
    for _ in range(3):
        params = {"p": rng.choice([0.5, 2.0, rng.uniform(0.5, 2)]), "q": rng.uniform(-0.999, 0.999)}
        with np.errstate(all="ignore"):
            found.append(np.broadcast_to(value(expr, params, grid), grid[0].shape).ravel())
    return np.concatenate(found).astype(np.float64)


def check(expr: Expr, rng: random.Random, inputs: int = INPUTS) -> bool:
    """Whether anything is said of the expression: of one with doubts nothing is, as no spec has
    one."""
    drawn = [random_interval(rng) for _ in range(inputs)]
    intervals = [interval for interval, _ in drawn]
    if list(doubts(expr, PARAMS, intervals)):
        return False
    found = enclosure(expr, PARAMS, intervals)
    values = values_of(expr, rng, [members for _, members in drawn])
    context = show(expr, NAMES), [str(i) for i in intervals], str(found)
    assert not np.isnan(values).any(), context
    real = values[np.isfinite(values)]
    # The rounding of each step, of values that cancel: relative to the largest there is.
    slack = 1e-9 * max(1.0, float(np.abs(real).max(initial=0.0)))
    assert (real >= float(found.low) - slack).all(), (context, real.min())
    assert (real <= float(found.high) + slack).all(), (context, real.max())
    if math.isfinite(found.low) and math.isfinite(found.high):
        assert not np.isinf(values).any(), context
    return True


@pytest.mark.parametrize("seed", range(12))
def test_random_expressions(seed: int) -> None:
    rng = random.Random(seed)
    drawn = [simplified(Expressions(rng).expr(rng.randint(1, 4))) for _ in range(60)]
    assert sum(check(expr, rng) for expr in drawn) >= 25


@pytest.mark.parametrize("seed", range(6))
def test_one_input_that_stands_many_times(seed: int) -> None:
    """Its range is cut in pieces, where that makes the enclosure narrower."""
    rng = random.Random(100 + seed)
    drawn = [simplified(Expressions(rng, 1).expr(rng.randint(2, 4))) for _ in range(25)]
    assert sum(check(expr, rng, 1) for expr in drawn) >= 10


# --- how narrow ---------------------------------------------------------------------------------

X = Input(0)
ZERO, HALF, ONE = Const(0.0), Const(0.5), Const(1.0)


def interval(low: float, high: float) -> Interval:
    return Interval(low, high, math.isinf(low), math.isinf(high)).exactly()


EVERYTHING = interval(-math.inf, math.inf)


def case(condition: Expr, yes: Expr, no: Expr) -> Expr:
    return Call("where", (condition, yes, no))


@pytest.mark.parametrize(
    ("expr", "given", "low", "high"),
    [
        # A clip in cases: in each the input is what the condition leaves of it.
        (
            case(Call("<=", (Call("abs", (X,)), ONE)), X, Call("sign", (X,))),
            EVERYTHING,
            -1.0,
            1.0,
        ),
        (case(Call("<", (X, ONE)), Call("max", (X, Const(-1.0))), ONE), EVERYTHING, -1.0, 1.0),
        # The other way round, and both at once.
        (case(Call("<=", (ONE, X)), ONE, case(Call("<=", (X, ZERO)), ZERO, X)), EVERYTHING, 0, 1),
        (
            case(
                Call("and", (Call("<=", (X, ONE)), Call("<=", (Const(-1.0), X)))),
                X,
                ZERO,
            ),
            EVERYTHING,
            -1.0,
            1.0,
        ),
        (
            case(Call("or", (Call("<", (ONE, X)), Call("<", (X, ZERO)))), HALF, X),
            EVERYTHING,
            0.0,
            1.0,
        ),
        (case(Call("<", (Call("exp", (X,)), ONE)), X, ZERO), EVERYTHING, -math.inf, 0.0),
        # x - x * x on [0, 1] is at most 1/4, which intervals alone do not see.
        (Call("-", (X, Call("*", (X, X)))), interval(0.0, 1.0), -0.01, 0.26),
        (Call("*", (X, Call("-", (ONE, X)))), interval(0.0, 1.0), -0.01, 0.26),
        (Call("*", (X, X)), interval(-2.0, 1.0), 0.0, 4.0),
        (Call("-", (X, Call("stopgrad", (X,)))), EVERYTHING, 0.0, 0.0),
    ],
)
def test_enclosures_are_narrow(expr: Expr, given: Interval, low: float, high: float) -> None:
    found = enclosure(expr, {}, [given])
    assert low <= found.low
    assert found.high <= high


def test_what_a_case_excludes_is_no_doubt() -> None:
    log = Call("log", (X,))
    assert [f for f, *_ in doubts(log, {}, [EVERYTHING])] == ["log"]
    guarded = case(Call("<", (ZERO, X)), log, ZERO)
    assert not list(doubts(guarded, {}, [EVERYTHING]))
    # At 0 there is no logarithm, so this guard is not enough.
    assert list(doubts(case(Call("<=", (ZERO, X)), log, ZERO), {}, [EVERYTHING]))
    other = case(Call("<=", (X, ZERO)), ZERO, Call("/", (ONE, X)))
    assert not list(doubts(other, {}, [EVERYTHING]))


def test_a_square_can_be_zero() -> None:
    """Even of an input whose infinite ends are left out: its root has no derivative there."""
    square = enclosure(Call("*", (X, X)), {}, [EVERYTHING])
    assert 0 in square
    assert [f for f, *_ in doubts(Call("sqrt", (Call("*", (X, X)),)), {}, [EVERYTHING])] == ["sqrt"]
    away = Interval(Fraction(0), Fraction(2), True, False)
    assert 0 not in enclosure(Call("*", (X, X)), {}, [away])


def test_a_function_of_a_difference() -> None:
    """k3 of two inputs is one of their difference, and never below 0."""
    d = Call("-", (X, Input(1)))
    k3 = Call("-", (Call("k3", (d,)), Call("*", (Const(0.1), Call("tanh", (d,))))))
    found = enclosure(k3, {}, [EVERYTHING, EVERYTHING])
    assert -0.11 < found.low <= 0
    # Not where one of the two stands elsewhere too.
    assert enclosure(Call("+", (k3, X)), {}, [EVERYTHING, EVERYTHING]).low == -math.inf


def test_numbers_are_computed_in_cases_that_never_hold() -> None:
    never = Call("<", (Call("abs", (X,)), ZERO))
    for bad in (Call("/", (X, Const(0.0))), Call("log", (Const(-1.0),))):
        assert [f for f, *_ in doubts(case(never, bad, X), {}, [EVERYTHING])] == [bad.function]
    assert not list(doubts(case(never, Call("log", (X,)), X), {}, [EVERYTHING]))


@pytest.mark.parametrize("pair", list(itertools.product([True, False], repeat=2)))
def test_ends_that_are_left_out_stay_out(pair: tuple[bool, bool]) -> None:
    given = Interval(Fraction(-1), Fraction(1), *pair)
    found = enclosure(Call("*", (Const(2.0), X)), {}, [given])
    assert (found.low, found.high) == (-2, 2)
    assert (found.low_open, found.high_open) == pair
