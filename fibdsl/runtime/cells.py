"""Budgets by cell: what the caller gives, and what that makes of each token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.checks import Checks
from fibdsl.runtime.contract import CellBudgets, Objective
from fibdsl.runtime.layouts import BlockLayout, padded_to_block
from fibdsl.runtime.levels import Level
from fibdsl.runtime.naming import no_budgets, not_said, said_twice


class Budgets(NamedTuple):
    """What a call says of the budgets of cells, by level: one of the two for each level.

    Attributes:
        known: the ids of the named cells, int64, in the order of their names.
        given: the budgets themselves, one a row (rows,) or one a token (lines, width).
    """

    known: dict[str, Tensor]
    given: dict[str, Tensor]


def said_budgets(
    objective: Objective,
    cells: Mapping[str, tuple[int, ...]],
    budgets: Mapping[str, Tensor] | None,
) -> tuple[str, ...]:
    """The levels whose budgets a call gives as they are, in the order of the chain.

    Args:
        cells: the ids of named cells, by key.

    Raises:
        ValueError: budgets without effect; two ways to say one thing, or none.
    """
    levels = objective.budgets
    for level in budgets or {}:
        if level not in levels:
            raise ValueError(no_budgets(objective.name, level, levels))
        if levels[level].key in cells:
            raise ValueError(said_twice(level, levels[level].key))
    for level, (key, names, _, _) in levels.items():
        if names and key not in cells and level not in (budgets or {}):
            raise ValueError(not_said(objective.name, level, key, names))
    return tuple(level for level in levels if level in (budgets or {}))


def given_budget(
    objective: Objective,
    level: str,
    budget: Tensor,
    rows: int,
    logp: Tensor,
    layout: BlockLayout | None,
) -> Tensor:
    """A budget tensor of a call in the form the graph takes.

    Raises:
        ValueError, TypeError: another type, device or shape than budgets have.
    """
    what = f"budgets['{level}']"
    if not isinstance(budget, Tensor):
        raise TypeError(f"{what} is a {type(budget).__name__}; give a floating-point tensor")
    if not budget.is_floating_point():
        raise TypeError(f"{what} is {budget.dtype}; give a floating-point tensor")
    if budget.device != logp.device:
        raise ValueError(f"{what} is on {budget.device}, but logp is on {logp.device}")
    names = [name for name, _ in objective.levels]
    # As of ids: where B = N, finer levels than the trajectory have one a token.
    per_token = "trajectory" not in names or names.index(level) < names.index("trajectory")
    if budget.shape == (rows,) and not (per_token and budget.shape == logp.shape):
        return budget.detach()
    if budget.shape != logp.shape:
        raise ValueError(
            f"{what} has shape {tuple(budget.shape)}; give ({rows},), one budget a trajectory, or "
            f"{tuple(logp.shape)}, one a token"
        )
    return budget.detach() if layout is None else layout.take(padded_to_block(budget.detach()))


def token_budgets(
    objective: Objective,
    budgets: Budgets,
    ids: Mapping[str, Tensor],
    params: Tensor,
    mask: Tensor,
    layout: BlockLayout | None,
    levels: Mapping[str, Level],
    checks: Checks,
) -> dict[str, Tensor]:
    """By level the budget of the cell that each token is in, (lines, width); 0 under the mask.

    Args:
        ids: of the levels whose budgets are known by name, as `raw_ids`.
        params: the vector of parameters, in the type that is computed in.
        levels: the levels of the call, for the cells that tokens are in.
    """

    def hold(wrong: Tensor, message: str) -> None:
        # As sums of lines, which other sums of lines are computed along with.
        checks.require(torch.where(mask & wrong, 1.0, 0.0).sum(-1).sum() == 0, message)

    found = {}
    for level, budget in objective.budgets.items():
        given = budgets.given.get(level)
        if given is not None:
            values = given
        elif not budget.names:
            values = budget.values(params)[-1].expand(mask.shape)
        else:
            values = _by_name(budget, ids[level], budgets.known[level], params)
        if values.dim() < 2:
            values = values if layout is None else values[layout.row]
            values = values[:, None].expand_as(mask)
        if given is not None:
            what = f"budgets['{level}'] has"
            hold(~(values > 0), f"{what} values that are not positive; a budget is a magnitude")
            whole = _of_cells(objective, level, torch.where(mask, values, 0.0), levels)
            hold(values != whole, f"{what} several values in one cell of level '{level}'")
        elif not budget.otherwise:
            hold(
                ~(values > 0),
                f"keys['{budget.key}'] (level '{level}') has ids that none of "
                f"{', '.join(budget.names)} has, and '{objective.name}' has no budget for other "
                "cells, `else`",
            )
        found[level] = torch.where(mask, values, 0.0)
    return found


def _by_name(budget: CellBudgets, ids: Tensor, known: Tensor, params: Tensor) -> Tensor:
    """The budget of each unit, by its id; 0 where there is none."""
    table = budget.values(params)
    # The parameters end with a 0.
    values = (table[-1] if budget.otherwise else params[-1]).expand(ids.shape)
    for index in range(len(budget.names)):
        values = torch.where(ids == known[index], table[index], values)
    return values


def _of_cells(
    objective: Objective, level: str, values: Tensor, levels: Mapping[str, Level]
) -> Tensor:
    """The largest value in the cell of each token."""
    path = [name for name, _ in objective.levels]
    path = path[: path.index(level) + 1]
    for name in path:
        values = levels[name].common(values)
    for name in reversed(path):
        values = levels[name].lift(values)
    return values
