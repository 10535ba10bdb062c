"""How a bound was written: its value in the space of the signal no longer says."""

from __future__ import annotations

from typing import Literal

from fibc.ir.scalar import Binary, Const, Log, Negate, Param, Scalar
from fibc.typed import Budget

Side = Literal[1, -1]
"""The upper or the lower bound of a pair."""


def bound(budget: Budget, side: Side) -> Scalar:
    return budget.upper if side > 0 else budget.lower


def as_ratio(budget: Budget, side: Side) -> Scalar | None:
    """What stands in `ratio(...)` where a bound of a pair was written as a ratio; else None."""
    match side, bound(budget, side):
        case (1, Log(ratio)) | (-1, Negate(Log(ratio))):
            return ratio
        case (1, Binary("-", ratio, Const(1.0))) | (-1, Binary("-", Const(1.0), ratio)):
            return ratio
        case _:
            return None


def text(scalar: Scalar, value: float) -> str:
    """A parameter by its name, anything else by its value."""
    return scalar.name if isinstance(scalar, Param) else f"{value:g}"
