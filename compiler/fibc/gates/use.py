"""A gate where it is used: what the inputs of its cases are there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from fibc.gates.leaves import LEAVES, REALS
from fibc.ir import functions
from fibc.ir.interval import Interval, hull
from fibc.ir.scalar import (
    Binary,
    ByAdvantage,
    Count,
    Log,
    Negate,
    Scalar,
    bounds,
    counted,
    evaluate,
    leaning,
)
from fibc.typed import TypedGate


def cell_budget_name(level: str) -> str:
    """What the `budget` of a level is called among counts and ranges."""
    return f"budget of {level}"


def at_level(scalar: Scalar, level: str) -> Scalar:
    """A scalar in which `budget` is that of a level."""
    match scalar:
        case Count("budget"):
            return Count(cell_budget_name(level))
        case Negate(operand):
            return Negate(at_level(operand, level))
        case Log(operand):
            return Log(at_level(operand, level))
        case ByAdvantage(up, down):
            return ByAdvantage(at_level(up, level), at_level(down, level))
        case Binary(operator, left, right):
            return Binary(operator, at_level(left, level), at_level(right, level))
        case _:
            return scalar


def gate_inputs(
    gate: TypedGate, params: Mapping[str, Interval], sign: int, x: Interval = REALS
) -> tuple[Interval, ...]:
    """What the inputs of a gate's cases can be, for advantages of a sign."""
    found = []
    for name in gate.rule.inputs:
        if name == "x":
            found.append(x)
        elif name in gate.arguments:
            both = gate.arguments[name]
            upper, lower = bounds(both.upper, params), bounds(both.lower, params)
            found.append(upper if both.upper == both.lower else hull([upper, lower]))
        elif name == "advantage":
            found.append(Interval.point(Fraction(sign)))
        else:
            found.append(LEAVES[name])
    return tuple(found)


def total_range(one: Interval) -> Interval:
    """What the sum of one or more values can be, given what each can be."""
    least, most = one.low, one.high
    return Interval(
        least if least >= 0 else -math.inf,
        most if most <= 0 else math.inf,
        one.low_open or least < 0,
        one.high_open or most > 0,
    )


def case_value(gate: TypedGate, x: float, params: Mapping[str, float], advantage: float) -> float:
    """What a gate makes of x, in a small cell and of a likely token: to look for extremes with."""
    lean = 1 if advantage >= 0 else -1
    likely = {"size": 4.0, "tokens": 4.0, "log_ratio": x, "ratio": math.exp(min(x, 20.0))}
    inputs = []
    for name in gate.rule.inputs:
        if name == "x":
            inputs.append(x)
        elif name in gate.arguments:
            both = gate.arguments[name]
            chosen = leaning(both.upper if x >= 0 else both.lower, lean)
            counts = dict.fromkeys(counted(chosen), 4.0)
            inputs.append(float(evaluate(chosen, params, counts)))
        else:
            inputs.append(float(lean) if name == "advantage" else likely.get(name, -1.0))
    for case in gate.rule.cases:
        if case.condition is None or functions.value(case.condition, {}, inputs):
            return float(functions.value(case.value, {}, inputs))
    raise AssertionError(gate)
