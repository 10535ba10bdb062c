"""Levels: sums over the children of each cell, and lifts to them."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Padded tokens (B, T) in trajectories (B,)."""

    def sum(self, values: Tensor) -> Tensor:
        return values.sum(-1)

    def lift(self, values: Tensor) -> Tensor:
        return values.unsqueeze(-1)


class Blocks:
    """Packed tokens, in blocks (n, BLOCK) each of one trajectory, in trajectories (B,)."""

    def __init__(self, row: Tensor, rows: int) -> None:
        self.row = row
        self.rows = rows

    def sum(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.rows).index_add(0, self.row, values.sum(-1))

    def lift(self, values: Tensor) -> Tensor:
        return values[self.row].unsqueeze(-1)


class Cells:
    """Cells, or tokens, in the coarser cells that `parent` names.

    There can be no more coarser cells than finer ones, so `size` needs no count of the ids.
    """

    def __init__(self, parent: Tensor, size: int) -> None:
        self.parent = parent
        self.size = size

    def sum(self, values: Tensor) -> Tensor:
        out = values.new_zeros(self.size)
        return out.index_add(0, self.parent.reshape(-1), values.reshape(-1))

    def lift(self, values: Tensor) -> Tensor:
        return values[self.parent]


def present(count: Tensor) -> Tensor:
    """1.0 in cells with members, 0.0 in empty ones."""
    return (count > 0).to(count.dtype)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """The mean over the members of a cell; 0 in an empty one."""
    return total / count.clamp(min=1)


def total(values: Tensor) -> Tensor:
    """The sum of all values (0-dim): row by row first, so that float32 sums stay short."""
    return values.sum() if values.dim() < 2 else values.sum(-1).sum()


def average(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of `values` where `weight` is 1 (0-dim); 0 where there is nothing to average."""
    return total(values * weight) / total(weight).clamp(min=1)


def shares(regime: Tensor, regimes: int, counted: Tensor, weight: Tensor) -> Tensor:
    """The weight `counted` of the cells in each regime, (regimes,), over all of `weight`.

    The first regime has what the others leave, so that each sum runs over the cells once.
    """
    others = [total(torch.where(regime == i, counted, 0.0)) for i in range(1, regimes)]
    first = total(counted) - sum(others)
    return torch.stack([first, *others]) / total(weight).clamp(min=1)
