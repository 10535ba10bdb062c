"""One graph that returns loss, gradient and metrics together: padded and packed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.cells import Budgets, token_budgets
from fibdsl.runtime.checks import Checks, binary
from fibdsl.runtime.contract import Objective
from fibdsl.runtime.layouts import BlockLayout
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
    summed,
)
from fibdsl.runtime.numerics import compute_dtype, kept
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.sharing import Numbering, SharedCells, Sharing, numbering

Sums = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""The sums at shared levels, in the order they are made: those of the loss, those of metrics."""


class Setup(NamedTuple):
    """What the code of a graph depends on.

    Attributes:
        ranks: with whom sums are exchanged inside the graph.
        sharing: which levels are shared.
        keep: whether the sums at shared levels are returned.
        wanted: the names of the metrics to compute, by the level they are a mean over.
    """

    objective: Objective
    ranks: Ranks | None
    sharing: Sharing
    keep: bool
    wanted: dict[str, list[str]]


class Inputs(NamedTuple):
    """The tensors of a call besides logp.

    Attributes:
        ids: the ids of the keyed levels, by level, and of trajectories in pieces.
        layout: of packed tokens, which row each is in.
        cells, earlier: the shared cells of an earlier pass, and their sums.
        tensors: what else the objective reads of each token, by name.
        budgets: what there is to know of budgets of cells.
    """

    old_logp: Tensor
    advantages: Tensor
    mask: Tensor
    params: Tensor
    normalizer: Tensor
    ids: dict[str, Tensor]
    layout: BlockLayout | None
    cells: SharedCells | None
    earlier: Sums | None
    tensors: dict[str, Tensor]
    budgets: Budgets


class Outputs(NamedTuple):
    """What the graph returns. The gradient first: Inductor keeps to the order of results, and sums
    over tokens have to come after the arrays that are made along with them.

    Attributes:
        grad: d loss / d logp, shaped like logp.
        loss: 0-dim.
        metrics: (M,), in the order of `wanted`.
        checks: conditions on the batch, by what is wrong where one does not hold.
        failed: on how many ranks one does not, 0-dim; None where no rank waits for another.
        sums: those kept.
        cells: the shared cells that they are of.
    """

    grad: Tensor
    loss: Tensor
    metrics: Tensor
    checks: dict[str, Tensor]
    failed: Tensor | None = None
    sums: Sums = ((), ())
    cells: SharedCells | None = None


def joint(setup: Setup, logp: Tensor, given: Inputs) -> Outputs:
    """Loss, gradient and metrics of a batch, in one graph."""
    checks = Checks()
    objective, layout = setup.objective, given.layout
    mask = binary(given.mask, checks)
    old_logp, advantages, result = given.old_logp, given.advantages, logp.dtype
    tensors = dict(given.tensors)
    rows: Rows | Blocks
    if layout is None:
        n_rows = logp.shape[0]
        rows = Rows(n_rows, setup.ranks)
    else:
        n_rows = layout.cu_seqlens.shape[0] - 1
        rows = Blocks(layout.row, n_rows, setup.ranks)
        logp, old_logp, advantages = map(layout.take, (logp, old_logp, advantages))
        tensors = {name: layout.take(tensor) for name, tensor in tensors.items()}
        mask = layout.take(mask) & layout.inside()
    numbers = numbering(
        objective, setup.sharing, given.ids, mask, layout, n_rows, setup.ranks, given.cells, checks
    )
    levels = _levels(setup, rows, logp.shape[0], n_rows, numbers)

    dtype = compute_dtype(logp.dtype)
    weight = mask.to(dtype)
    # `where`, never a product: what is under the mask may be NaN.
    x = torch.where(mask, logp.to(dtype) - old_logp.to(dtype), 0.0)
    advantages = torch.where(mask, advantages.to(dtype), 0.0)
    wanted = {"logp": logp, "old_logp": old_logp, **tensors}
    tensors = {name: torch.where(mask, wanted[name].to(dtype), 0.0) for name in objective.tensors}
    if layout is not None:
        # Once, not in each loop over the tokens: indices are looked up and checked.
        x, advantages, weight = kept(x), kept(advantages), kept(weight)
    params, normalizer = given.params.to(dtype), given.normalizer.to(dtype)
    budgets = token_budgets(
        objective,
        given.budgets,
        given.ids,
        params,
        mask,
        layout,
        levels.levels,
        checks,
    )
    tensors |= {f"budget of {level}": budget for level, budget in budgets.items()}

    held: tuple[list[Tensor], list[Tensor]] = ([], [])
    earlier = given.earlier
    here = levels.named(held[0] if setup.keep else None, earlier and earlier[0])
    loss, grad, values = objective.loss(x, advantages, weight, params, here, normalizer, tensors)
    counted = loss.new_zeros((2, 0))
    if setup.wanted or setup.keep:
        here = levels.named(held[1] if setup.keep else None, earlier and earlier[1])
        measured = objective.measure(
            x, advantages, weight, params, here, normalizer, tensors, *values
        )
        if setup.wanted:
            counted = summed(*measured, setup.wanted)
    failed: Tensor | None = None
    if setup.ranks is not None:
        # One exchange, for metrics and mistakes.
        counted, failed = setup.ranks.reduced_with(counted, checks.failed(loss))
    metrics = counted[0] / counted[1].clamp(min=1)
    if layout is not None:
        grad = kept(grad).reshape(-1)[layout.position]
    sums = (tuple(held[0]), tuple(held[1]))
    cells = numbers.shared if setup.keep else None
    return Outputs(grad.to(result), loss, metrics, checks.conditions, failed, sums, cells)


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
    setup: Setup,
    rows: Rows | Blocks,
    lines: int,
    n_rows: int,
    numbers: Numbering,
) -> Levels:
    """For each level, how the next finer one sums into it."""
    ranks, sharing, chain = setup.ranks, setup.sharing, setup.objective.levels
    levels: dict[str, Level] = {"token": Tokens(lines, ranks)}
    keyed, sizes = iter(numbers.parents), iter(numbers.sizes)

    def between(own: Cells | Pieces) -> Level:
        return own if ranks is None else Exchanged(own, ranks)

    for index, (name, _) in enumerate(chain):
        direct = name == "trajectory" and index == 0
        if index == sharing.first:
            cells = Cells(next(keyed), next(sizes))
            levels[name] = between(Pieces(rows, cells) if direct else cells)
        elif index > sharing.first:
            levels[name] = Cells(next(keyed), next(sizes), ranks, shared=True)
        elif direct:
            levels[name] = rows
        else:
            parent = next(keyed)
            # A trajectory above turns, say, is a cell.
            size = n_rows if name == "trajectory" else parent.numel()
            levels[name] = Cells(parent, size, ranks)
    if sharing.beside:
        pieces = Pieces(rows, Cells(next(keyed), next(sizes)))
        levels["trajectory"] = between(pieces)
    levels.setdefault("trajectory", rows)
    return Levels(levels, {name for name, _ in chain[sharing.first :]})
