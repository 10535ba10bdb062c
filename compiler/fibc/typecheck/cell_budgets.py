"""Budgets of cells, by their names."""

from __future__ import annotations

import contextlib
import math

from fibc.gates.use import cell_budget_name
from fibc.ir.interval import Interval, hull
from fibc.ir.scalar import Scalar, bounds
from fibc.resolved import Resolved
from fibc.typecheck.budgets import Budgets
from fibc.typecheck.quantities import Quantities
from fibc.typed import CellBudget
from fibdsl.diagnostics.diagnostic import ReportedError
from fibdsl.syntax import ast


def cell_budgets(spec: Resolved, quantities: Quantities) -> dict[str, CellBudget]:
    """The budgets of cells, by level; what they can be is known from here on."""
    found = {}
    for level in spec.levels:
        clause = spec.budgets.get(level.name)
        if clause is None or level.key is None:
            continue
        here = Budgets(level.name, spec, quantities)
        scalars: dict[str | None, Scalar] = {}
        for entry in clause.entries:
            argument = ast.Argument("upper", entry.value, entry.value.span)
            with contextlib.suppress(ReportedError):
                scalars[entry.name.text if entry.name else None] = here.magnitude(argument)
        otherwise = scalars.pop(None, None)
        entries = {name: s for name, s in scalars.items() if name is not None}
        found[level.name] = CellBudget(level.key, entries, otherwise, clause.span)
        every = [*entries.values(), *([otherwise] if otherwise is not None else [])]
        quantities.ranges[cell_budget_name(level.name)] = (
            hull(bounds(s, quantities.ranges) for s in every)
            if every
            else Interval(0.0, math.inf, True, True)
        )
    return found
