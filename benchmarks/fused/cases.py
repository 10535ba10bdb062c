"""A case: something to measure, forward and gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.fused.batches import Batch


@dataclass(frozen=True)
class Case:
    """One line of the tables.

    Attributes:
        run: forward and gradient once; leaves nothing behind.
        loss: the forward alone, differentiable in `batch.logp`; None for hand-written kernels.
    """

    name: str
    run: Callable[[Batch], object]
    loss: Callable[[Batch], Tensor] | None = None


def differentiated(name: str, loss: Callable[[Batch], Tensor]) -> Case:
    """The case of a loss that autograd differentiates, called as a training step calls it."""

    def run(batch: Batch) -> None:
        loss(batch).backward()  # type: ignore[no-untyped-call]
        batch.logp.grad = None

    return Case(name, run, loss)
