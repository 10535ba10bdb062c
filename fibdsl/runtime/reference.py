"""The reference interpreter for torch tensors: float64, differentiable by its own pull-back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fibc import interp

if TYPE_CHECKING:
    from fibdsl.objective import Objective


class _GatedRatio(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logp: Tensor, objective: Objective, *rest: Any) -> Tensor:
        batch = objective.batch(logp, *rest)
        run = interp.run(objective.program, batch, objective.params)
        ctx.run, ctx.dtype, ctx.others = run, logp.dtype, 1 + len(rest)
        return torch.from_numpy(batch.scatter(run.gated_ratio)).to(logp.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        run = ctx.run
        seed = grad.cpu().double().numpy().reshape(-1)[run.batch.where]
        pulled = run.batch.scatter(interp.pullback(run, run.program.gated_ratio, seed))
        return torch.from_numpy(pulled).to(grad.device, ctx.dtype), *[None] * ctx.others


def gated_ratio(objective: Objective, logp: Tensor, *rest: Any) -> Tensor:
    """G, float64, shaped like `logp`; see `Objective.gated_ratio`."""
    result: Tensor = _GatedRatio.apply(logp, objective, *rest)  # type: ignore[no-untyped-call]
    return result
