"""Budgets by cell for the reference: names of an objective, and the ids a caller gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fibc.batch import BatchError, Table
from fibc.ir.scalar import evaluate
from fibc.typed import CellBudget
from fibdsl.runtime.naming import CellNames, cell_ids, no_budgets, not_said, said_twice


def budgets_of(
    objective: str,
    budgets: Mapping[str, CellBudget],
    params: Mapping[str, float],
    cells: CellNames | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `make_batch` takes: by level the budgets of ids, or an array of budgets.

    Args:
        objective: its name, for messages.
        budgets: those of the objective, by level.
        params: the values of its parameters.
        cells: the ids of named cells, by key and name.
        given: budgets as they are, by level.

    Raises:
        BatchError: anything in it that is missing, superfluous or no id.
    """
    given = given or {}
    try:
        names = {b.key: tuple(b.entries) for b in budgets.values() if b.entries}
        ids = cell_ids(objective, names, cells)
    except ValueError as error:
        raise BatchError(str(error)) from None
    for level in given:
        if level not in budgets:
            raise BatchError(no_budgets(objective, level, budgets))
    found: dict[str, Any] = {}
    for level, budget in budgets.items():
        named = budget.key in ids
        if level in given:
            if named:
                raise BatchError(said_twice(level, budget.key))
            found[level] = given[level]
            continue
        if budget.entries and not named:
            raise BatchError(not_said(objective, level, budget.key, tuple(budget.entries)))
        values = named_values(budget, params)
        by_id = {i: values[n] for i, n in zip(ids.get(budget.key, ()), budget.entries, strict=True)}
        found[level] = Table(by_id, values.get("else"), tuple(budget.entries))
    return found


def named_values(budget: CellBudget, params: Mapping[str, float]) -> dict[str, float]:
    """The budgets at these parameter values, by what a spec calls them."""
    values = (float(evaluate(scalar, params, {})) for scalar in budget.scalars)
    return dict(zip(budget.words, values, strict=True))
