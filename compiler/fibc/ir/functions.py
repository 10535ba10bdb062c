"""ONE table of the functions that expressions are made of: value, derivative, range, torch.

A function is added by adding a record here (and a test): the reference interpreter, the generated
code, its derivative and the proofs all read it.

At special points the conventions are those of docs/semantics.md: zero counts as positive, and what
is at a bound still passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from fibc.ir.expression import Call, Const, Expr, Input, fold
from fibc.ir.interval import Interval, Real, hull

Slopes = Callable[..., tuple[Expr, ...]]
"""The derivative with respect to each argument, from the arguments."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of expressions.

    Attributes:
        arity: how many arguments it takes.
        value: in float64; its first argument is a library, numpy or `NUMBERS`. NaN stays NaN.
        torch: what it is called in generated code: an operator, a function of torch, or one of
            fibdsl/runtime/numerics.py.
        slopes: its derivatives; None where it has none, as of a comparison.
        range: an enclosure of its values, given those of its arguments.
    """

    name: str
    arity: int
    value: Callable[..., Any]
    torch: str
    slopes: Slopes | None
    range: Callable[..., Interval]


_ZERO, _ONE = Const(0.0), Const(1.0)
_TRUTH = Interval(Fraction(0), Fraction(1))
_REALS = Interval.everything()
_MINUS = Const(-1.0)

# As in fibdsl/runtime/numerics.py: an exponential saturates, so that 0 times it is 0.
LOG_MAX = 709.0
# Beyond it floats overflow, or lose the digits that the error of an exponential is counted in.
_LARGEST = Fraction(700)


def _call(function: str, *arguments: Expr) -> Expr:
    return Call(function, arguments)


# --- ranges -------------------------------------------------------------------------------------


def exp_end(value: Real, side: int) -> Real:
    """exp of an end, rounded outwards; 0 and infinity at the infinities."""
    if math.isinf(value):
        return Fraction(0) if value < 0 else math.inf
    if value == 0:
        return Fraction(1)
    if value > _LARGEST:
        return math.inf if side > 0 else exp_end(_LARGEST, side)
    if value < -_LARGEST:
        return exp_end(-_LARGEST, side) if side > 0 else Fraction(0)
    exp = math.exp(value)
    # The argument is rounded by half its last digit, math.exp by less than its last one.
    error = Fraction(exp) * (abs(Fraction(value)) + 2) * Fraction(2) ** -52
    return max(Fraction(exp) + side * error, Fraction(0))


def exp_range(x: Interval) -> Interval:
    low, high = exp_end(x.low, -1), exp_end(x.high, 1)
    # The 0 and the infinity of an exponential are approached and never reached.
    return Interval(low, high, low == 0, math.isinf(high))


def _k3_range(x: Interval) -> Interval:
    """exp(x) - 1 - x falls to 0 at 0 and rises from there."""

    def end(value: Real, side: int) -> Real:
        if math.isinf(value):
            return math.inf
        return max(exp_end(value, side) - 1 - Fraction(value), Fraction(0))

    ends = [(x.low, x.low_open), (x.high, x.high_open)]
    low, open_ = (0, False) if 0 in x else min((end(v, -1), o) for v, o in ends)
    high = max(end(v, 1) for v, _ in ends)
    return Interval(low, high, open_ and low > 0, math.isinf(high))


def _rising(function: Callable[[float], float], least: int, most: int) -> Callable[..., Interval]:
    """The range of a function that rises from `least` to `most`, within its rounding."""

    def end(value: Real, side: int) -> Real:
        if value == 0:
            return Fraction(function(0.0))
        if math.isinf(value):
            return Fraction(most if value > 0 else least)
        exact = Fraction(function(float(value))) + side * Fraction(2) ** -48
        return min(max(exact, Fraction(least)), Fraction(most))

    def of(x: Interval) -> Interval:
        low, high = end(x.low, -1), end(x.high, 1)
        return Interval(low, high, math.isinf(x.low), math.isinf(x.high))

    return of


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _sqrt_range(x: Interval) -> Interval:
    def end(value: Real, side: int) -> Real:
        if value <= 0:
            return Fraction(0)
        if math.isinf(value):
            return math.inf
        root = Fraction(math.sqrt(value))
        return max(root + side * root * Fraction(2) ** -50, Fraction(0))

    return Interval(end(x.low, -1), end(x.high, 1), x.low_open and x.low >= 0, x.high_open)


def _least_range(a: Interval, b: Interval) -> Interval:
    low, high = min(a.low, b.low), min(a.high, b.high)
    return Interval(low, high, _open(low, a, b, "low"), _open(high, a, b, "high"))


def _greatest_range(a: Interval, b: Interval) -> Interval:
    return -_least_range(-a, -b)


def _open(end: Real, a: Interval, b: Interval, side: str) -> bool:
    """Whether neither of two intervals that have this end reaches it."""
    return all(getattr(i, f"{side}_open") for i in (a, b) if getattr(i, side) == end)


def _clip_range(x: Interval, low: Interval, high: Interval) -> Interval:
    return _least_range(_greatest_range(x, low), high)


def _abs_range(x: Interval) -> Interval:
    if x.low >= 0:
        return x
    if x.high <= 0:
        return -x
    far = hull([Interval.point(Fraction(0)), replace(x, low=Fraction(0), low_open=False), -x])
    return Interval(Fraction(0), far.high, False, far.high_open)


def _sign_range(x: Interval) -> Interval:
    return Interval(
        Fraction(1 if x.low >= 0 else -1), Fraction(-1 if x.high < 0 or _below(x) else 1)
    )


def _below(x: Interval) -> bool:
    return x.high == 0 and x.high_open


def _log_range(x: Interval) -> Interval:
    return x.log()


def _compare_range(yes: Callable[[Interval, Interval], bool | None]) -> Callable[..., Interval]:
    def of(a: Interval, b: Interval) -> Interval:
        found = yes(a, b)
        return _TRUTH if found is None else Interval.point(Fraction(int(found)))

    return of


def _less(a: Interval, b: Interval) -> bool | None:
    if a.high < b.low or (a.high == b.low and (a.high_open or b.low_open)):
        return True
    return False if a.low >= b.high else None


def _at_most(a: Interval, b: Interval) -> bool | None:
    above = _less(b, a)
    return None if above is None else not above


def _and_range(a: Interval, b: Interval) -> Interval:
    return Interval(a.low * b.low, a.high * b.high)


def _or_range(a: Interval, b: Interval) -> Interval:
    return Interval(max(a.low, b.low), max(a.high, b.high))


def _where_range(condition: Interval, yes: Interval, no: Interval) -> Interval:
    if condition.low == 1:
        return yes
    return no if condition.high == 0 else hull([yes, no])


# --- values -------------------------------------------------------------------------------------


class NUMBERS:
    """What the values need of numpy, for plain numbers: checking a spec does without numpy."""

    exp, expm1, tanh = math.exp, math.expm1, math.tanh
    abs, minimum = abs, min

    # Of a case that is not taken anything may come, as from numpy.
    @staticmethod
    def log(x: float) -> float:
        return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan

    @staticmethod
    def sqrt(x: float) -> float:
        return math.sqrt(x) if x >= 0 else math.nan

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        return yes if condition else no

    @staticmethod
    def logical_and(a: bool, b: bool) -> bool:
        return bool(a) and bool(b)

    @staticmethod
    def logical_or(a: bool, b: bool) -> bool:
        return bool(a) or bool(b)


def _least(np: Any, a: Any, b: Any) -> Any:
    return np.where((b < a) | (b != b), b, a)


def _greatest(np: Any, a: Any, b: Any) -> Any:
    return np.where((b > a) | (b != b), b, a)


def _quotient(np: Any, a: Any, b: Any) -> Any:
    if np is NUMBERS and b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _clip(np: Any, x: Any, low: Any, high: Any) -> Any:
    return _least(np, _greatest(np, x, low), high)


def _excess(np: Any, x: Any) -> Any:
    """exp(x) - 1 - x, the KL estimator k3 of a log-ratio."""
    x = np.minimum(x, LOG_MAX)
    return np.expm1(x) - x


def _stable_sigmoid(np: Any, x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


# --- derivatives --------------------------------------------------------------------------------


def _exp_slopes(x: Expr) -> tuple[Expr, ...]:
    inside = _call("<=", x, Const(LOG_MAX))
    return (_call("where", inside, _call("exp", x), _ZERO),)


def _sigmoid_slopes(x: Expr) -> tuple[Expr, ...]:
    s = _call("sigmoid", x)
    return (_call("*", s, _call("-", _ONE, s)),)


def _tanh_slopes(x: Expr) -> tuple[Expr, ...]:
    t = _call("tanh", x)
    return (_call("-", _ONE, _call("*", t, t)),)


def _divide_slopes(a: Expr, b: Expr) -> tuple[Expr, ...]:
    return _call("/", _ONE, b), _call("*", _MINUS, _call("/", a, _call("*", b, b)))


def _clip_slopes(x: Expr, low: Expr, high: Expr) -> tuple[Expr, ...]:
    above, below = _call("<", high, x), _call("<", x, low)
    return (
        _call("where", above, _ZERO, _call("where", below, _ZERO, _ONE)),
        _call("where", above, _ZERO, _call("where", below, _ONE, _ZERO)),
        _call("where", above, _ONE, _ZERO),
    )


def _choice(condition: Expr) -> tuple[Expr, ...]:
    """The slopes of two things of which the second is taken where the condition holds."""
    return _call("where", condition, _ZERO, _ONE), _call("where", condition, _ONE, _ZERO)


def _where_slopes(condition: Expr, yes: Expr, no: Expr) -> tuple[Expr, ...]:
    return _ZERO, _call("where", condition, _ONE, _ZERO), _call("where", condition, _ZERO, _ONE)


FUNCTIONS: dict[str, Function] = {
    f.name: f
    for f in (
        Function(
            "+", 2, lambda np, a, b: a + b, "+", lambda a, b: (_ONE, _ONE), lambda a, b: a + b
        ),
        Function(
            "-", 2, lambda np, a, b: a - b, "-", lambda a, b: (_ONE, _MINUS), lambda a, b: a - b
        ),
        Function("*", 2, lambda np, a, b: a * b, "*", lambda a, b: (b, a), lambda a, b: a * b),
        Function("/", 2, _quotient, "/", _divide_slopes, lambda a, b: a / b),
        Function("min", 2, _least, "least", lambda a, b: _choice(_call("<", b, a)), _least_range),
        Function(
            "max", 2, _greatest, "greatest", lambda a, b: _choice(_call("<", a, b)), _greatest_range
        ),
        Function("clip", 3, _clip, "held", _clip_slopes, _clip_range),
        Function(
            "abs",
            1,
            lambda np, x: np.abs(x),
            "magnitude",
            lambda x: (_call("sign", x),),
            _abs_range,
        ),
        Function(
            "sign",
            1,
            lambda np, x: np.where(x < 0, -1.0, np.where(x >= 0, 1.0, x)),
            "direction",
            lambda x: (_ZERO,),
            _sign_range,
        ),
        Function(
            "exp",
            1,
            lambda np, x: np.exp(np.minimum(x, LOG_MAX)),
            "exp",
            _exp_slopes,
            exp_range,
        ),
        Function(
            "expm1",
            1,
            lambda np, x: np.expm1(np.minimum(x, LOG_MAX)),
            "expm1",
            _exp_slopes,
            lambda x: exp_range(x) - Interval.point(Fraction(1)),
        ),
        Function(
            "k3",
            1,
            _excess,
            "k3",
            lambda x: (_call("where", _call("<=", x, Const(LOG_MAX)), _call("expm1", x), _ZERO),),
            _k3_range,
        ),
        Function(
            "log",
            1,
            lambda np, x: np.log(x),
            "torch.log",
            lambda x: (_call("/", _ONE, x),),
            _log_range,
        ),
        Function(
            "sigmoid",
            1,
            _stable_sigmoid,
            "torch.sigmoid",
            _sigmoid_slopes,
            _rising(_sigmoid, 0, 1),
        ),
        Function(
            "tanh",
            1,
            lambda np, x: np.tanh(x),
            "torch.tanh",
            _tanh_slopes,
            _rising(math.tanh, -1, 1),
        ),
        Function(
            "sqrt",
            1,
            lambda np, x: np.sqrt(x),
            "torch.sqrt",
            lambda x: (_call("/", Const(0.5), _call("sqrt", x)),),
            _sqrt_range,
        ),
        Function("stopgrad", 1, lambda np, x: x, "", lambda x: (_ZERO,), lambda x: x),
        Function("<", 2, lambda np, a, b: a < b, "<", None, _compare_range(_less)),
        Function("<=", 2, lambda np, a, b: a <= b, "<=", None, _compare_range(_at_most)),
        Function("and", 2, lambda np, a, b: np.logical_and(a, b), "&", None, _and_range),
        Function("or", 2, lambda np, a, b: np.logical_or(a, b), "|", None, _or_range),
        Function(
            "where",
            3,
            lambda np, c, a, b: np.where(c, a, b),
            "torch.where",
            _where_slopes,
            _where_range,
        ),
    )
}


def value(expr: Expr, params: Mapping[str, float], inputs: Sequence[Any]) -> Any:
    """An expression in float64: `params` by name, `inputs` in order, numpy arrays or numbers."""
    if all(isinstance(given, int | float) for given in inputs):
        library: Any = NUMBERS
    else:
        import numpy as library
    return fold(
        expr,
        lambda name: params[name],
        lambda index: inputs[index],
        lambda constant: constant,
        lambda function, arguments: FUNCTIONS[function].value(library, *arguments),
    )


def derivative(expr: Expr, index: int) -> Expr:
    """d expr / d input, simplified; `Const(0)` where it is 0 everywhere."""
    match expr:
        case Call(function, arguments):
            slopes = FUNCTIONS[function].slopes
            if slopes is None:
                return _ZERO
            total: Expr = _ZERO
            outer: tuple[Expr, ...] | None = None
            for position, argument in enumerate(arguments):
                inner = derivative(argument, index)
                if inner == _ZERO:
                    continue
                outer = slopes(*arguments) if outer is None else outer
                total = plus(total, times(outer[position], inner))
            return total
        case _:
            return _ONE if expr == Input(index) else _ZERO


def times(a: Expr, b: Expr) -> Expr:
    if _ZERO in (a, b):
        return _ZERO
    if a == _ONE:
        return b
    if b == _ONE:
        return a
    # A choice between nothing and a slope stays one: 0 times an infinite slope would be NaN.
    match a:
        case Call("where", (condition, yes, no)):
            return choice(condition, times(yes, b), times(no, b))
        case _:
            return _call("*", a, b)


def plus(a: Expr, b: Expr) -> Expr:
    if a == _ZERO:
        return b
    return a if b == _ZERO else _call("+", a, b)


def choice(condition: Expr, yes: Expr, no: Expr) -> Expr:
    return yes if yes == no else _call("where", condition, yes, no)
