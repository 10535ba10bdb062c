"""The parameters of one loss module: values, schedules, and the step these are at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fibdsl.runtime.contract import Objective
from fibdsl.runtime.schedules import Schedule, as_schedule, values_at

Assigned = Mapping[str, float | Schedule]


class Params:
    """Parameter values; changing them never recompiles.

    Attributes:
        values: the numbers now in force.
        assigned: these, or schedules they follow.
        step: that schedules are at.
        guard: called with all values before any change; raises to refuse it.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.values: dict[str, float] = {n: p.default for n, p in objective.params.items()}
        self.assigned: dict[str, float | Schedule] = dict(self.values)
        self.step = 0
        self.guard: Callable[[dict[str, Any]], object] | None = None
        self._vectors: dict[torch.device, Tensor] = {}

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The parameters that change from step to step (a copy)."""
        return {n: value for n, value in self.assigned.items() if isinstance(value, Schedule)}

    def assign(self, params: Assigned, step: int | None = None) -> None:
        """Changes values; all or, if one is wrong, none.

        Raises:
            ValueError: an unknown parameter, or a value outside its range, at any step.
        """
        self._change(self._checked(params), self.step if step is None else step, whole=True)

    def advance(self, step: int) -> None:
        """Sets the step.

        Raises:
            ValueError: no parameter has a schedule; `step` is no whole number, or below 0.
        """
        if not self.schedules:
            raise ValueError(
                f"no parameter of '{self.objective.name}' has a schedule, so set_step has no "
                "effect; set_params takes schedules, fibdsl.schedules.linear(...) for one"
            )
        self._change(self.assigned, step, whole=False)

    def _checked(self, params: Mapping[str, float | Schedule]) -> dict[str, float | Schedule]:
        """The values now in force, with these in their places."""
        known = self.objective.params
        assigned = dict(self.assigned)
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"objective '{self.objective.name}' has no parameter '{name}'; "
                    f"it has: {', '.join(known) or 'none'}"
                )
            schedule = as_schedule(value)
            if schedule is not None:
                assigned[name], ends = schedule, schedule.bounds
            elif isinstance(value, int | float) and not isinstance(value, bool):
                assigned[name] = number = float(value)
                ends = number, number
            else:
                raise ValueError(f"parameter '{name}' is a number, not {value!r}")
            if not all(map(known[name].holds, ends)):
                raise ValueError(f"{name} = {value} is outside its range {known[name].range()}")
        return assigned

    def _change(self, assigned: dict[str, float | Schedule], step: int, whole: bool) -> None:
        """Makes these the values, at this step; `whole` if schedules may be new."""
        values = values_at(assigned, step)
        if self.guard is not None:
            # What the spec promises (`require`) must hold at the new values too.
            if whole and values != assigned:
                self.guard(dict(assigned))
            self.guard(dict(values))
        self.assigned, self.step = assigned, int(step)
        if values != self.values:
            self.values = values
            self._vectors.clear()

    def vector(self, device: torch.device) -> Tensor:
        """The values in their order, and a 0 of the same type behind them."""
        if device not in self._vectors:
            values = torch.tensor([*self.values.values(), 0.0], dtype=torch.float64)
            self._vectors[device] = values.to(device)
        return self._vectors[device]
