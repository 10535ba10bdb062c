"""Masks in place of clips: DPPO (arXiv 2602.04879) and ASPO (2510.06062).

sg[...] reads `held`, a batch with other log-probabilities; by default it is the batch itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.closed_forms import Batch, Floats, Token
from tests.published.sums import Coefficient, advantage, gradient, loss, ratio, token_mean

Divergence = Callable[[float, float], float]


def _binary_tv(mu: float, pi: float) -> float:
    """2602.04879, eq. 13."""
    return abs(mu - pi)


def _binary_kl(mu: float, pi: float) -> float:
    """2602.04879, eq. 14, with verl's guard of the second logarithm."""
    return mu * math.log(mu / pi) + (1 - mu) * math.log((1 - mu + 1e-8) / (1 - pi + 1e-8))


def _dppo_weight(
    sg: Batch, divergence: Divergence, high: float, low: float, c: float
) -> Coefficient:
    """Eq. 12 and 23: 0 where r moves along sign(A) and D > delta, else min(r, c)."""

    def weight(i: Token) -> float:
        A, r = advantage(sg, i), ratio(sg, i)
        apart = divergence(math.exp(float(sg.old_logp[i])), math.exp(float(sg.logp[i])))
        if (A > 0 and r > 1 and apart > high) or (A < 0 and r < 1 and apart > low):
            return 0.0
        return min(r, c)

    return weight


def _dppo(batch: Batch, weight: Coefficient) -> float:
    return loss(token_mean(batch), lambda i: weight(i) * advantage(batch, i) * float(batch.logp[i]))


def _dppo_gradient(batch: Batch, weight: Coefficient) -> Floats:
    return gradient(batch, token_mean(batch), lambda i: weight(i) * advantage(batch, i))


def dppo_tv(
    batch: Batch,
    held: Batch | None = None,
    *,
    high: float = 0.2,
    low: float = 0.2,
    c: float = 5.0,
) -> float:
    """Eq. 12, 13, 23 on log pi: sg[M min(r, c)] A log pi. Token mean."""
    return _dppo(batch, _dppo_weight(held or batch, _binary_tv, high, low, c))


def dppo_tv_gradient(
    batch: Batch, *, high: float = 0.2, low: float = 0.2, c: float = 5.0
) -> Floats:
    return _dppo_gradient(batch, _dppo_weight(batch, _binary_tv, high, low, c))


def dppo_kl(
    batch: Batch,
    held: Batch | None = None,
    *,
    high: float = 0.05,
    low: float = 0.05,
    c: float = 5.0,
) -> float:
    """Eq. 12, 14, 23 on log pi."""
    return _dppo(batch, _dppo_weight(held or batch, _binary_kl, high, low, c))


def dppo_kl_gradient(
    batch: Batch, *, high: float = 0.05, low: float = 0.05, c: float = 5.0
) -> Floats:
    return _dppo_gradient(batch, _dppo_weight(batch, _binary_kl, high, low, c))


def aspo(
    batch: Batch,
    held: Batch | None = None,
    *,
    epsilon_high: float = 0.2,
    epsilon_low: float = 0.2,
    c: float = 3.0,
) -> float:
    """2510.06062, section 6. Step 1: PPO's mask. Step 2, eq. 3: where A > 0 the ratio is
    pi_old pi / sg[pi^2]. Step 3: a weight above c becomes sg[c] A log pi. Token mean."""
    sg = held or batch

    def term(i: Token) -> float:
        A, r, at = advantage(batch, i), ratio(batch, i), ratio(sg, i)
        if A > 0:
            if 1.0 / at > c:
                return c * A * float(batch.logp[i])
            if at > 1 + epsilon_high:
                return A / (1 + epsilon_high)  # masked: a constant
            return A * r / at**2
        if at > c:
            return c * A * float(batch.logp[i])
        return A * (1 - epsilon_low if at < 1 - epsilon_low else r)

    return loss(token_mean(batch), term)


def aspo_gradient(
    batch: Batch, *, epsilon_high: float = 0.2, epsilon_low: float = 0.2, c: float = 3.0
) -> Floats:
    """A > 0: A / r up to r = 1 + epsilon_high, then 0; A < 0: A r from 1 - epsilon_low on, before
    that 0; both at most c."""

    def coefficient(i: Token) -> float:
        A, r = advantage(batch, i), ratio(batch, i)
        if A > 0:
            return 0.0 if r > 1 + epsilon_high else A * min(1.0 / r, c)
        return 0.0 if r < 1 - epsilon_low else A * min(r, c)

    return gradient(batch, token_mean(batch), coefficient)
