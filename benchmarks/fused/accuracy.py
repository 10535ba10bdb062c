"""What float32 costs: the compiled loss against the float64 reference on very long rows."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from benchmarks.fused import batches, objectives

BEYOND = 1e-3
"""A token whose gradient is off by more than this share of the largest is on the other side of a
kink of some gate: rounding of its log ratio decided which. Counted apart from the error."""


class Accuracy(TypedDict):
    """Relative errors: of the loss, of the gradient in the 2-norm over tokens on the same side of
    every kink, and how many are not."""

    loss: float
    gradient: float
    other_side: int
    tokens: int


def accuracy(name: str, rows: int, length: int, device: str) -> Accuracy:
    """Compares on one padded batch; both see the same float32 inputs."""
    batch = batches.padded(rows, length, device)
    module = objectives.compiled(name)
    loss = objectives.called(module)(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert batch.logp.grad is not None
    gradient = batch.logp.grad.cpu().double().numpy()
    tensors = (batch.logp, batch.old_logp, batch.advantages, batch.bool_mask)
    wanted = objectives.load(name).evaluate(*tensors, objectives.keys_of(module, batch))
    error = gradient - wanted.gradient
    far = np.abs(error) > BEYOND * np.abs(wanted.gradient).max()
    return {
        "loss": abs(loss.item() - wanted.loss) / abs(wanted.loss),
        "gradient": float(np.linalg.norm(error[~far]) / np.linalg.norm(wanted.gradient)),
        "other_side": int(far.sum()),
        "tokens": batch.tokens,
    }
