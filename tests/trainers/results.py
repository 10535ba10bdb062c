"""A loss with its gradient, and how far two of them lie apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.trainers.batches import Floats


class Result(NamedTuple):
    """A loss and d loss / d logp, float64 (B, T)."""

    loss: float
    gradient: Floats


class Error(NamedTuple):
    """Relative errors: of the loss, and the largest of the gradient at a token.

    A gradient below `floor` times the largest counts as if it were that large: where terms cancel,
    rounding is relative to them.
    """

    loss: float
    gradient: float


def relative_error(found: Result, expected: Result, floor: float = 1e-6) -> Error:
    assert found.gradient.shape == expected.gradient.shape
    assert np.isfinite(found.gradient).all()
    size = np.abs(expected.gradient)
    assert size.max() > 0
    apart = np.abs(found.gradient - expected.gradient) / np.maximum(size, floor * size.max())
    return Error(abs(found.loss - expected.loss) / abs(expected.loss), float(apart.max()))
