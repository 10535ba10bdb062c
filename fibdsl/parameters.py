"""Values for the parameters of objectives, and where the promises of changing ones are decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fibc.typed import TypedParam
from fibdsl.diagnostics.diagnostic import Diagnostic, Diagnostics, nearest
from fibdsl.diagnostics.errors import FibError
from fibdsl.runtime.schedules import Schedule, as_schedule

if TYPE_CHECKING:
    from fibdsl.objective import Objective

Value = float | Schedule
"""A number, or one a step."""


@dataclass(frozen=True)
class Assignment:
    """What parameters are set to, before it is known whose they are.

    Attributes:
        file: a YAML file of values (`fibdsl.param_file`).
        values: values by name, which win over those of the file.
    """

    file: str | Path | None = None
    values: Mapping[str, Value] = field(default_factory=dict)

    @staticmethod
    def of(
        given: Mapping[str, Value] | str | Path | None, values: Mapping[str, Value]
    ) -> Assignment:
        """Values by name or in a file, and some that win over them."""
        if isinstance(given, str | Path):
            return Assignment(given, values)
        return Assignment(None, {**(given or {}), **values})

    @property
    def empty(self) -> bool:
        return self.file is None and not self.values

    def applied(self, objectives: Sequence[Objective]) -> list[Objective]:
        """The objectives with these values. Where there are several, each takes what it declares,
        and at least one has to.

        Raises:
            FibError: an unknown name, a value that does not fit, a broken promise of an objective
                that has to keep them; everything about all of them.
            OSError: the file cannot be read.
        """
        found: list[Diagnostic] = []
        from_file: list[dict[str, Value]] = [{} for _ in objectives]
        if self.file is not None:
            from fibdsl.param_file import read

            try:
                from_file = read(self.file).values(objectives)
            except FibError as error:
                found += error.diagnostics
        declared = dict.fromkeys(param.name for o in objectives for param in o.declared)
        nobodys = self.values.keys() - declared if len(objectives) > 1 else set()
        for name in sorted(nobodys):
            here = Diagnostics(objectives[0].checked.source)
            message = f"no objective here has a parameter `{name}`"
            here.add("FIB107", message, None, nearest(name, declared))
            found += here.found
        changed = []
        for objective, values in zip(objectives, from_file, strict=True):
            own = {param.name for param in objective.declared} | (self.values.keys() - declared)
            values |= {n: v for n, v in self.values.items() if n in own and n not in nobodys}
            if found:  # promises wait until there are values to decide them at
                objective = replace(objective, promises=False)
            try:
                changed.append(objective.with_params(**values))
            except FibError as error:
                found += [d for d in error.diagnostics if d not in found]
        if found:
            raise FibError(found)
        return changed


def fitting(values: Mapping[str, Value], objective: Objective) -> dict[str, Value]:
    """Values for parameters of an objective, as floats and schedules.

    Raises:
        FibError: an unknown parameter, a value outside its range, or none at all.
    """
    found = Diagnostics(objective.checked.source)
    known = {p.name: p for p in objective.declared}
    assigned: dict[str, Value] = {}
    for name, value in values.items():
        schedule = as_schedule(value)
        if name not in known:
            message = f"objective `{objective.name}` has no parameter `{name}`"
            found.add("FIB107", message, None, nearest(name, known))
        elif schedule is not None:
            assigned[name] = schedule
            for at, number in zip(schedule.steps, schedule.values, strict=True):
                if not holds(known[name], number):
                    message = f"{name} = {number:g} at step {at} is not in {known[name].range}"
                    help = "choose values inside the declared range"
                    found.add("FIB403", message, known[name].span, help)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            found.add("FIB107", f"`{name}` is a number, not {value!r}", None)
        elif not holds(known[name], value):
            span = known[name].span
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            message = f"{name} = {shown} is not in {known[name].range}"
            found.add("FIB403", message, span, "choose a value inside the declared range")
        else:
            assigned[name] = float(value)
    if found.found:
        raise FibError(found.in_order())
    return assigned


def holds(param: TypedParam, value: float) -> bool:
    """Whether a value is a number in the declared range."""
    try:
        return math.isfinite(value) and float(value) in param.range
    except OverflowError:  # an integer beyond every float
        return False


def deciding_steps(schedules: Mapping[str, Schedule]) -> list[int]:
    """The steps at which promises are decided: where a schedule starts, turns or ends, and the last
    ones before one jumps. Without schedules there is one step, 0."""
    return sorted({0}.union(*(schedule.turns for schedule in schedules.values())))


def shown_values(values: Mapping[str, float], step: int | None = None) -> str:
    """The values, and the step they are of if they are of one."""
    at = "" if step is None else f", at step {step}"
    return (", ".join(f"{name} = {value:g}" for name, value in values.items()) or "none") + at
