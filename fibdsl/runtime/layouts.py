"""Where each token and each cell is: packed rows cut into blocks, ids turned into cell numbers.

Nothing here reads a size or an id from the device, so that all of it can be part of a graph: arrays
of cells are as large as the next finer level, whose count they cannot exceed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.checks import Checks, check_offsets

BLOCK = 128
"""Tokens a block of the packed layout: rows are cut into blocks, each summed densely."""


class BlockLayout(NamedTuple):
    """Packed tokens cut into blocks of BLOCK places, none of which holds tokens of two rows.

    A block is read as BLOCK tokens that follow one another, and not all of them are its own: a row
    ends inside it, or the batch does.

    Attributes:
        start: the token at the first place of each block, int64 (n,).
        first, end: the places that are the block's own, from `first` up to `end`, int32 (n,).
        row: the row of each block, int64 (n,).
        position: the place of each token among the blocks, int64 (N,).
        cu_seqlens: what it was made from, int64 (B + 1,).
    """

    start: Tensor
    first: Tensor
    end: Tensor
    row: Tensor
    position: Tensor
    cu_seqlens: Tensor

    def take(self, tokens: Tensor) -> Tensor:
        """Packed values, at least BLOCK, block by block, (n, BLOCK); neighbours' where not own."""
        # A row of this view is a run of tokens, and is loaded as one.
        return tokens.unfold(0, BLOCK, 1)[self.start]

    def inside(self) -> Tensor:
        """Which places are the block's own, bool (n, BLOCK)."""
        place = torch.arange(BLOCK, dtype=torch.int32, device=self.start.device)
        return (place >= self.first[:, None]) & (place < self.end[:, None])


def block_layout(cu_seqlens: Tensor, tokens: int) -> BlockLayout:
    """The layout of packed tokens, to be made once for all calls on a batch.

    Args:
        cu_seqlens: row offsets from 0 to N, int32 or int64 (B + 1,).
        tokens: N. It and B give the number of blocks, so no count is read from the device.

    Raises:
        ValueError, TypeError: `cu_seqlens` are not the offsets of so many tokens.
    """
    check_offsets(cu_seqlens, tokens)
    cu = cu_seqlens.to(torch.int64)
    rows = cu.shape[0] - 1
    lengths = cu[1:] - cu[:-1]
    ends = ((lengths + BLOCK - 1) // BLOCK).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    n = tokens // BLOCK + rows  # at least the sum of ceil(length / BLOCK)
    block = torch.arange(n, device=cu.device)
    row = torch.searchsorted(ends, block, right=True)
    used = row < rows
    row = row.clamp(max=rows - 1)
    wanted = torch.where(used, cu[row] + (block - starts[row]) * BLOCK, 0)
    own = torch.where(used, (cu[row + 1] - wanted).clamp(max=BLOCK), 0)
    # The last blocks reach back, so that none reads beyond the batch.
    start = wanted.clamp(max=max(tokens, BLOCK) - BLOCK)
    first = wanted - start
    shift = torch.repeat_interleave(starts * BLOCK - cu[:-1], lengths, output_size=tokens)
    position = torch.arange(tokens, device=cu.device) + shift
    tail = torch.arange(max(tokens - BLOCK, 0), tokens, device=cu.device)
    last = torch.searchsorted(cu[1:].contiguous(), tail, right=True).clamp(max=rows - 1)
    position[tail] += first[starts[last] + (tail - cu[last]) // BLOCK]
    own = first + own
    return BlockLayout(start, first.to(torch.int32), own.to(torch.int32), row, position, cu)


def layout_of(cu_seqlens: Tensor | BlockLayout, tokens: Tensor) -> BlockLayout:
    """The layout of packed tokens, made here or before.

    Raises:
        ValueError, TypeError: as `block_layout`; a layout of other tokens.
    """
    if isinstance(cu_seqlens, tuple):
        # One made by another module that carries its own copy of this file is as good. Tensors of
        # its own, because `_expect_large` marks what it is given, and layouts are used again.
        layout = BlockLayout(*(tensor.detach() for tensor in cu_seqlens))
        if layout.position.shape != tokens.shape:
            raise ValueError(
                f"this block layout is of {layout.position.shape[0]} tokens, but logp has "
                f"{tokens.shape[0]}; make one for each batch"
            )
        cu_seqlens = layout.cu_seqlens
    else:
        layout = None
    if isinstance(cu_seqlens, Tensor) and cu_seqlens.device != tokens.device:
        raise ValueError(f"cu_seqlens is on {cu_seqlens.device}, but logp is on {tokens.device}")
    return layout or block_layout(cu_seqlens, tokens.shape[0])


def padded_to_block(tokens: Tensor) -> Tensor:
    """Packed values, as many as `BlockLayout.take` needs at least."""
    missing = BLOCK - tokens.shape[0]
    return torch.nn.functional.pad(tokens, (0, missing)) if missing > 0 else tokens


def parent_cells(
    levels: Sequence[tuple[str, str | None]],
    ids: Mapping[str, Tensor],
    valid: Tensor,
    layout: BlockLayout | None,
    rows: int,
    checks: Checks,
) -> tuple[Tensor, ...]:
    """For each keyed level (and for a trajectory above one) the cell that each finer cell is in.

    `levels` is the chain from the first level above the token, `ids` those of keyed levels (as
    `level_ids`), `valid` the places that hold a token that counts, (lines, width). Cells are
    numbered from 0; numbers not used are empty cells. Checks that every cell lies in one coarser
    cell.
    """
    if not any(key for _, key in levels):
        return ()
    row = row_of(valid, layout)
    names = [name for name, _ in levels]
    inner = names[: names.index("trajectory")] if "trajectory" in names else []
    parents: list[Tensor] = []
    # The cell of each unit at the level reached, and which units count. Units are tokens up to the
    # trajectory and rows from there on: above it nothing is as large as the batch.
    own: Tensor | None = None
    finer = "token"
    per_token = True
    tokens = valid
    for name, key in levels:
        if key is None:
            if own is not None:
                what = "the rows of the batch"
                parents.append(_parent(own, row, valid, what, name, finer, checks))
            valid = row_any(tokens, layout, rows)
            own = torch.arange(rows, device=valid.device)
            per_token = False
        else:
            what = f"keys['{key}']"
            units = f"{what} (level '{name}')"
            given = of_units(ids[name], per_token, tokens, layout, rows, units, checks)
            cell = _number(given, row if name in inner else None)
            if own is None:
                parents.append(cell)
            else:
                parents.append(_parent(own, cell, valid, what, name, finer, checks))
            own = cell
        finer = name
    return tuple(parents)


def raw_ids(
    levels: Sequence[tuple[str, str | None]],
    keys: Mapping[str, Tensor],
    rows: int,
    mask: Tensor,
    layout: BlockLayout | None,
) -> dict[str, Tensor]:
    """The ids of all keyed levels (`level_ids`), by level."""
    ids: dict[str, Tensor] = {}
    per_token = True
    for name, key in levels:
        if key is None:
            per_token = False
        else:
            # A tensor of its own for each level: one that two keys share would be another graph.
            given = level_ids(name, key, keys, rows, mask, layout, per_token)
            ids[name] = given.detach()
    return ids


def row_of(valid: Tensor, layout: BlockLayout | None) -> Tensor:
    """The row that each place of the (padded or block) layout is in, (lines, width)."""
    if layout is not None:
        return layout.row[:, None].expand_as(valid)
    row = torch.arange(valid.shape[0], device=valid.device)
    # Not expanded: whether a view can be flattened would depend on whether the width is 1; and not
    # with 0 added, which Inductor takes out where the width is.
    return torch.maximum(row[:, None], torch.zeros_like(valid, dtype=row.dtype))


def of_units(
    ids: Tensor,
    per_token: bool,
    tokens: Tensor,
    layout: BlockLayout | None,
    rows: int,
    what: str,
    checks: Checks,
) -> Tensor:
    """The ids of units, which are tokens or rows, from ids given one a token or one a row."""
    if ids.dim() == 1 and per_token:
        return (ids if layout is None else ids[layout.row])[:, None].expand_as(tokens)
    if ids.dim() != 1 and not per_token:
        return _row_ids(ids, tokens, layout, rows, what, checks)
    return ids


def level_ids(
    name: str,
    key: str,
    keys: Mapping[str, Tensor],
    rows: int,
    mask: Tensor,
    layout: BlockLayout | None,
    per_token: bool,
) -> Tensor:
    """The ids of a keyed level, int64: (rows,), or one a token, (lines, width). Where B = N,
    `per_token` says which is meant."""
    what = f"keys['{key}'] (level '{name}')"
    if key not in keys:
        given = ", ".join(f"'{k}'" for k in keys) or "none"
        raise ValueError(
            f"keys['{key}'] is missing: level '{name}' takes its cells from it "
            f"(keys given: {given})"
        )
    ids = keys[key]
    if not isinstance(ids, Tensor):
        raise TypeError(f"{what} is a {type(ids).__name__}; give an integer tensor")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{what} is {ids.dtype}; ids are integers")
    if ids.device != mask.device:
        raise ValueError(f"{what} is on {ids.device}, but mask is on {mask.device}")
    shape = tuple(ids.shape)
    if shape == (rows,) and not (per_token and ids.shape == mask.shape):
        return ids.to(torch.int64)
    if ids.shape == mask.shape:
        return (
            ids.to(torch.int64)
            if layout is None
            else layout.take(padded_to_block(ids.to(torch.int64)))
        )
    raise ValueError(
        f"{what} has shape {shape}; give ({rows},), one id a trajectory, or "
        f"{tuple(mask.shape)}, one a token"
    )


def row_any(valid: Tensor, layout: BlockLayout | None, rows: int) -> Tensor:
    """Whether any token of each row counts, bool (rows,)."""
    return _row_largest(valid.to(torch.float32).sum(-1), 0, layout, rows) > 0


def _row_ids(
    ids: Tensor, valid: Tensor, layout: BlockLayout | None, rows: int, what: str, checks: Checks
) -> Tensor:
    """The one id of each row from an id a token; an error if a row has several."""
    low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    largest = _row_largest(torch.where(valid, ids, low).amax(-1), low, layout, rows)
    # ~x falls where x rises, and has no overflow as -x has.
    smallest = ~_row_largest((~torch.where(valid, ids, high)).amax(-1), low, layout, rows)
    checks.require(
        ((largest == smallest) | ~row_any(valid, layout, rows)).all(),
        f"{what} splits a trajectory: two of its tokens have different ids; "
        "each trajectory must lie in one cell",
    )
    return largest


def _row_largest(lines: Tensor, least: int, layout: BlockLayout | None, rows: int) -> Tensor:
    """The largest value of each row, of one value a line; `least` in rows without lines."""
    if layout is None:
        return lines
    return lines.new_full((rows,), least).scatter_reduce(0, layout.row, lines, "amax")


def _number(ids: Tensor, within: Tensor | None) -> Tensor:
    """Equal ids (within equal `within`) to equal numbers 0, 1, ... < numel, by sorting: the
    result's size does not depend on how many there are."""
    flat = ids.reshape(-1)
    order = torch.argsort(flat, stable=True)
    if within is not None:
        order = order[torch.argsort(within.reshape(-1)[order], stable=True)]
    ordered = flat[order]
    new = ordered[1:] != ordered[:-1]
    if within is not None:
        ordered = within.reshape(-1)[order]
        new = new | (ordered[1:] != ordered[:-1])
    rank = torch.cat([new.new_zeros(1), new]).cumsum(0)
    return torch.empty_like(flat).scatter(0, order, rank).view_as(ids)


def _parent(
    own: Tensor, cell: Tensor, valid: Tensor, what: str, name: str, finer: str, checks: Checks
) -> Tensor:
    """The coarser cell of each finer cell, one for each number a finer cell can have; 0 for empty
    ones. `own` and `cell` give the finer and the coarser cell of each unit."""
    candidate = torch.where(valid, cell, -1).reshape(-1)
    parent = candidate.new_full((own.numel(),), -1)
    parent = parent.scatter_reduce(0, own.reshape(-1), candidate, "amax").clamp(min=0)
    checks.require(
        ((parent[own] == cell) | ~valid).all(),
        f"{what} (level '{name}') splits a cell of level '{finer}': two members of one "
        f"'{finer}' are in different cells of '{name}'; each cell must lie in one coarser cell",
    )
    return parent
