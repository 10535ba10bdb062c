"""Levels: sums over the children of each cell, lifts to them, and sums over all cells.

With several ranks the cells of a level are either this rank's own, or shared: then every rank has
all of them, with the same values. A sum from own into shared cells is a sum over ranks, of values
and of derivatives alike; within shared cells every rank computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fibdsl.runtime.numerics import kept
from fibdsl.runtime.ranks import Ranks


class Level:
    """What every level can do.

    Args:
        cells: how many cells the level has.
        ranks: the ranks a batch is spread over; None for one.
        shared: whether every rank has all cells of the level.
    """

    def __init__(self, cells: int, ranks: Ranks | None = None, shared: bool = False) -> None:
        self.cells = cells
        self.ranks = ranks
        self.shared = shared

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        """The sums over the children of each cell, of several values."""
        raise NotImplementedError

    def lift(self, values: Tensor) -> Tensor:
        """The value of each cell, for each of its children."""
        raise NotImplementedError

    def collects(self, *values: Tensor) -> Sequence[Tensor]:
        """The same as `sums`, of what is no aggregate: never an earlier pass's."""
        return self.sums(*values)

    def sum(self, values: Tensor) -> Tensor:
        """`sums` of one value."""
        return self.sums(values)[0]

    def collect(self, values: Tensor) -> Tensor:
        """`collects` of one value."""
        return self.collects(values)[0]

    def common(self, values: Tensor) -> Tensor:
        """The positive value that all children of a cell have; 0 where there is none."""
        raise NotImplementedError

    def pull(self, derivatives: Tensor) -> Tensor:
        """The transpose of `sum`; that of `lift` is `collect`."""
        return self.lift(derivatives)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all cells of all ranks (0-dim)."""
        own = total(values)
        return own if self.ranks is None or self.shared else self.ranks.reduced(own)

    def spread(self, derivative: Tensor) -> Tensor:
        """The transpose of `total`: one (0-dim) derivative for each of the cells."""
        return derivative * derivative.new_ones(self.cells)


class Tokens(Level):
    """The tokens themselves, of which `cells` are lines of the layout."""

    def spread(self, derivative: Tensor) -> Tensor:
        # A value a line, though all are alike: what tokens do with it is then one loop with the
        # sums of their lines.
        return kept(super().spread(derivative)).unsqueeze(-1)


class Rows(Level):
    """Padded tokens (B, T) in trajectories (B,)."""

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        return [v.sum(-1) for v in values]

    def common(self, values: Tensor) -> Tensor:
        return values.amax(-1)

    def lift(self, values: Tensor) -> Tensor:
        return kept(values).unsqueeze(-1)


class Blocks(Level):
    """Packed tokens, in blocks (n, BLOCK) each of one trajectory, in trajectories (B,)."""

    def __init__(self, row: Tensor, rows: int, ranks: Ranks | None = None) -> None:
        super().__init__(rows, ranks)
        self.row = row

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        return summed_by(self.row, self.cells, [v.sum(-1) for v in values])

    def common(self, values: Tensor) -> Tensor:
        return largest_by(self.row, self.cells, values.amax(-1))

    def lift(self, values: Tensor) -> Tensor:
        return kept(values[self.row]).unsqueeze(-1)


class Cells(Level):
    """Cells, or tokens, in the coarser cells that `parent` names.

    There can be no more coarser cells than finer ones, so `size` needs no count of the ids.
    """

    def __init__(
        self, parent: Tensor, size: int, ranks: Ranks | None = None, shared: bool = False
    ) -> None:
        super().__init__(size, ranks, shared)
        self.parent = parent

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        return summed_by(self.parent.reshape(-1), self.cells, [v.reshape(-1) for v in values])

    def common(self, values: Tensor) -> Tensor:
        return largest_by(self.parent.reshape(-1), self.cells, values.reshape(-1))

    def lift(self, values: Tensor) -> Tensor:
        return kept(values)[self.parent]


class Pieces(Level):
    """Tokens in trajectories of which a row, or a rank, may hold a piece only."""

    def __init__(self, rows: Rows | Blocks, pieces: Cells) -> None:
        super().__init__(pieces.cells, pieces.ranks, pieces.shared)
        self.rows = rows
        self.pieces = pieces

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        return self.pieces.sums(*self.rows.sums(*values))

    def common(self, values: Tensor) -> Tensor:
        return self.pieces.common(self.rows.common(values))

    def lift(self, values: Tensor) -> Tensor:
        return self.rows.lift(self.pieces.lift(values))


class Exchanged(Level):
    """This rank's cells, or tokens, in cells that every rank has."""

    def __init__(self, own: Cells | Pieces, ranks: Ranks) -> None:
        super().__init__(own.cells, ranks, shared=True)
        self.own = own
        self.between = ranks

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        return self.between.reduced(torch.stack([*self.own.sums(*values)])).unbind()

    def common(self, values: Tensor) -> Tensor:
        return self.between.largest(self.own.common(values))

    def lift(self, values: Tensor) -> Tensor:
        return self.own.lift(values)


class Kept(Level):
    """A level whose sums are kept for later passes, in the order they are made."""

    def __init__(self, level: Level, sums: list[Tensor]) -> None:
        super().__init__(level.cells, level.ranks, level.shared)
        self.level = level
        self.made = sums

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        sums = self.level.sums(*values)
        self.made += sums
        return sums

    def collects(self, *values: Tensor) -> Sequence[Tensor]:
        return self.level.collects(*values)

    def common(self, values: Tensor) -> Tensor:
        return self.level.common(values)

    def lift(self, values: Tensor) -> Tensor:
        return self.level.lift(values)


class Earlier(Level):
    """A level whose sums are those of an earlier pass over the whole batch, without derivative."""

    def __init__(self, level: Level, sums: Iterator[Tensor]) -> None:
        super().__init__(level.cells)
        self.level = level
        self.given = sums

    def sums(self, *values: Tensor) -> Sequence[Tensor]:
        return [next(self.given) for _ in values]

    def collects(self, *values: Tensor) -> Sequence[Tensor]:
        return self.level.sums(*values)

    def common(self, values: Tensor) -> Tensor:
        return self.level.common(values)

    def lift(self, values: Tensor) -> Tensor:
        return self.level.lift(values)

    def pull(self, derivatives: Tensor) -> Tensor:
        return torch.zeros_like(self.level.lift(derivatives))


def summed_by(cell: Tensor, cells: int, values: Sequence[Tensor]) -> Sequence[Tensor]:
    """Of each of several values (n,) the sums over each cell, (cells,).

    In the order of the values, so that the same call gives the same bits.
    """
    if values[0].device.type == "cpu":
        # The one sum by index that Inductor leaves to torch; its own adds as threads arrive.
        return [v.new_zeros(cells).scatter_reduce(0, cell, v, "sum") for v in values]
    return [v.new_zeros(cells).index_add(0, cell, v) for v in values]


def largest_by(cell: Tensor, cells: int, values: Tensor) -> Tensor:
    """Of values (n,), none below 0, the largest in each cell, (cells,)."""
    return values.new_zeros(cells).scatter_reduce(0, cell, values, "amax")


def present(count: Tensor) -> Tensor:
    """1.0 in cells with members, 0.0 in empty ones."""
    return (count > 0).to(count.dtype)


def mean(total: Tensor | float, count: Tensor) -> Tensor:
    """The mean over the members of a cell; 0 in an empty one. Its own transpose."""
    return total / count.clamp(min=1)


def total(values: Tensor) -> Tensor:
    """The sum of all values (0-dim): row by row first, so that float32 sums stay short."""
    return values.sum() if values.dim() < 2 else values.sum(-1).sum()


# --- metrics --------------------------------------------------------------------------------------


def per_line(values: Tensor) -> Tensor:
    """Of tokens the sum of each line of the layout; of cells the values themselves."""
    return values.sum(-1) if values.dim() == 2 else values


def regime_lines(regime: Tensor, regimes: int, counted: Tensor) -> list[Tensor]:
    """The weight `counted` of the cells (per line, of the tokens) in each regime.

    The first regime has what the others leave, so that tokens are gone through once less.
    """
    others = [per_line(torch.where(regime == i, counted, 0.0)) for i in range(1, regimes)]
    return [per_line(counted) - sum(others), *others]


def both(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    """Regime by regime, the cells of two gates."""
    return [a + b for a, b in zip(first, second, strict=True)]


def summed(
    metrics: dict[str, Tensor], weights: dict[str, Tensor], wanted: dict[str, list[str]]
) -> Tensor:
    """The wanted metrics, each a sum and the count to divide it by, (2, M), level by level.

    Not divided yet, so that those of several ranks add up. Of cells that all ranks share each rank
    counts all, in both numbers.
    """
    sums, counts = [], []
    for level, names in wanted.items():
        # One matrix a level: a sum for each metric would be a loop of its own.
        sums.append(torch.stack([metrics[name] for name in names]).sum(-1))
        counts.append(total(weights[level]).expand(len(names)))
    return torch.stack([torch.cat(sums), torch.cat(counts)])
