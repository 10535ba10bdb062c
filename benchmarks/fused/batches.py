"""Batches to measure on: padded rows of random length, and packed rows with their padded twin."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import fibdsl
from fibdsl.runtime.layouts import BlockLayout

ROWS_OF_A_GROUP = 8
CELLS_OF_A_CELL = 4
LEVELS = ("uid", "data_source", "corpus", "mixture")
"""Keys of the levels above the trajectory, finest first. Their cells are nested."""


@dataclass(frozen=True)
class Batch:
    """One batch, float32, on one device.

    Attributes:
        logp: (B, T) padded or (N,) packed, a leaf that collects the gradient.
        old_logp, advantages: shape of `logp`.
        mask: 1.0 at tokens, 0.0 at padding, shape of `logp`; `bool_mask` is the same as bool.
        keys: ids, one a row, of each level in `LEVELS`; `state_id`, one a token, where padded.
        starts: int64 (B + 1,), where each row begins in the flat storage.
        cu_seqlens: the same if packed, else None.
        parents: the number of the coarser cell of each cell: of rows, of groups, ...
        tokens: places that count.
    """

    logp: Tensor
    old_logp: Tensor
    advantages: Tensor
    mask: Tensor
    bool_mask: Tensor
    keys: Mapping[str, Tensor]
    starts: Tensor
    cu_seqlens: Tensor | None
    parents: tuple[Tensor, ...]
    tokens: int

    @property
    def places(self) -> int:
        """Tokens and padding: what memory traffic is counted by."""
        return self.logp.numel()

    @functools.cached_property
    def layout(self) -> BlockLayout | None:
        """The block layout of a packed batch; made once, as in training."""
        if self.cu_seqlens is None:
            return None
        return fibdsl.block_layout(self.cu_seqlens, self.places)

    @property
    def rows(self) -> int:
        return self.starts.numel() - 1

    def copy(self) -> Batch:
        """The same values in other memory; ids are shared."""
        return _batch(
            [self.logp.detach().clone(), self.old_logp.clone(), self.advantages.clone()],
            self.mask.clone(),
            self.keys,
            self.starts,
            self.cu_seqlens,
            self.parents,
        )


def padded(rows: int, length: int, device: str = "cpu", *, seed: int = 0) -> Batch:
    """Rows of `length` places; their lengths are uniform from half of it on, so a quarter of all
    places is padding."""
    dice = torch.Generator().manual_seed(seed)
    lengths = torch.randint(max(1, length // 2), length + 1, (rows,), generator=dice)
    tensors = _tokens((rows, length), torch.rand(rows, 1, generator=dice), dice)
    mask = (torch.arange(length) < lengths[:, None]).float()
    keys, parents = _cells(rows)
    # Samples of one prompt that are at the same position share a state.
    position = torch.arange(length)
    keys["state_id"] = (torch.arange(rows) // ROWS_OF_A_GROUP)[:, None] * length + position
    starts = torch.arange(rows + 1) * length
    return _moved(_batch(tensors, mask, keys, starts, None, parents), device)


def packed(rows: int, shortest: int, longest: int, device: str = "cpu") -> tuple[Batch, Batch]:
    """Rows of log-uniform length without padding, and the same rows padded to the longest one."""
    dice = torch.Generator().manual_seed(0)
    span = math.log(longest) - math.log(shortest)
    lengths = torch.exp(torch.rand(rows, generator=dice) * span + math.log(shortest)).long()
    lengths[0] = longest
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    spread = torch.rand(rows, generator=dice).repeat_interleave(lengths)
    tensors = _tokens((int(starts[-1]),), spread, dice)
    keys, parents = _cells(rows)
    ones = torch.ones_like(tensors[0])
    dense = _batch(tensors, ones, keys, starts, starts, parents)

    here = torch.arange(longest) < lengths[:, None]
    wide = [torch.zeros(rows, longest).masked_scatter(here, tensor) for tensor in tensors]
    lines = torch.arange(rows + 1) * longest
    twin = _batch(wide, here.float(), keys, lines, None, parents)
    return _moved(dense, device), _moved(twin, device)


def copies(batch: Batch, cache: int) -> list[Batch]:
    """The batch and as many copies as make a turn through all of them three times `cache` bytes,
    so that none is still in the cache when it comes again."""
    size = 4 * 4 * batch.places
    return [batch, *(batch.copy() for _ in range(math.ceil(3 * cache / size) if cache else 0))]


def _tokens(shape: tuple[int, ...], spread: Tensor, dice: torch.Generator) -> list[Tensor]:
    """logp, old_logp, advantages. Rows differ in how far they have drifted (`spread`, 0 to 1)."""
    old = -3 * torch.rand(shape, generator=dice)
    logp = old + 0.05 * (0.3 + 1.4 * spread) * torch.randn(shape, generator=dice)
    advantages = (2 * spread - 1) + 0.1 * torch.randn(shape, generator=dice)
    return [logp, old, advantages]


def _cells(rows: int) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Ids a row for each level of `LEVELS`, and the parent of each cell level by level."""
    keys: dict[str, Tensor] = {}
    parents: list[Tensor] = []
    row_cells, cells, size = torch.arange(rows), rows, ROWS_OF_A_GROUP
    for name in LEVELS:
        parents.append(torch.arange(cells) // size)
        row_cells, cells, size = row_cells // size, -(-cells // size), CELLS_OF_A_CELL
        keys[name] = row_cells * 7919  # ids need not be small or dense
    return keys, tuple(parents)


def _batch(
    tensors: Sequence[Tensor],
    mask: Tensor,
    keys: Mapping[str, Tensor],
    starts: Tensor,
    cu_seqlens: Tensor | None,
    parents: tuple[Tensor, ...],
) -> Batch:
    logp, old, advantages = tensors
    leaf = logp.detach().requires_grad_()
    tokens = int(mask.sum(dtype=torch.float64))
    here = mask.bool()
    return Batch(leaf, old, advantages, mask, here, keys, starts, cu_seqlens, parents, tokens)


def _moved(batch: Batch, device: str) -> Batch:
    if device == "cpu":
        return batch
    return _batch(
        [t.detach().to(device) for t in (batch.logp, batch.old_logp, batch.advantages)],
        batch.mask.to(device),
        {name: ids.to(device) for name, ids in batch.keys.items()},
        batch.starts.to(device),
        None if batch.cu_seqlens is None else batch.cu_seqlens.to(device),
        tuple(parent.to(device) for parent in batch.parents),
    )
