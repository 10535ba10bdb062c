"""Batches for the compiled loss, in every layout and number type, and the reference's answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from fibc import interp
from fibc.batch import Batch
from fibc.ir import nodes as ir
from fibdsl.objective import Objective
from fibdsl.types import TOKEN

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
LAYOUTS = ("padded", "packed")


@dataclass(frozen=True)
class Case:
    """A padded batch, float64, and how to hand it to a loss module.

    `others`: further tensors with a value a token, by name, as `rollout_logp`.
    """

    logp: Tensor
    old_logp: Tensor
    advantages: Tensor
    mask: Tensor
    keys: dict[str, Tensor]
    others: dict[str, Any] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> Case:
        return Case(
            self.logp.to(dtype),
            self.old_logp.to(dtype),
            self.advantages.to(dtype),
            self.mask,
            self.keys,
            {name: tensor.to(dtype) for name, tensor in self.others.items()},
        )

    def rows(self, part: slice) -> Case:
        return Case(
            self.logp[part],
            self.old_logp[part],
            self.advantages[part],
            self.mask[part],
            {name: ids[part] for name, ids in self.keys.items()},
            {name: tensor[part] for name, tensor in self.others.items()},
        )

    @property
    def tokens(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.logp, self.old_logp, self.advantages, self.mask

    def packed(self) -> tuple[tuple[Tensor, ...], dict[str, Tensor], Tensor, Tensor]:
        """Tokens (N,), keys, cu_seqlens, and the places of the packed tokens in the padded ones.

        Rows keep some of their masked tokens, so that a packed mask has zeros too.
        """
        keep = self.mask.clone()
        keep[::2, 0] = True
        cu = torch.cat([torch.zeros(1, dtype=torch.int64), keep.sum(-1).cumsum(0)])
        keys = {n: k if k.dim() == 1 else k[keep] for n, k in self.keys.items()}
        return tuple(t[keep] for t in self.tokens), keys, cu.to(torch.int32), keep


def random_case(
    rows: int, width: int, seed: int, drift: float = 0.15, zeros: float = 0.2, net: float = 0.1
) -> Case:
    """Ragged rows, one empty, exact r = 1 tokens, NaN under the mask, arbitrary nested ids."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, width + 1, rows)
    if rows > 2:
        lengths[rng.integers(rows)] = 0
    mask = np.arange(width) < lengths[:, None]
    x = rng.normal(0, drift, (rows, width)) + rng.normal(0, net, (rows, 1))
    x[rng.random(x.shape) < zeros] = 0.0
    old = -rng.exponential(1.0, x.shape)
    # Few bits, so that bfloat16 holds logp - old_logp without turning it into noise.
    old, x = np.round(old * 32) / 32, np.round(x * 128) / 128
    advantages = np.repeat(rng.normal(size=(rows, 1)), width, 1)
    advantages[rng.random(rows) < 0.2] = 0.0
    group = rng.integers(0, max(2, rows // 3), rows)
    names = rng.integers(-(2**62), 2**62, rows + 2)
    for array in (old, x, advantages):
        array[~mask] = np.nan
    keys = {
        "uid": torch.from_numpy(names[group]),
        "data_source": torch.from_numpy(names[group % 2]),
        "state_id": torch.from_numpy(names[rng.integers(0, 3, x.shape)]),
        "turn_id": torch.from_numpy(np.cumsum(rng.random(x.shape) < 0.3, 1) - 5),
        "expert_id": torch.from_numpy(names[rng.integers(0, 2, x.shape)]),
    }
    logp, old_logp, weights = (torch.from_numpy(t) for t in (old + x, old, advantages))
    return Case(logp, old_logp, weights, torch.from_numpy(mask), keys)


def real_case(name: str) -> Case:
    """`near` or `far`: rollouts of a real language model (examples/data), in turns of 16 tokens,
    each token at one of two experts."""
    d = load_file(DATA / f"rollouts_{name}.safetensors")
    position = torch.arange(d["logp"].shape[1]).expand_as(d["mask"])
    keys = {
        "uid": d["uid"],
        "data_source": d["data_source"],
        # A state is a prefix; completions of one prompt share their first one.
        "state_id": torch.where(
            position == 0,
            d["uid"][:, None],
            1000 + torch.arange(position.numel()).view_as(position),
        ),
        "turn_id": position // 16,
        "expert_id": position % 2,
    }
    return Case(
        d["logp"].double(), d["old_logp"].double(), d["advantages"].double(), d["mask"], keys
    )


@dataclass(frozen=True)
class Result:
    loss: float
    gradient: NDArray[np.float64]
    metrics: dict[str, float]


def compiled(loss_fn: Callable[..., Any], case: Case, layout: str, **options: Any) -> Result:
    """Loss, gradient (padded shape) and metrics of a loss module."""
    if layout == "padded":
        logp = case.logp.clone().requires_grad_()
        out = loss_fn(logp, *case.tokens[1:], case.keys, **case.others, **options)
    else:
        (logp, *rest), keys, cu, keep = case.packed()
        logp = logp.clone().requires_grad_()
        others = {name: tensor[keep] for name, tensor in case.others.items()}
        out = loss_fn(logp, *rest, keys, cu_seqlens=cu, **others, **options)
    out.loss.backward()
    assert logp.grad is not None
    assert logp.grad.dtype == logp.dtype
    gradient = logp.grad.double()
    if layout == "packed":
        gradient = torch.zeros_like(case.logp, dtype=torch.float64).masked_scatter(keep, gradient)
    metrics = {name: value.item() for name, value in out.metrics.items()}
    return Result(out.loss.item(), gradient.numpy(), metrics)


def reference(objective: Objective, case: Case) -> Result:
    """The same by the interpreter, in float64, on the values as they are."""
    others: dict[str, Any] = {**case.others}
    result = objective.evaluate(*case.tokens, case.keys, **others)
    return Result(result.loss, result.gradient, result.metrics)


def smooth_rows(objective: Objective, case: Case, margin: float = 1e-4) -> NDArray[np.bool_]:
    """Rows whose gates are neither in the rollback band, which amplifies rounding by k, nor within
    `margin` of the end of a piece, where rounding can change the slope."""
    batch = objective.batch(*case.tokens, case.keys, **case.others)
    run = interp.run(objective.program, batch, objective.params)
    rough = np.zeros(batch.sizes[TOKEN], bool)
    for op in objective.program.ops:
        if isinstance(op, ir.Gate) and op.rule.budgets:
            rough |= _lifted(batch, objective, op.level, _rough_cells(op, run, margin))
    row_of_token = batch.where // case.mask.shape[1]
    smooth = np.ones(case.mask.shape[0], bool)
    smooth[row_of_token[rough]] = False
    return smooth


def _rough_cells(op: ir.Gate, run: interp.Run, margin: float) -> NDArray[np.bool_]:
    state = interp.gate_state(op, run)
    regimes = [piece.regime for piece in op.rule.pieces]
    rough = np.isin(state.regime, [i for i, r in enumerate(regimes) if r == "rollback"])
    # A step to either side that changes the regime means that an end is near.
    for step in (-margin, margin):
        values = {**run.values, op.x: run.values[op.x] + step}
        moved = interp.Run(run.program, run.batch, run.params, values, run.normalizers)
        rough |= interp.gate_state(op, moved).regime != state.regime
    return rough


def _lifted(
    batch: Batch, objective: Objective, level: str, cells: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """A flag of each cell, brought down to its tokens."""
    names = objective.typed.level_names
    names.index(level)
    for fine, coarse in reversed(list(itertools.pairwise(names))):
        cells = cells[batch.parents[fine, coarse]]
    return cells
