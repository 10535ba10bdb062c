"""A batch as the reference sees it: the tokens that count, and the cells they are in.

Masked positions are left out at once, so nothing under the mask can matter; a cell exists only if
a token is in it, so there are no empty cells to treat specially.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibc.gates.use import cell_budget_name
from fibdsl.types import BATCH, TOKEN, TRAJECTORY, Level

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class BatchError(ValueError):
    """A tensor of a batch is missing, of the wrong shape or type, or contradicts another."""


def budget_entry(level: str) -> str:
    """What the budgets of the cells of a level are called in a batch file."""
    return f"budgets.{level}"


@dataclass(frozen=True)
class Table:
    """The budgets of the cells of a level, by their ids.

    Attributes:
        otherwise: of all ids that are not in `values`; None: there may be none.
        names: of the cells, for messages.
    """

    values: Mapping[int, float]
    otherwise: float | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """The valid tokens of a batch, in order, n of them.

    Attributes:
        log_ratio: logp - old_logp, nats, float64 (n,).
        tensors: other values of each token, by name: log-probabilities, budgets; float64 (n,).
        advantages: float64 (n,).
        sizes: the number of cells at each level, `token` and `batch` included.
        parents: for each (fine, coarse) pair of neighbouring levels, the coarse cell of each fine
            cell, int64 (sizes[fine],).
        where: positions of the valid tokens in the flattened token tensors, int64 (n,).
        shape: shape of the token tensors, (B, T) or (N,).
    """

    log_ratio: Floats
    advantages: Floats
    sizes: dict[str, int]
    parents: dict[tuple[str, str], Ints]
    where: Ints
    shape: tuple[int, ...]
    tensors: dict[str, Floats]

    def tensor(self, name: str) -> Floats:
        """A tensor of the batch, at the valid tokens."""
        return self.advantages if name == "advantages" else self.tensors[name]

    def scatter(self, values: Floats) -> Floats:
        """Values of the valid tokens put back into a token tensor, 0 elsewhere."""
        full = np.zeros(int(np.prod(self.shape)))
        full[self.where] = values
        return full.reshape(self.shape)


def make_batch(
    levels: Sequence[Level],
    logp: Any,
    old_logp: Any,
    advantages: Any,
    mask: Any,
    keys: Mapping[str, Any] | None = None,
    cu_seqlens: Any = None,
    tensors: Mapping[str, Any] | None = None,
    budgets: Mapping[str, Any] | None = None,
) -> Batch:
    """Checks the tensors of a batch against a chain of levels.

    Args:
        levels: the chain, fine to coarse.
        logp, old_logp: log-probabilities of the sampled tokens, nats, (B, T) or packed (N,).
        advantages: shape of `logp`.
        mask: bool or 0/1, shape of `logp`; what is under 0 never matters.
        keys: integer ids, (B,) per trajectory or shaped like `logp`; `trajectory`, (B,), where
            rows are pieces: those of equal ids are one trajectory.
        cu_seqlens: for packed tensors, the B + 1 row offsets from 0 to N.
        tensors: others with a value a token, by name, as `rollout_logp`: shape of `logp`.
        budgets: of the cells of levels, by level: a `Table`, or budgets, (B,) per trajectory or
            shaped like `logp`, above 0 and the same in all of a cell.

    Raises:
        BatchError: naming the tensor and the level.
    """
    tokens = {
        "logp": np.asarray(logp),
        "old_logp": np.asarray(old_logp),
        "advantages": np.asarray(advantages),
        "mask": np.asarray(mask),
        **{name: np.asarray(tensor) for name, tensor in (tensors or {}).items()},
    }
    shape = tokens["logp"].shape
    rows = _rows(shape, cu_seqlens)
    for name, tensor in tokens.items():
        if tensor.shape != shape:
            raise BatchError(
                f"{name} has shape {tensor.shape}, but logp has {shape}; they must agree"
            )
        if name != "mask" and not np.issubdtype(tensor.dtype, np.floating):
            raise BatchError(f"{name} is {tensor.dtype}; give a floating-point tensor")
    valid = _mask(tokens["mask"])
    where = np.flatnonzero(valid)
    with np.errstate(all="ignore"):
        x = tokens["logp"].astype(np.float64) - tokens["old_logp"].astype(np.float64)
    sizes, parents = _cells(levels, keys or {}, rows, where, shape)

    def valid_ones(name: str) -> Floats:
        return tokens[name].astype(np.float64).reshape(-1)[where]

    found = {name: valid_ones(name) for name in ("logp", "old_logp", *(tensors or {}))}
    below = _below_trajectory([level.name for level in levels])
    cell = np.arange(len(where))
    for finer, level in itertools.pairwise(levels):
        cell = parents[finer.name, level.name][cell]
        given = (budgets or {}).get(level.name)
        if isinstance(given, Table):
            ids = _ids(level, keys or {}, rows, where, shape, level.name in below)
            found[cell_budget_name(level.name)] = _by_id(level, given, ids)
        elif given is not None:
            values = _given(level, np.asarray(given), rows, where, shape, level.name in below)
            found[cell_budget_name(level.name)] = _in_cells(level, values, cell)
    return Batch(
        x.reshape(-1)[where],
        valid_ones("advantages"),
        sizes,
        parents,
        where,
        shape,
        found,
    )


@dataclass(frozen=True)
class _Rows:
    count: int
    of_token: Ints


def _rows(shape: tuple[int, ...], cu_seqlens: Any) -> _Rows:
    if cu_seqlens is None:
        if len(shape) != 2:
            raise BatchError(
                f"logp has shape {shape}: padded tensors are (B, T), and packed ones (N,) "
                "need cu_seqlens"
            )
        return _Rows(shape[0], np.repeat(np.arange(shape[0]), shape[1]))
    cu = np.asarray(cu_seqlens)
    if len(shape) != 1:
        raise BatchError(f"logp has shape {shape}, but with cu_seqlens it must be packed, (N,)")
    if cu.ndim != 1 or cu.size < 2 or not np.issubdtype(cu.dtype, np.integer):
        raise BatchError(
            f"cu_seqlens is {cu.dtype} of shape {cu.shape}; it is the B + 1 integer row offsets"
        )
    if cu[0] != 0 or cu[-1] != shape[0] or (np.diff(cu) < 0).any():
        raise BatchError(f"cu_seqlens must rise from 0 to the {shape[0]} tokens of logp")
    lengths = np.diff(cu)
    return _Rows(len(lengths), np.repeat(np.arange(len(lengths)), lengths))


def _mask(mask: NDArray[Any]) -> NDArray[np.bool_]:
    if mask.dtype == np.bool_:
        return mask
    if not np.isin(mask, (0, 1)).all():
        raise BatchError("mask has values other than 0 and 1; weights do not belong into it")
    return np.asarray(mask != 0)


def _ids(
    level: Level,
    keys: Mapping[str, Any],
    rows: _Rows,
    where: Ints,
    shape: tuple[int, ...],
    per_token: bool,
) -> Ints:
    """The id of each valid token at `level`. Where B = N, `per_token` says which shape is meant."""
    assert level.key is not None
    if level.key not in keys:
        given = ", ".join(f"'{k}'" for k in keys) or "none"
        raise BatchError(
            f"keys['{level.key}'] is missing: level '{level.name}' takes its cells from it "
            f"(keys given: {given})"
        )
    ids = np.asarray(keys[level.key])
    what = f"keys['{level.key}'] (level '{level.name}')"
    if not np.issubdtype(ids.dtype, np.integer):
        raise BatchError(f"{what} is {ids.dtype}; ids are integers")
    if ids.shape == (rows.count,) and not (per_token and ids.shape == shape):
        return ids[rows.of_token[where]].astype(np.int64)
    if ids.shape == shape:
        return ids.reshape(-1)[where].astype(np.int64)
    raise BatchError(
        f"{what} has shape {ids.shape}; give ({rows.count},), one id a trajectory, or {shape}, "
        "one a token"
    )


def _below_trajectory(names: Sequence[str]) -> Sequence[str]:
    """The levels that are looked for token by token."""
    return names[: names.index(TRAJECTORY)] if TRAJECTORY in names else names


def _by_id(level: Level, table: Table, ids: Ints) -> Floats:
    """The budget of each valid token, by the id of its cell."""
    budgets = np.full(ids.shape, np.nan if table.otherwise is None else table.otherwise)
    for number, budget in table.values.items():
        budgets[ids == number] = budget
    if table.otherwise is None:
        for number in ids[~np.isin(ids, list(table.values))][:1]:
            raise BatchError(
                f"keys['{level.key}'] (level '{level.name}') has the id {number}, which none of "
                f"{', '.join(table.names)} has, and there is no budget for other cells, `else`"
            )
    return budgets


def _given(
    level: Level,
    budgets: NDArray[Any],
    rows: _Rows,
    where: Ints,
    shape: tuple[int, ...],
    per_token: bool,
) -> Floats:
    """The budget of each valid token, from one a row or a token."""
    what = f"budgets['{level.name}']"
    if not np.issubdtype(budgets.dtype, np.floating):
        raise BatchError(f"{what} is {budgets.dtype}; give a floating-point tensor")
    if budgets.shape == (rows.count,) and not (per_token and budgets.shape == shape):
        found = budgets[rows.of_token[where]]
    elif budgets.shape == shape:
        found = budgets.reshape(-1)[where]
    else:
        raise BatchError(
            f"{what} has shape {budgets.shape}; give ({rows.count},), one budget a trajectory, or "
            f"{shape}, one a token"
        )
    if not (found > 0).all():
        raise BatchError(f"{what} has values that are not positive; a budget is a magnitude")
    return found.astype(np.float64)


def _in_cells(level: Level, budgets: Floats, cell: Ints) -> Floats:
    """Budgets that are one in each cell."""
    first = np.zeros(int(cell.max(initial=-1)) + 1)
    first[cell] = budgets
    if (first[cell] != budgets).any():
        raise BatchError(
            f"budgets['{level.name}'] has several values in one cell of level '{level.name}'"
        )
    return budgets


def _cells(
    levels: Sequence[Level],
    keys: Mapping[str, Any],
    rows: _Rows,
    where: Ints,
    shape: tuple[int, ...],
) -> tuple[dict[str, int], dict[tuple[str, str], Ints]]:
    row = _trajectories(levels, keys, rows)[rows.of_token[where]]
    names = [level.name for level in levels]
    per_token = _below_trajectory(names)
    below = per_token if TRAJECTORY in names else ()
    cell = {TOKEN: np.arange(len(where)), BATCH: np.zeros(len(where), np.int64)}
    cell[TRAJECTORY] = _number(row)
    for level in levels:
        if level.key is not None:
            ids = _ids(level, keys, rows, where, shape, level.name in per_token)
            # Ids of levels inside a trajectory count within it.
            cell[level.name] = _number(row, ids) if level.name in below else _number(ids)
    sizes = {name: int(cells.max(initial=-1)) + 1 for name, cells in cell.items()}
    sizes[BATCH] = 1
    pairs = [*itertools.pairwise(names), *((name, BATCH) for name in names)]
    if TRAJECTORY not in names:
        pairs += [(TOKEN, TRAJECTORY), (TRAJECTORY, BATCH)]
    by_name = {level.name: level for level in levels}
    parents = {}
    for fine, coarse in pairs:
        parent = np.zeros(sizes[fine], np.int64)
        # Backwards, so that the first token of a cell decides and a later one contradicts it.
        parent[cell[fine][::-1]] = cell[coarse][::-1]
        wrong = np.flatnonzero(parent[cell[fine]] != cell[coarse])
        if wrong.size:
            token = int(wrong[0])
            raise BatchError(
                f"keys['{by_name[coarse].key}'] (level '{coarse}') splits a cell of level "
                f"'{fine}': trajectory {row[token]} puts it into another '{coarse}' than an "
                "earlier token does; each cell must lie in one coarser cell"
            )
        parents[fine, coarse] = parent
    return sizes, parents


def _trajectories(levels: Sequence[Level], keys: Mapping[str, Any], rows: _Rows) -> Ints:
    """The trajectory of each row: itself, or the one that it is a piece of."""
    if TRAJECTORY not in keys or any(level.key == TRAJECTORY for level in levels):
        return np.arange(rows.count)
    ids = np.asarray(keys[TRAJECTORY])
    if ids.shape != (rows.count,) or not np.issubdtype(ids.dtype, np.integer):
        raise BatchError(
            f"keys['{TRAJECTORY}'] is {ids.dtype} of shape {ids.shape}; it has one integer for "
            f"each of the {rows.count} rows, equal for pieces of one trajectory"
        )
    return _number(ids)


def _number(*ids: Ints) -> Ints:
    """Equal ids (or tuples of ids) to equal numbers 0, 1, 2, ..."""
    if not len(ids[0]):
        return np.zeros(0, np.int64)
    _, numbers = np.unique(np.stack(ids), axis=1, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)
