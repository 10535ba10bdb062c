"""One graph that returns loss, gradient and metrics together: padded and packed."""

from __future__ import annotations

import torch
from torch import Tensor

from fibdsl.runtime.contract import Objective
from fibdsl.runtime.levels import (
    Blocks,
    Cells,
    Earlier,
    Exchanged,
    Kept,
    Level,
    Pieces,
    Rows,
    Tokens,
)
from fibdsl.runtime.numerics import compute_dtype
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.sharing import Sharing

Sums = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""The sums at shared levels, in the order they are made: those of the loss, those of metrics."""


def joint_padded(
    objective: Objective,
    ranks: Ranks | None,
    sharing: Sharing,
    keep: bool,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    parents: tuple[Tensor, ...],
    sizes: tuple[Tensor, ...],
    earlier: Sums | None = None,
) -> tuple[Tensor, Tensor, Tensor, Sums]:
    """(loss, d loss / d logp, metrics, kept sums) of a padded batch, in one graph."""
    levels = _levels(objective, Rows(ranks), logp.shape[0], parents, sizes, ranks, sharing)
    loss, grad, metrics, kept = _joint(
        objective,
        logp,
        old_logp,
        advantages,
        mask,
        params,
        normalizer,
        levels,
        ranks,
        keep,
        earlier,
    )
    return loss, grad.to(logp.dtype), metrics, kept


def joint_packed(
    objective: Objective,
    ranks: Ranks | None,
    sharing: Sharing,
    keep: bool,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    parents: tuple[Tensor, ...],
    sizes: tuple[Tensor, ...],
    source: Tensor,
    inside: Tensor,
    row: Tensor,
    position: Tensor,
    cu_seqlens: Tensor,
    earlier: Sums | None = None,
) -> tuple[Tensor, Tensor, Tensor, Sums]:
    """The same for packed tokens (N,), gathered into blocks and back inside the graph."""
    rows = cu_seqlens.shape[0] - 1
    blocks = Blocks(row, rows, ranks)
    levels = _levels(objective, blocks, rows, parents, sizes, ranks, sharing)
    loss, grad, metrics, kept = _joint(
        objective,
        logp[source],
        old_logp[source],
        advantages[source],
        mask[source] & inside,
        params,
        normalizer,
        levels,
        ranks,
        keep,
        earlier,
    )
    return loss, grad.reshape(-1)[position].to(logp.dtype), metrics, kept


def _joint(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    levels: Levels,
    ranks: Ranks | None,
    keep: bool,
    earlier: Sums | None,
) -> tuple[Tensor, Tensor, Tensor, Sums]:
    dtype = compute_dtype(logp.dtype)
    # `where`, never a product: what is under the mask may be NaN.
    x = torch.where(mask, logp.to(dtype) - old_logp.to(dtype), 0.0)
    advantages = torch.where(mask, advantages.to(dtype), 0.0)
    weight = mask.to(dtype)
    params, normalizer = params.to(dtype), normalizer.to(dtype)

    def loss_of(x: Tensor) -> tuple[Tensor, tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]]:
        # Made in here: what is kept of a differentiated function has to be returned by it.
        sums: list[Tensor] = []
        here = levels.named(sums if keep else None, earlier and earlier[0])
        loss, values = objective.loss(x, advantages, weight, params, here, normalizer)
        return loss, (loss, values, tuple(sums))

    grad, (loss, values, kept) = torch.func.grad(loss_of, has_aux=True)(x)
    sums: list[Tensor] = []
    here = levels.named(sums if keep else None, earlier and earlier[1])
    counted = objective.measure(x, advantages, weight, params, here, *values)
    if ranks is not None:
        counted = ranks.reduced(counted)
    metrics = counted[0] / counted[1].clamp(min=1)
    return loss, torch.where(mask, grad, 0.0), metrics, (kept, tuple(sums))


class Levels:
    """The levels of one call, and which of them are shared."""

    def __init__(self, levels: dict[str, Level], shared: set[str]) -> None:
        self.levels = levels
        self.shared = shared

    def named(
        self, kept: list[Tensor] | None, earlier: tuple[Tensor, ...] | None
    ) -> dict[str, Level]:
        """By name; sums of shared ones kept in `kept`, or taken from `earlier` in their order."""
        if kept is None and earlier is None:
            return self.levels
        sums = iter(earlier or ())
        return {
            name: level
            if name not in self.shared
            else Earlier(level, sums)
            if earlier is not None
            else Kept(level, kept if kept is not None else [])
            for name, level in self.levels.items()
        }


def _levels(
    objective: Objective,
    rows: Rows | Blocks,
    n_rows: int,
    parents: tuple[Tensor, ...],
    sizes: tuple[Tensor, ...],
    ranks: Ranks | None,
    sharing: Sharing,
) -> Levels:
    """For each level, how the next finer one sums into it."""
    levels: dict[str, Level] = {"token": Tokens(ranks)}
    keyed, lengths = iter(parents), iter(sizes)

    def between(own: Cells | Pieces) -> Level:
        return own if ranks is None else Exchanged(own, ranks)

    for index, (name, _) in enumerate(objective.levels):
        direct = name == "trajectory" and index == 0
        if index == sharing.first:
            cells = Cells(next(keyed), next(lengths).numel())
            levels[name] = between(Pieces(rows, cells) if direct else cells)
        elif index > sharing.first:
            levels[name] = Cells(next(keyed), next(lengths).numel(), ranks, shared=True)
        elif direct:
            levels[name] = rows
        else:
            parent = next(keyed)
            # A trajectory above turns, say, is a cell.
            size = n_rows if name == "trajectory" else parent.numel()
            levels[name] = Cells(parent, size, ranks)
    if sharing.beside:
        pieces = Pieces(rows, Cells(next(keyed), next(lengths).numel()))
        levels["trajectory"] = between(pieces)
    levels.setdefault("trajectory", rows)
    return Levels(levels, {name for name, _ in objective.levels[sharing.first :]})
