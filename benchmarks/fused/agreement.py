"""Before anything is timed: what is written by hand computes the same as the compiled spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.fused.batches import Batch

TOLERANCE = 1e-4

LossAndGradient = Callable[[Batch], tuple[float, Tensor]]


def of_autograd(loss: Callable[[Batch], Tensor]) -> LossAndGradient:
    """Loss and gradient of a differentiable loss."""

    def both(batch: Batch) -> tuple[float, Tensor]:
        value = loss(batch)
        (gradient,) = torch.autograd.grad(value, batch.logp)
        return value.item(), gradient

    return both


def verify(batch: Batch, wanted: LossAndGradient, others: Mapping[str, LossAndGradient]) -> None:
    """Compares on one batch.

    Raises:
        RuntimeError: one of `others` differs by more than `TOLERANCE`, relatively: its time would
            be that of another loss.
    """
    loss, gradient = wanted(batch)
    for name, function in others.items():
        own_loss, own_gradient = function(batch)
        by_loss = abs(own_loss - loss) / abs(loss)
        by_gradient = ((own_gradient - gradient).norm() / gradient.norm()).item()
        if not max(by_loss, by_gradient) <= TOLERANCE:
            raise RuntimeError(
                f"{name} is not the loss of the spec: relative error {by_loss:.1e} of the loss, "
                f"{by_gradient:.1e} of the gradient"
            )
