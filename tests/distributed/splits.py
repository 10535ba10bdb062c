"""Batches dealt out to ranks and cut into micro-batches, and what the parts say put together."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.compiled.cases import Case, Result


def take(case: Case, rows: Tensor) -> Case:
    """Some rows of a batch, in this order."""
    logp, old, advantages, mask = (tensor[rows] for tensor in case.tokens)
    keys = {name: ids[rows] for name, ids in case.keys.items()}
    return Case(logp, old, advantages, mask, keys)


def in_pieces(case: Case, rng: random.Random) -> tuple[Case, Tensor]:
    """Each row cut into one to three pieces at random places, and the row that each is of.

    The pieces are in a random order. What another piece has is NaN.
    """
    count, width = case.mask.shape
    place = torch.arange(width)
    masks, row_of = [], []
    for row in range(count):
        ends = sorted(rng.randint(0, width) for _ in range(rng.randint(0, 2)))
        for start, end in zip([0, *ends], [*ends, width], strict=True):
            masks.append(case.mask[row] & (place >= start) & (place < end))
            row_of.append(row)
    order = torch.tensor(rng.sample(range(len(masks)), len(masks)))
    mask, rows = torch.stack(masks)[order], torch.tensor(row_of)[order]
    taken = take(case, rows)
    logp, old, advantages = (t.masked_fill(~mask, torch.nan) for t in taken.tokens[:3])
    names = torch.tensor(rng.sample(range(-(2**40), 2**40), count))
    return Case(logp, old, advantages, mask, {**taken.keys, "trajectory": names[rows]}), rows


def dealt(count: int, parts: int, rng: random.Random, idle: float = 0.25) -> list[Tensor]:
    """`count` rows dealt out at random, in a random order; some parts get none."""
    working = [part for part in range(parts) if rng.random() >= idle] or [rng.randrange(parts)]
    owners = [rng.choice(working) for _ in range(count)]
    order = rng.sample(range(count), count)
    return [
        torch.tensor([row for row in order if owners[row] == part], dtype=torch.int64)
        for part in range(parts)
    ]


class Handed(NamedTuple):
    """A batch as a loss module takes it, and where its tokens are in the padded one."""

    tokens: tuple[Tensor, ...]
    keys: Mapping[str, Tensor]
    options: dict[str, Tensor]
    keep: Tensor

    def padded(self, values: Tensor) -> NDArray[np.float64]:
        """Values of the tokens, shaped like the padded batch, 0 where there is none."""
        values = values.detach().double()
        if self.options:
            values = torch.zeros(self.keep.shape, dtype=torch.float64).masked_scatter(
                self.keep, values
            )
        return values.numpy()

    def places(self, rows: Tensor) -> Tensor:
        """What `Weights.part` calls these rows: themselves, or their tokens if packed."""
        if not self.options:
            return rows
        row_of_token = self.keep.nonzero()[:, 0]
        return torch.isin(row_of_token, rows).nonzero().flatten()


def handed(case: Case, layout: str) -> Handed:
    if layout == "padded":
        return Handed(case.tokens, case.keys, {}, torch.ones_like(case.mask))
    tokens, keys, cu, keep = case.packed()
    return Handed(tokens, keys, {"cu_seqlens": cu}, keep)


def called(loss_fn: Any, case: Case, layout: str, **options: Any) -> Result:
    """One call: loss, gradient (padded shape) and metrics."""
    batch = handed(case, layout)
    logp = batch.tokens[0].clone().requires_grad_()
    out = loss_fn(logp, *batch.tokens[1:], batch.keys, **batch.options, **options)
    out.loss.backward()
    assert logp.grad is not None
    return Result(out.loss.item(), batch.padded(logp.grad), numbers(out.metrics))


def in_micro_batches(
    loss_fn: Any, case: Case, layout: str, parts: list[Tensor], weighed_at: Tensor
) -> Result:
    """The same batch weighed at `weighed_at` (padded) and then trained part by part."""
    batch = handed(case, layout)
    at = weighed_at if layout == "padded" else weighed_at[batch.keep]
    weights = loss_fn.weigh(at, *batch.tokens[1:], batch.keys, **batch.options)
    logp = batch.tokens[0].clone().requires_grad_()
    total = 0.0
    for rows in parts:
        places = batch.places(rows)
        out = weights.part(logp[places], places)
        out.loss.backward()
        total += out.loss.item()
        shared = {n: v for n, v in out.metrics.items() if n != "recomputed/max"}
        assert numbers(shared) == numbers(weights.metrics)
    gradient = torch.zeros_like(logp) if logp.grad is None else logp.grad
    return Result(total, batch.padded(gradient), numbers(weights.metrics))


def numbers(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in metrics.items()}
