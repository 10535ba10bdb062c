"""Cells that no row, call or rank holds whole: numbered alike by everyone who has a part of them.

Part of the graph, which with several ranks exchanges the ids. How many there are is known only when
it runs, so arrays of shared cells have sizes that the compiler knows nothing of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.checks import Checks
from fibdsl.runtime.contract import Objective
from fibdsl.runtime.layouts import BlockLayout, level_ids, of_units, parent_cells, row_any
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
    """The cells of one batch, as a later pass over parts of it needs them.

    Attributes:
        parents: for each shared level but the first, from the finest, the cell that each cell of
            the one before is in.
        ids: for each shared level the id of each cell, in order.
    """

    parents: tuple[Tensor, ...]
    ids: tuple[Tensor, ...]


class Numbering(NamedTuple):
    """Where everything is in one batch.

    Attributes:
        parents: as `parent_cells`, for all levels; those of shared levels number the cells of all
            ranks. Last, where trajectories beside the chain come in pieces, that of each row.
        sizes: for each shared level (and trajectories beside the chain) how many cells it has.
        shared: what a later pass needs.
    """

    parents: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    shared: SharedCells


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


def piece_ids(
    keys: Mapping[str, Tensor], rows: int, mask: Tensor, layout: BlockLayout | None
) -> Tensor:
    """The ids of trajectories that come in pieces, int64 (rows,).

    Raises:
        ValueError, TypeError: as `level_ids`; ids that are not one a row.
    """
    ids = keys[TRAJECTORY_KEY]
    if isinstance(ids, Tensor) and ids.dim() != 1:
        raise ValueError(
            f"keys['{TRAJECTORY_KEY}'] has shape {tuple(ids.shape)}; it has one id a row, "
            "equal for pieces of one trajectory"
        )
    return level_ids("trajectory", TRAJECTORY_KEY, keys, rows, mask, layout, False).detach()


class _Unit(NamedTuple):
    """Ids of one level, one for each token or each row, before they are numbered."""

    name: str
    what: str
    ids: Tensor
    valid: Tensor


def numbering(
    objective: Objective,
    sharing: Sharing,
    ids: Mapping[str, Tensor],
    tokens: Tensor,
    layout: BlockLayout | None,
    rows: int,
    ranks: Ranks | None,
    earlier: SharedCells | None,
    checks: Checks,
) -> Numbering:
    """Numbers the cells of a batch, those of shared levels alike on every rank.

    Args:
        ids: those of the keyed levels, as `raw_ids`, and of trajectories in pieces.
        tokens: which places hold a token that counts, (lines, width).
        earlier: cells of an earlier pass over the whole batch, whose numbers are taken.
    """
    first = sharing.first
    levels = objective.levels
    parents = parent_cells(levels[:first], ids, tokens, layout, rows, checks)
    names = [name for name, _ in levels]
    # Units are rows where nothing finer than a trajectory is shared.
    per_token = first == 0 and bool(names) and names[0] != "trajectory"
    counting = row_any(tokens, layout, rows)

    def unit(name: str, key: str | None, per_token: bool, valid: Tensor) -> _Unit:
        what = f"keys['{key or TRAJECTORY_KEY}']"
        own = of_units(
            ids[name], per_token, tokens, layout, rows, f"{what} (level '{name}')", checks
        )
        return _Unit(name, what, own.contiguous(), valid)

    valid = tokens if per_token else counting
    units = [unit(name, key, per_token, valid) for name, key in levels[first:]]
    beside = [unit("trajectory", None, False, counting)] if sharing.beside else []
    if earlier is not None:
        numbers, above = _numbers_of(units, earlier, checks)
        shared = earlier
    else:
        inner = names.index("trajectory") - first if "trajectory" in names[first:] else 0
        numbers, tables = _numbered([*_within(units, inner, ranks), *beside], ranks)
        above = _parents(units, numbers, tables, ranks, checks)
        shared = SharedCells(above, tables[: len(units)])
    lowest = numbers[:1] if units else ()
    sizes = tuple(_size(table) for table in (tables if earlier is None else earlier.ids))
    last = numbers[len(units) :]
    return Numbering((*parents, *lowest, *above, *last), sizes, shared)


def _within(units: Sequence[_Unit], inner: int, ranks: Ranks | None) -> list[_Unit]:
    """The units with ids that count by themselves: those of the `inner` levels finer than a
    trajectory, which is the next, count together with it."""
    if not inner:
        return list(units)
    numbers, tables = _numbered(units[: inner + 1], ranks)
    within = zip(units, numbers[:inner], tables, strict=False)
    joined = [u._replace(ids=numbers[inner] * _size(t) + n) for u, n, t in within]
    return [*joined, *units[inner:]]


def _numbered(
    units: Sequence[_Unit], ranks: Ranks | None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Equal ids to equal numbers, on all ranks, 0 where none counts; and the ids in order."""
    tables = [torch.unique(unit.ids[unit.valid]) for unit in units]
    if ranks is not None and tables:
        tables = [torch.unique(ids) for ids in ranks.gathered(tables)]
    numbers = [
        torch.where(unit.valid, torch.searchsorted(table, unit.ids), 0)
        for unit, table in zip(units, tables, strict=True)
    ]
    return tuple(numbers), tuple(tables)


def _size(table: Tensor) -> int:
    """How many cells a level with these ids has, at least one."""
    size: int = torch.sym_max(table.numel(), 1)  # type: ignore[no-untyped-call]
    return size


def _parents(
    units: Sequence[_Unit],
    numbers: Sequence[Tensor],
    tables: Sequence[Tensor],
    ranks: Ranks | None,
    checks: Checks,
) -> tuple[Tensor, ...]:
    """For each unit but the first the cell that each cell of the one before is in, from all who
    have a part of it. Checks that it is one."""
    pairs = list(zip(pairwise(units), pairwise(numbers), strict=False))
    if not pairs:
        return ()
    sizes = [_size(table) for table in tables[: len(pairs)]]
    parents = []
    for ((finer, _), (own, cell)), size in zip(pairs, sizes, strict=True):
        candidate = torch.where(finer.valid, cell, -1).reshape(-1)
        start = candidate.new_full((size,), -1)
        parents.append(start.scatter_reduce(0, own.reshape(-1), candidate, "amax"))
    if ranks is not None:
        parents = list(torch.split(ranks.largest(torch.cat(parents)), sizes))
    parents = [parent.clamp(min=0) for parent in parents]
    for ((finer, coarser), (own, cell)), parent in zip(pairs, parents, strict=True):
        checks.require(
            ((parent[own] == cell) | ~finer.valid).all(),
            f"{coarser.what} (level '{coarser.name}') splits a cell of level '{finer.name}': two "
            f"members of one '{finer.name}' are in different cells of '{coarser.name}'; each cell "
            "must lie in one coarser cell",
        )
    return tuple(parents)


def _numbers_of(
    units: Sequence[_Unit], earlier: SharedCells, checks: Checks
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The numbers that an earlier pass over the whole batch gave to the cells of a part of it; a
    cell must have been there, and in the same coarser cell."""
    numbers: list[Tensor] = []
    for index, (unit, known) in enumerate(zip(units, earlier.ids, strict=True)):
        # One more, for there may be none.
        ids = torch.cat([known, known.new_zeros(1)])
        cell = torch.searchsorted(known, unit.ids)
        same = (ids[cell] == unit.ids) & (cell < known.numel())
        cell = torch.where(unit.valid & same, cell, 0)
        if index:
            same = same & (earlier.parents[index - 1][numbers[-1]] == cell)
        checks.require(
            (same | ~unit.valid).all(),
            f"{unit.what} (level '{unit.name}') has cells here that the earlier pass did not have, "
            "or had in other cells; its batch has to hold all rows of this one",
        )
        numbers.append(cell)
    return tuple(numbers), earlier.parents
