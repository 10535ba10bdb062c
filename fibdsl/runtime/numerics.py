"""Arithmetic at special points: what saturates, what has slope 1, what is accumulated in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def exp(x: Tensor) -> Tensor:
    """e^x, saturating below the largest finite number so that 0 * ratio stays 0."""
    return torch.exp(_capped(x))


def expm1(x: Tensor) -> Tensor:
    """e^x - 1, saturating like `exp`."""
    return torch.expm1(_capped(x))


def k3(x: Tensor) -> Tensor:
    """e^x - 1 - x, the KL estimator of a log-ratio, saturating like `exp`."""
    capped = _capped(x)
    return torch.expm1(capped) - capped


def _capped(x: Tensor) -> Tensor:
    # The same comparison as in `exp_slope`; a clamp looks for NaN besides.
    return torch.where(x > _log_max(x.dtype), _log_max(x.dtype), x)


def exp_slope(ratio: Tensor, x: Tensor) -> Tensor:
    """The slope of `exp` at x, where it is `ratio`; 0 where it saturates."""
    return torch.where(x > _log_max(x.dtype), 0.0, ratio)


def kept(x: Tensor) -> Tensor:
    """`x`, computed once and stored: the compiler would compute it again wherever it is read, and
    what is read by all tokens of a cell is read in the innermost loop.

    A view with strides of its own can only be taken of memory.
    """
    x = x.contiguous()
    return x.as_strided(x.shape, x.stride())


def by_sign(x: Tensor, upper: Any, lower: Any) -> Tensor:
    """`upper` where x >= 0, else `lower`; numbers or 0-dim tensors, result of x's type."""
    return torch.where(x >= 0, upper * torch.ones_like(x), lower * torch.ones_like(x))


def least(a: Any, b: Any) -> Tensor:
    """The smaller one, the first where they are equal (its slope counts); NaN where one is."""
    return torch.where((b < a) | (b != b), b, a)


def greatest(a: Any, b: Any) -> Tensor:
    """The larger one, the first where they are equal; NaN where one is."""
    return torch.where((b > a) | (b != b), b, a)


def held(x: Any, low: Any, high: Any) -> Tensor:
    """`x` kept between two bounds."""
    return least(greatest(x, low), high)


def magnitude(x: Tensor) -> Tensor:
    """|x|."""
    return x.abs()


def direction(x: Tensor) -> Tensor:
    """The sign of x, as 1 or -1; zero counts as positive, NaN stays."""
    return torch.where(x < 0, -1.0, torch.where(x >= 0, torch.ones_like(x), x))


def lowered(gated: Tensor, x: Tensor) -> Tensor:
    """The gate where it lowers x, else x: the pessimistic gate for advantages >= 0. Where both are
    equal x is taken, whose slope is 1."""
    return torch.where(gated < x, gated, x)


def raised(gated: Tensor, x: Tensor) -> Tensor:
    """The gate where it raises x, else x: the pessimistic gate for advantages < 0."""
    return torch.where(gated > x, gated, x)


def _log_max(dtype: torch.dtype) -> float:
    return 709.0 if dtype == torch.float64 else 88.0


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type sums are accumulated in: float32 or better."""
    return torch.float64 if dtype == torch.float64 else torch.float32
