"""A gate where it is used: what the inputs of its cases are there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from fibc.ir.interval import Interval, hull
from fibc.ir.scalar import Binary, ByAdvantage, Count, Log, Negate, Scalar, bounds
from fibc.typed import TypedGate

_REALS = Interval.everything()
_POSITIVE = Interval(Fraction(0), math.inf, True, True)
_MEMBERS = Interval(Fraction(1), math.inf, high_open=True)
_LOG_PROB = Interval(-math.inf, Fraction(0), True, False)
LEAVES = {
    "size": _MEMBERS,
    "tokens": _MEMBERS,
    "log_ratio": _REALS,
    "ratio": _POSITIVE,
    "logp": _LOG_PROB,
    "old_logp": _LOG_PROB,
    "ref_logp": _LOG_PROB,
    "rollout_logp": _LOG_PROB,
    "advantage": _REALS,
    "gated_ratio": _REALS,
}
"""What is known of a cell or a token, and what that can be."""


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
    gate: TypedGate, params: Mapping[str, Interval], sign: int, x: Interval = _REALS
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
