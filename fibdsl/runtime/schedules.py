"""Values that change from step to step. Needs nothing but the standard library."""

from __future__ import annotations

import bisect
import contextlib
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """A number a step: a value at each of some steps, and what is between two of them.

    Before and after the given steps the value is that of the first and of the last one; between
    two it never leaves the range between theirs.

    Attributes:
        steps: where the values are, ascending from 0 on.
        values: one for each of the steps.
        between: "hold" keeps a value up to the next step, where it jumps; "linear" goes there on a
            line; "cosine" on half a wave of a cosine, level at both ends.

    Raises:
        ValueError: none of these.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    between: str

    def __post_init__(self) -> None:
        steps = tuple(_whole_step(step) for step in self.steps)
        values = tuple(_finite_value(value) for value in self.values)
        if not steps or steps[0] != 0 or list(steps) != sorted(set(steps)):
            raise ValueError(f"the steps of a schedule ascend from 0 on, and these are {steps}")
        if len(values) != len(steps):
            raise ValueError(f"{len(steps)} steps, but {len(values)} values")
        if self.between not in ("hold", "linear", "cosine"):
            raise ValueError(f"between is 'hold', 'linear' or 'cosine', not {self.between!r}")
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "values", values)

    def at(self, step: int) -> float:
        """The value at a step, 0 or later."""
        step = _whole_step(step)
        here = bisect.bisect_right(self.steps, step) - 1
        start = self.values[here]
        if self.between == "hold" or here == len(self.steps) - 1:
            return start
        end, length = self.values[here + 1], self.steps[here + 1] - self.steps[here]
        way = (step - self.steps[here]) / length
        if self.between == "cosine":
            way = (1 - math.cos(math.pi * way)) / 2
        # Rounding must not leave the range that was checked.
        return max(min(start, end), min(start * (1 - way) + end * way, max(start, end)))

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value of all steps."""
        return min(self.values), max(self.values)

    @property
    def turns(self) -> tuple[int, ...]:
        """The steps where it starts, turns and ends, and the last ones before it jumps."""
        before = (step - 1 for step in self.steps[1:]) if self.between == "hold" else ()
        return tuple(sorted({*self.steps, *before}))

    def __str__(self) -> str:
        values = (f"{step}: {value:g}" for step, value in zip(self.steps, self.values, strict=True))
        return f"{self.between} {{{', '.join(values)}}}"


def linear(start: float, end: float, steps: int) -> Schedule:
    """From `start` at step 0 to `end` at step `steps` on a line, and `end` from there on."""
    return Schedule((0, _run_length(steps)), (start, end), "linear")


def cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` at step 0 to `end` at step `steps`, and `end` from there on; at step n

        end + (start - end) (1 + cos(pi n / steps)) / 2,

    slow at both ends (arXiv 1608.03983, eq. 5, without restarts).
    """
    return Schedule((0, _run_length(steps)), (start, end), "cosine")


def piecewise(values: Mapping[int, float]) -> Schedule:
    """Constant pieces: each value from its step on. One is that of step 0."""
    return _pieces(values, "hold")


def piecewise_linear(values: Mapping[int, float]) -> Schedule:
    """The values at their steps, and lines between them. One is that of step 0."""
    return _pieces(values, "linear")


def as_schedule(value: Any) -> Schedule | None:
    """The value, if it is a schedule. Modules carry copies of this file; one's is as good as
    another's."""
    if isinstance(value, Schedule):
        return value
    if type(value).__name__ == Schedule.__name__:
        return Schedule(value.steps, value.values, value.between)
    return None


def values_at(assigned: Mapping[str, float | Schedule], step: int) -> dict[str, float]:
    """What the parameters are at a step."""
    return {
        name: value.at(step) if isinstance(value, Schedule) else value
        for name, value in assigned.items()
    }


def _pieces(values: Mapping[int, float], between: str) -> Schedule:
    given = {_whole_step(step): value for step, value in values.items()}
    steps = tuple(sorted(given))
    return Schedule(steps, tuple(given[step] for step in steps), between)


def _run_length(steps: int) -> int:
    if _whole_step(steps) == 0:
        raise ValueError("a schedule goes over 1 step or more, not 0")
    return steps


def _whole_step(step: int) -> int:
    """A whole number from 0 on, of Python's type."""
    try:
        count = operator.index(step)
    except TypeError:
        count = -1
    if count < 0 or isinstance(step, bool):
        raise ValueError(f"steps are whole numbers, 0 or more, and not {step!r}")
    return count


def _finite_value(value: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond every float
            number = float(value)
            if math.isfinite(number):
                return number
    raise ValueError(f"a value of a schedule is a finite number, not {value!r}")
