"""The schedules that the loss module of an objective starts with."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from fibc.emit import syntax as py
from fibdsl.runtime.schedules import Schedule


def starting(schedules: Mapping[str, Schedule]) -> str:
    """The last statement of a generated module whose parameters change from step to step."""
    start = py.dictionary(
        (
            py.constant(name),
            py.call(
                "Schedule",
                py.tuple_of(py.constant(step) for step in schedule.steps),
                py.tuple_of(py.constant(value) for value in schedule.values),
                py.constant(schedule.between),
            ),
        )
        for name, schedule in schedules.items()
    )
    target = ast.Attribute(py.name("Loss"), "starting", ast.Store())
    return py.text([ast.Assign([target], start, lineno=0)])
