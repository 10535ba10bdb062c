"""One graph that returns loss, gradient and metrics together: padded and packed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fibdsl.runtime.contract import Objective
from fibdsl.runtime.levels import Blocks, Cells, Rows
from fibdsl.runtime.numerics import compute_dtype


def joint_padded(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    parents: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, d loss / d logp, metrics) of a padded batch, in one graph."""
    levels = _levels(objective, Rows(), logp.shape[0], parents)
    loss, grad, metrics = _joint(
        objective, logp, old_logp, advantages, mask, params, normalizer, levels
    )
    return loss, grad.to(logp.dtype), metrics


def joint_packed(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    parents: tuple[Tensor, ...],
    source: Tensor,
    inside: Tensor,
    row: Tensor,
    position: Tensor,
    cu_seqlens: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for packed tokens (N,), gathered into blocks and back inside the graph."""
    rows = cu_seqlens.shape[0] - 1
    levels = _levels(objective, Blocks(row, rows), rows, parents)
    loss, grad, metrics = _joint(
        objective,
        logp[source],
        old_logp[source],
        advantages[source],
        mask[source] & inside,
        params,
        normalizer,
        levels,
    )
    return loss, grad.reshape(-1)[position].to(logp.dtype), metrics


def _joint(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    levels: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(logp.dtype)
    # `where`, never a product: what is under the mask may be NaN.
    x = torch.where(mask, logp.to(dtype) - old_logp.to(dtype), 0.0)
    advantages = torch.where(mask, advantages.to(dtype), 0.0)
    weight = mask.to(dtype)
    params, normalizer = params.to(dtype), normalizer.to(dtype)

    def loss_of(x: Tensor) -> tuple[Tensor, tuple[Tensor, tuple[Tensor, ...]]]:
        loss, values = objective.loss(x, advantages, weight, params, levels, normalizer)
        return loss, (loss, values)

    grad, (loss, values) = torch.func.grad(loss_of, has_aux=True)(x)
    metrics = objective.measure(x, advantages, weight, params, levels, *values)
    return loss, torch.where(mask, grad, 0.0), metrics


def _levels(
    objective: Objective, rows: Any, n_rows: int, parents: tuple[Tensor, ...]
) -> dict[str, Any]:
    """For each level, how the next finer one sums into it."""
    levels: dict[str, Any] = {}
    names = [name for name, _ in objective.levels]
    keyed = iter(parents)
    for index, name in enumerate(names):
        if name == "trajectory":
            # Directly above the token a trajectory is a row; above turns, say, it is a cell.
            levels[name] = rows if index == 0 else Cells(next(keyed), n_rows)
        else:
            parent = next(keyed)
            levels[name] = Cells(parent, parent.numel())
    levels.setdefault("trajectory", rows)
    return levels
