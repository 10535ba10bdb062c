"""Cells that no row, call or rank holds whole: numbered alike by everyone who has a part of them.

Runs outside the graph. With several ranks it exchanges the ids, once a call; what is wrong on one
rank is an error on all of them, so that none waits for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.checks import Checks, raise_for, require
from fibdsl.runtime.contract import Objective
from fibdsl.runtime.layouts import (
    BlockLayout,
    level_ids,
    of_units,
    padded_to_block,
    parent_cells,
    raw_ids,
    row_any,
)
from fibdsl.runtime.ranks import Ranks

TRAJECTORY_KEY = "trajectory"
"""The key that says which rows are pieces of one trajectory; without it each row is a whole one."""


class Sharing(NamedTuple):
    """Which levels are shared.

    Attributes:
        first: the index, in the objective's levels, of the first one whose cells may have members
            in several rows, calls or ranks that are not in one cell before; their number if none.
        beside: whether trajectories beside the chain come in pieces.
    """

    first: int
    beside: bool


class SharedCells(NamedTuple):
    """The ids of one batch.

    Attributes:
        sharing: which levels are shared.
        parents: as `parent_cells`, for all levels; those of shared levels number the cells of all
            ranks.
        sizes: for each shared level (and for trajectories beside the chain) a tensor as long as
            it has cells; only its shape matters.
        ids: for each shared level the id of each cell, in order.
    """

    sharing: Sharing
    parents: tuple[Tensor, ...]
    sizes: tuple[Tensor, ...]
    ids: tuple[Tensor, ...]


def sharing_of(objective: Objective, keys: Mapping[str, Tensor], several: bool) -> Sharing:
    """Which levels are shared, for these keys and one or `several` ranks or passes."""
    names = [name for name, _ in objective.levels]
    pieces = in_pieces(objective, keys)
    chained = "trajectory" in names
    if pieces and chained:
        return Sharing(0, False)
    if not several:
        return Sharing(len(names), pieces)
    return Sharing(names.index("trajectory") + 1 if chained else 0, pieces)


def in_pieces(objective: Objective, keys: Mapping[str, Tensor]) -> bool:
    """Whether rows are pieces of trajectories."""
    own = any(key == TRAJECTORY_KEY for _, key in objective.levels)
    return TRAJECTORY_KEY in keys and not own


class _Unit(NamedTuple):
    """Ids of one level, one for each token or each row, before they are numbered."""

    name: str
    what: str
    ids: Tensor
    within: bool


class OwnCells(NamedTuple):
    """What this rank knows of the cells of one batch, before anything is exchanged."""

    sharing: Sharing
    parents: tuple[Tensor, ...]
    units: list[_Unit]
    valid: Tensor
    beside: Tensor | None
    valid_rows: Tensor


def own_cells(
    objective: Objective,
    keys: Mapping[str, Tensor],
    mask: Tensor,
    layout: BlockLayout | None,
    rows: int,
    several: bool,
) -> OwnCells:
    """The cells of levels that are not shared, and the ids of the others; `mask` is bool.

    Raises:
        ValueError, TypeError: as `parent_cells`.
    """
    if in_pieces(objective, keys):
        ids = keys[TRAJECTORY_KEY]
        if isinstance(ids, Tensor) and ids.dim() != 1:
            raise ValueError(
                f"keys['{TRAJECTORY_KEY}'] has shape {tuple(ids.shape)}; it has one id a row, "
                "equal for pieces of one trajectory"
            )
    sharing = sharing_of(objective, keys, several)
    levels = objective.levels
    first = sharing.first
    checks = Checks()
    tokens = mask
    if layout is not None:
        tokens = layout.take(padded_to_block(mask)) & layout.inside()
    whole = raw_ids(levels[:first], keys, rows, mask, layout)
    own = parent_cells(levels[:first], whole, tokens, layout, rows, checks)
    counting = row_any(tokens, layout, rows)
    names = [name for name, _ in levels]
    # Units are rows where nothing finer than a trajectory is shared.
    per_token = first == 0 and bool(names) and names[0] != "trajectory"
    valid = tokens if per_token else counting
    units = []
    inner = names.index("trajectory") if "trajectory" in names else 0
    for index, (name, key) in enumerate(levels[first:], first):
        what = f"keys['{key or TRAJECTORY_KEY}']"
        # Above the token, ids of a trajectory or of what holds it are one a row, even where B = N.
        finer = index < inner or "trajectory" not in names
        ids = level_ids(name, key or TRAJECTORY_KEY, keys, rows, mask, layout, finer)
        ids = of_units(ids, per_token, tokens, layout, rows, f"{what} (level '{name}')", checks)
        units.append(_Unit(name, what, ids, index < inner))
    beside = None
    if sharing.beside:
        beside = level_ids("trajectory", TRAJECTORY_KEY, keys, rows, mask, layout, False)
        what = f"keys['{TRAJECTORY_KEY}'] (level 'trajectory')"
        beside = of_units(beside, False, tokens, layout, rows, what, checks)
    raise_for(checks.conditions)
    return OwnCells(sharing, own, units, valid, beside, counting)


def numbered(own: OwnCells, ranks: Ranks | None) -> SharedCells:
    """Numbers the shared cells alike on every rank; all ranks do the same exchanges.

    Raises:
        ValueError: a cell lies in two coarser ones; on every rank.
    """
    sharing, _, units, valid, beside, valid_rows = own
    parents, sizes, known = list(own.parents), [], []
    trajectory: Tensor | None = None
    if any(unit.within for unit in units):
        # Ids within a trajectory count together with it.
        outer = next(unit for unit in units if unit.name == "trajectory")
        trajectory, _ = _shared_number(outer.ids, valid, ranks)
    finer: tuple[_Unit, Tensor, int] | None = None
    for unit in units:
        ids = unit.ids
        if unit.within and trajectory is not None:
            inside, within = _shared_number(ids, valid, ranks)
            ids = trajectory * within.numel() + inside
        cell, table = _shared_number(ids, valid, ranks)
        size = table.numel()
        known.append(table)
        if finer is None:
            parents.append(cell)
        else:
            parents.append(_shared_parent(finer, cell, valid, unit, ranks))
        sizes.append(valid.new_empty(size))
        finer = unit, cell, size
    if beside is not None:
        cell, table = _shared_number(beside, valid_rows, ranks)
        parents.append(cell)
        sizes.append(valid.new_empty(table.numel()))
    return SharedCells(sharing, tuple(parents), tuple(sizes), tuple(known))


def numbered_as(own: OwnCells, earlier: SharedCells) -> SharedCells:
    """The numbers that an earlier pass over the whole batch gave to the cells of a part of it.

    Raises:
        ValueError: a cell that was not there, or in another coarser cell.
    """
    if own.sharing.beside or any(unit.within for unit in own.units):
        raise ValueError("aggregates of an earlier pass are not kept for pieces of trajectories")
    parents = list(own.parents)
    finer: Tensor | None = None
    for unit, known, parent in zip(
        own.units, earlier.ids, earlier.parents[len(parents) :], strict=True
    ):
        cell = torch.searchsorted(known, unit.ids.contiguous()).clamp(max=known.numel() - 1)
        same = known[cell] == unit.ids
        if finer is not None:
            same = same & (parent[finer] == cell)
        require(
            (same | ~own.valid).all(),
            f"{unit.what} (level '{unit.name}') has cells here that the earlier pass did not have, "
            "or had in other cells; its batch has to hold all rows of this one",
        )
        cell = torch.where(own.valid, cell, 0)
        parents.append(cell if finer is None else parent)
        finer = cell
    return SharedCells(own.sharing, tuple(parents), earlier.sizes, earlier.ids)


def _shared_number(ids: Tensor, valid: Tensor, ranks: Ranks | None) -> tuple[Tensor, Tensor]:
    """Equal ids to equal numbers, on all ranks, 0 where none is valid; and the ids in order, at
    least one."""
    known = torch.unique(ids[valid])
    if ranks is not None:
        known = torch.unique(ranks.gathered(known))
    if known.numel() == 0:
        known = ids.new_zeros(1)
    numbers = torch.searchsorted(known, ids.contiguous()).clamp(max=known.numel() - 1)
    return torch.where(valid, numbers, 0), known


def _shared_parent(
    finer: tuple[_Unit, Tensor, int],
    cell: Tensor,
    valid: Tensor,
    unit: _Unit,
    ranks: Ranks | None,
) -> Tensor:
    """The coarser cell of each finer one, from all who have a part of it."""
    below, own, size = finer
    parent = cell.new_full((size,), -1).scatter_reduce(0, own[valid], cell[valid], "amax")
    if ranks is not None:
        parent = ranks.largest(parent)
    parent = parent.clamp(min=0)
    error = None
    if bool(((parent[own] != cell) & valid).any()):
        error = ValueError(
            f"{unit.what} (level '{unit.name}') splits a cell of level '{below.name}': two members "
            f"of one '{below.name}' are in different cells of '{unit.name}'; each cell must lie in "
            "one coarser cell"
        )
    if ranks is not None:
        ranks.agree(error)
    elif error is not None:
        raise error
    return parent
