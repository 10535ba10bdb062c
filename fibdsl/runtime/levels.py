"""Levels: sums over the children of each cell, lifts to them, and sums over all cells.

With several ranks the cells of a level are either this rank's own, or shared: then every rank has
all of them, with the same values. A sum from own into shared cells is a sum over ranks, and a lift
back shares out what depends on a shared value; within shared cells every rank computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fibdsl.runtime.ranks import Ranks


class Level:
    """What every level can do.

    Args:
        ranks: the ranks a batch is spread over; None for one.
        shared: whether every rank has all cells of the level.
    """

    def __init__(self, ranks: Ranks | None = None, shared: bool = False) -> None:
        self.ranks = ranks
        self.shared = shared

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the children of each cell."""
        raise NotImplementedError

    def lift(self, values: Tensor) -> Tensor:
        """The value of each cell, for each of its children."""
        raise NotImplementedError

    def collect(self, values: Tensor) -> Tensor:
        """The same as `sum`, of what is no aggregate: never an earlier pass's."""
        return self.sum(values)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all cells of all ranks (0-dim)."""
        own = total(values)
        return own if self.ranks is None or self.shared else self.ranks.sum(own)

    def average(self, values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Of the mean of `values` where `weight` is 1: sum and count; those of all ranks add up."""
        return self.fraction(total(values * weight), weight)

    def fraction(self, counted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """`counted` of all cells with weight 1, as sum and count."""
        # Of shared cells every rank counts all: both numbers, so their quotient is the same.
        return counted, total(weight)


class Tokens(Level):
    """The tokens themselves."""


class Rows(Level):
    """Padded tokens (B, T) in trajectories (B,)."""

    def sum(self, values: Tensor) -> Tensor:
        return values.sum(-1)

    def lift(self, values: Tensor) -> Tensor:
        return values.unsqueeze(-1)


class Blocks(Level):
    """Packed tokens, in blocks (n, BLOCK) each of one trajectory, in trajectories (B,)."""

    def __init__(self, row: Tensor, rows: int, ranks: Ranks | None = None) -> None:
        super().__init__(ranks)
        self.row = row
        self.rows = rows

    def sum(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.rows).index_add(0, self.row, values.sum(-1))

    def lift(self, values: Tensor) -> Tensor:
        return values[self.row].unsqueeze(-1)


class Cells(Level):
    """Cells, or tokens, in the coarser cells that `parent` names.

    There can be no more coarser cells than finer ones, so `size` needs no count of the ids.
    """

    def __init__(
        self, parent: Tensor, size: int, ranks: Ranks | None = None, shared: bool = False
    ) -> None:
        super().__init__(ranks, shared)
        self.parent = parent
        self.size = size

    def sum(self, values: Tensor) -> Tensor:
        out = values.new_zeros(self.size)
        return out.index_add(0, self.parent.reshape(-1), values.reshape(-1))

    def lift(self, values: Tensor) -> Tensor:
        return values[self.parent]


class Pieces(Level):
    """Tokens in trajectories of which a row, or a rank, may hold a piece only."""

    def __init__(self, rows: Rows | Blocks, pieces: Cells) -> None:
        super().__init__(pieces.ranks, pieces.shared)
        self.rows = rows
        self.pieces = pieces

    def sum(self, values: Tensor) -> Tensor:
        return self.pieces.sum(self.rows.sum(values))

    def lift(self, values: Tensor) -> Tensor:
        return self.rows.lift(self.pieces.lift(values))


class Exchanged(Level):
    """This rank's cells, or tokens, in cells that every rank has."""

    def __init__(self, own: Cells | Pieces, ranks: Ranks) -> None:
        super().__init__(ranks, shared=True)
        self.own = own
        self.between = ranks

    def sum(self, values: Tensor) -> Tensor:
        return self.between.sum(self.own.sum(values))

    def lift(self, values: Tensor) -> Tensor:
        return self.own.lift(self.between.share(values))


class Kept(Level):
    """A level whose sums are kept for later passes, in the order they are made."""

    def __init__(self, level: Level, sums: list[Tensor]) -> None:
        super().__init__(level.ranks, level.shared)
        self.level = level
        self.sums = sums

    def sum(self, values: Tensor) -> Tensor:
        self.sums.append(self.level.sum(values))
        return self.sums[-1]

    def collect(self, values: Tensor) -> Tensor:
        return self.level.collect(values)

    def lift(self, values: Tensor) -> Tensor:
        return self.level.lift(values)


class Earlier(Level):
    """A level whose sums are those of an earlier pass over the whole batch, without derivative."""

    def __init__(self, level: Level, sums: Iterator[Tensor]) -> None:
        super().__init__()
        self.level = level
        self.sums = sums

    def sum(self, values: Tensor) -> Tensor:
        return next(self.sums)

    def collect(self, values: Tensor) -> Tensor:
        return self.level.sum(values)

    def lift(self, values: Tensor) -> Tensor:
        return self.level.lift(values)


def present(count: Tensor) -> Tensor:
    """1.0 in cells with members, 0.0 in empty ones."""
    return (count > 0).to(count.dtype)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """The mean over the members of a cell; 0 in an empty one."""
    return total / count.clamp(min=1)


def total(values: Tensor) -> Tensor:
    """The sum of all values (0-dim): row by row first, so that float32 sums stay short."""
    return values.sum() if values.dim() < 2 else values.sum(-1).sum()


def sums_and_counts(metrics: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """All metrics, each a sum and the count to divide it by, (2, M)."""
    sums, counts = zip(*metrics.values(), strict=True)
    return torch.stack([torch.stack(sums), torch.stack(counts)])


def regime_counts(regime: Tensor, regimes: int, counted: Tensor) -> Tensor:
    """The weight `counted` of the cells in each regime, (regimes,).

    The first regime has what the others leave, so that each sum runs over the cells once.
    """
    others = [total(torch.where(regime == i, counted, 0.0)) for i in range(1, regimes)]
    first = total(counted) - sum(others)
    return torch.stack([first, *others])
