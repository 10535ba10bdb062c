"""Each function of the table alone: value, derivative, range, and what it is in torch."""

from __future__ import annotations

import ast
import itertools
import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from fibc.emit.expressions import torch_expression
from fibc.ir.expression import Call, Const, Expr, Input
from fibc.ir.functions import FUNCTIONS, derivative, value
from fibc.ir.interval import Interval
from fibdsl.runtime import numerics

INF, NAN = math.inf, math.nan
CAP = math.exp(709.0)

# What each means, in plain Python.
MEANING: dict[str, Callable[..., float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "min": min,
    "max": max,
    "clip": lambda x, low, high: min(max(x, low), high),
    "abs": abs,
    "sign": lambda x: -1.0 if x < 0 else 1.0,
    "exp": lambda x: math.exp(min(x, 709.0)),
    "expm1": lambda x: math.expm1(min(x, 709.0)),
    "k3": lambda x: math.expm1(min(x, 709.0)) - min(x, 709.0),
    "log": math.log,
    "sigmoid": lambda x: math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "sqrt": math.sqrt,
    "stopgrad": lambda x: x,
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    "and": lambda a, b: float(a and b),
    "or": lambda a, b: float(a or b),
    "where": lambda c, a, b: a if c else b,
}
POSITIVE = {"log", "sqrt"}
TRUTHS = {"and": 2, "or": 2, "where": 1}
"""How many of the first arguments are conditions."""

NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.3, -0.7, 2.5, -4.0, 30.0, 1e-9, -1e-9, 700.0, -700.0)


def arguments(name: str) -> Iterator[tuple[float, ...]]:
    """Points where the function has a value."""
    rng = random.Random(name)
    pools: list[list[float]] = []
    for position in range(FUNCTIONS[name].arity):
        pool = [*NUMBERS, *(rng.uniform(-5, 5) for _ in range(8))]
        if position < TRUTHS.get(name, 0):
            pool = [0.0, 1.0]
        elif name in POSITIVE or (name == "/" and position == 1):
            pool = [abs(x) for x in pool if x]
        pools.append(pool)
    for point in itertools.product(*pools):
        if name != "clip" or point[2] - point[1] > 1e-3:
            yield point


def call(name: str) -> Expr:
    return Call(name, tuple(Input(i) for i in range(FUNCTIONS[name].arity)))


def as_arrays(name: str) -> tuple[list[Any], list[tuple[float, ...]]]:
    points = list(arguments(name))
    columns = [np.array(column) for column in zip(*points, strict=True)]
    for position in range(TRUTHS.get(name, 0)):
        columns[position] = columns[position].astype(bool)
    return columns, points


def test_the_table_has_nothing_else() -> None:
    assert set(FUNCTIONS) == set(MEANING)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str) -> None:
    columns, points = as_arrays(name)
    expected = [MEANING[name](*point) for point in points]
    found = np.asarray(value(call(name), {}, columns), np.float64)
    np.testing.assert_allclose(found, expected, rtol=4e-16, atol=0)
    # One by one, without numpy: what checking a spec does.
    for point, one in zip(points[::7], expected[::7], strict=True):
        given = [bool(x) if i < TRUTHS.get(name, 0) else x for i, x in enumerate(point)]
        assert float(value(call(name), {}, given)) == pytest.approx(one, rel=4e-16)


# --- derivatives --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if FUNCTIONS[n].slopes])
def test_derivatives_are_differences(name: str) -> None:
    first = TRUTHS.get(name, 0)
    compared = 0
    for point in arguments(name):
        if max(map(abs, point)) > 50:
            continue
        for position in range(first, len(point)):
            if name == "stopgrad":
                expected, apart = 0.0, 0.0
            else:
                h = 1e-6 * max(1.0, abs(point[position]))
                if (name in POSITIVE or name == "/") and point[position] <= 2 * h:
                    continue
                here = MEANING[name](*point)
                moved = [
                    MEANING[name](*point[:position], point[position] + s, *point[position + 1 :])
                    for s in (h, -h)
                ]
                right, left = (moved[0] - here) / h, (here - moved[1]) / h
                expected, apart = (right + left) / 2, abs(right - left)
            if apart > 1e-3 * max(1.0, abs(expected)):
                continue  # a kink; see below
            slope = derivative(call(name), position)
            given = [bool(x) if i < first else x for i, x in enumerate(point)]
            found = float(value(slope, {}, given))
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), (point, position)
            compared += 1
    assert compared >= 10


AT_SPECIAL_POINTS = [
    # Zero is positive; what is at a bound passes; of equal ones the first counts.
    ("abs", (0.0,), (1.0,)),
    ("abs", (-0.0,), (1.0,)),
    ("sign", (0.0,), (0.0,)),
    ("min", (2.0, 2.0), (1.0, 0.0)),
    ("max", (2.0, 2.0), (1.0, 0.0)),
    ("min", (0.0, -0.0), (1.0, 0.0)),
    ("clip", (1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),
    ("clip", (-1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),
    ("clip", (2.0, -1.0, 1.0), (0.0, 0.0, 1.0)),
    ("clip", (-2.0, -1.0, 1.0), (0.0, 1.0, 0.0)),
    ("clip", (1.0, 1.0, 1.0), (1.0, 0.0, 0.0)),
    ("min", (3.0, INF), (1.0, 0.0)),
    ("max", (3.0, -INF), (1.0, 0.0)),
    ("clip", (3.0, -INF, INF), (1.0, 0.0, 0.0)),
    # Exponentials saturate: beyond, they are constant.
    ("exp", (709.0,), (CAP,)),
    ("exp", (709.5,), (0.0,)),
    ("exp", (INF,), (0.0,)),
    ("expm1", (1e6,), (0.0,)),
    ("k3", (1e6,), (0.0,)),
    ("k3", (0.0,), (0.0,)),
    ("k3", (1e-9,), (math.expm1(1e-9),)),
    ("exp", (-INF,), (0.0,)),
    ("sigmoid", (800.0,), (0.0,)),
    ("sigmoid", (-800.0,), (0.0,)),
    ("tanh", (INF,), (0.0,)),
    ("stopgrad", (2.0,), (0.0,)),
]


@pytest.mark.parametrize(("name", "point", "slopes"), AT_SPECIAL_POINTS)
def test_slopes_at_special_points(
    name: str, point: tuple[float, ...], slopes: tuple[float, ...]
) -> None:
    for position, expected in enumerate(slopes):
        slope = derivative(call(name), position)
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            assert float(value(slope, {}, [np.array(x) for x in point])) == expected


@pytest.mark.parametrize(
    ("name", "point", "expected"),
    [
        ("sign", (0.0,), 1.0),
        ("sign", (-0.0,), 1.0),
        ("exp", (1e4,), CAP),
        ("expm1", (1e4,), math.expm1(709.0)),
        ("k3", (1e4,), math.expm1(709.0) - 709.0),
        ("sigmoid", (-1e4,), 0.0),
        ("sigmoid", (1e4,), 1.0),
        ("<", (0.0, -0.0), 0.0),
        ("<=", (0.0, -0.0), 1.0),
        ("min", (INF, 3.0), 3.0),
        ("abs", (NAN,), NAN),
        ("exp", (NAN,), NAN),
        ("sigmoid", (NAN,), NAN),
        ("tanh", (NAN,), NAN),
        ("min", (NAN, 1.0), NAN),
        ("max", (NAN, 1.0), NAN),
        ("clip", (NAN, -1.0, 1.0), NAN),
    ],
)
def test_special_values(name: str, point: tuple[float, ...], expected: float) -> None:
    with np.errstate(over="raise", divide="raise"):
        found = value(call(name), {}, [np.array(x) for x in point])
    assert float(found) == expected or (math.isnan(expected) and math.isnan(float(found)))


def test_no_slope_of_a_case_that_is_not_taken() -> None:
    """0 times an infinite slope would be NaN."""
    x = Input(0)
    expr = Call("where", (Call("<", (Const(0.0), x)), Call("sqrt", (x,)), Const(0.0)))
    slope = derivative(expr, 0)
    with np.errstate(all="ignore"):
        found = value(slope, {}, [np.array([0.0, 4.0, -1.0])])
    assert found.tolist() == [0.0, 0.25, 0.0]


# --- torch --------------------------------------------------------------------------------------


def in_torch(expr: Expr, given: list[torch.Tensor]) -> torch.Tensor:
    names: list[ast.expr] = [ast.Name(f"v{i}", ast.Load()) for i in range(len(given))]
    text = ast.unparse(ast.fix_missing_locations(torch_expression(expr, names, _no_param)))
    scope = {"torch": torch, "math": math, **vars(numerics)}
    scope |= {f"v{i}": tensor for i, tensor in enumerate(given)}
    scope["params"] = torch.zeros(1, dtype=given[-1].dtype)
    found = eval(text, scope)
    assert isinstance(found, torch.Tensor)
    return found


def _no_param(name: str) -> ast.expr:
    raise AssertionError(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_computes_the_same(name: str) -> None:
    columns, _ = as_arrays(name)
    tensors = [torch.from_numpy(column) for column in columns]
    expressions = [call(name)]
    if FUNCTIONS[name].slopes:
        expressions += [derivative(call(name), i) for i in range(TRUTHS.get(name, 0), len(columns))]
    for expr in expressions:
        with np.errstate(all="ignore"):
            expected = np.broadcast_to(value(expr, {}, columns), columns[0].shape)
        found = in_torch(expr, tensors)
        assert found.dtype in (torch.float64, torch.bool)
        np.testing.assert_allclose(found.double(), expected.astype(float), rtol=2e-15, atol=4e-16)


# --- ranges -------------------------------------------------------------------------------------

EXACT = {"+", "-", "*", "/", "min", "max", "clip", "abs", "sign", "stopgrad", "<", "<=", "where"}
"""Functions of which fractions have fractions: openness of ends is tested too."""


def random_interval(rng: random.Random, positive: bool = False) -> tuple[Interval, list[Fraction]]:
    """An interval with small or infinite ends, and members of it, those at the ends first."""
    ends = [Fraction(n, 2) for n in range(-5, 6)]
    low, high = sorted(rng.choice(ends) for _ in range(2))
    left, right = rng.random() < 0.3, rng.random() < 0.3
    if low == high:
        left = right = False
    members = [low] * (not left) + [high] * (not right)
    inner = (1, 3, 499, 500, 501, 997, 999)
    members += [low + (high - low) * Fraction(n, 1000) for n in inner if low < high]
    found = Interval(low, high, left, right)
    if rng.random() < 0.15:
        found = Interval(found.low, INF, found.low_open, True)
        members += [high + Fraction(1, 3), high + 40, high + 1000]
    if rng.random() < 0.15:
        found = Interval(-INF, found.high, True, found.high_open)
        members += [low - Fraction(1, 3), low - 40, low - 1000]
    if positive and not found.positive:
        shift = Fraction(1, 4) - min(members) if not math.isinf(found.low) else None
        if shift is None:
            return Interval(Fraction(1, 4), Fraction(3)), [Fraction(1, 4), Fraction(2), Fraction(3)]
        found = Interval(found.low + shift, found.high + shift, found.low_open, found.high_open)
        members = [m + shift for m in members]
        found = (
            found if found.positive else Interval(Fraction(1, 8), found.high, True, found.high_open)
        )
    return found, members


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ranges_hold_all_values(name: str) -> None:
    rng = random.Random(name)
    function = FUNCTIONS[name]
    for _ in range(150):
        drawn = []
        for position in range(function.arity):
            if position < TRUTHS.get(name, 0):
                truth = rng.choice([[0], [1], [0, 1]])
                members = [Fraction(t) for t in truth]
                drawn.append((Interval(members[0], members[-1]), members))
            else:
                drawn.append(random_interval(rng, name == "log" or (name == "/" and position == 1)))
        if name == "sqrt":
            drawn = [(i, [m for m in members if m >= 0]) for i, members in drawn]
        found = function.range(*(interval for interval, _ in drawn))
        for point in itertools.product(*(rng.sample(m, min(5, len(m))) for _, m in drawn)):
            if name in EXACT:
                assert Fraction(MEANING[name](*point)) in found, (drawn, point, found)
            else:
                one = MEANING[name](*map(float, point))
                assert inside(one, found), (drawn, point, found)


def test_a_root_of_0_is_0() -> None:
    """An end that is left out below 0 says nothing about 0."""
    root = FUNCTIONS["sqrt"].range(Interval(Fraction(-1), Fraction(4), True, True))
    assert Fraction(0) in root
    assert not root.positive
    assert FUNCTIONS["sqrt"].range(Interval(Fraction(0), Fraction(4), True, True)).positive


def inside(value: float, interval: Interval, rounding: float = 4e-16) -> bool:
    """Whether it is, but for the rounding of the value itself."""
    slack = rounding * abs(value) + 1e-300
    return float(interval.low) - slack <= value <= float(interval.high) + slack


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if FUNCTIONS[n].slopes and n != "where"])
def test_nan_stays(name: str) -> None:
    """In the reference and in generated code, whichever argument it is, beside tensors and
    numbers."""
    arity = FUNCTIONS[name].arity
    for position in range(arity):
        point = [0.5, 0.25, 0.75][:arity]
        point[position] = math.nan
        assert np.isnan(value(call(name), {}, [np.array([x]) for x in point])).all()
        tensors = [torch.tensor([x], dtype=torch.float64) for x in point]
        assert in_torch(call(name), tensors).isnan().all()
        for number in set(range(arity)) - {position}:
            given: list[Expr] = [Input(i) for i in range(arity)]
            given[number] = Const(point[number])
            assert in_torch(Call(name, tuple(given)), tensors).isnan().all(), (point, number)
