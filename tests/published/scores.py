"""Score functions: -sg[weight] A log pi, with the gradients as printed (arXiv ids beside each).

sg[...] reads `held`, a batch with other log-probabilities; by default it is the batch itself.
"""

from __future__ import annotations

import math

from tests.closed_forms import Batch, Floats, Token, clip
from tests.published.sums import (
    Coefficient,
    Measure,
    advantage,
    gradient,
    log_ratio,
    loss,
    ratio,
    sequence_sum,
    token_mean,
    trajectories,
)


def _score(batch: Batch, mu: Measure, weight: Coefficient) -> float:
    return loss(mu, lambda i: weight(i) * advantage(batch, i) * float(batch.logp[i]))


def _score_gradient(batch: Batch, mu: Measure, weight: Coefficient) -> Floats:
    return gradient(batch, mu, lambda i: weight(i) * advantage(batch, i))


def reinforce(batch: Batch) -> float:
    """-A log pi, token mean (GPG, 2504.02546)."""
    return _score(batch, token_mean(batch), lambda i: 1.0)


def reinforce_gradient(batch: Batch) -> Floats:
    return _score_gradient(batch, token_mean(batch), lambda i: 1.0)


# --- truncated weights --------------------------------------------------------------------------


def _clipped(sg: Batch, low: float, high: float) -> Coefficient:
    return lambda i: clip(ratio(sg, i), low, high)


def cispo(
    batch: Batch,
    held: Batch | None = None,
    *,
    epsilon_high: float = 0.2,
    epsilon_low: float = 10.0,
) -> float:
    """2506.13585, eq. 4-5: sg[clip(r, 1 - e_low, 1 + e_high)] A log pi, over sum |o_i|."""
    weight = _clipped(held or batch, 1 - epsilon_low, 1 + epsilon_high)
    return _score(batch, token_mean(batch), weight)


def cispo_gradient(batch: Batch, *, epsilon_high: float = 0.2, epsilon_low: float = 10.0) -> Floats:
    weight = _clipped(batch, 1 - epsilon_low, 1 + epsilon_high)
    return _score_gradient(batch, token_mean(batch), weight)


def cispo_trl(batch: Batch, held: Batch | None = None, *, epsilon_high: float = 5.0) -> float:
    """TRL, loss_type cispo: sg[min(r, epsilon_high)] A log pi."""
    return _score(batch, token_mean(batch), _clipped(held or batch, 0.0, epsilon_high))


def cispo_trl_gradient(batch: Batch, *, epsilon_high: float = 5.0) -> Floats:
    return _score_gradient(batch, token_mean(batch), _clipped(batch, 0.0, epsilon_high))


def tis(batch: Batch, held: Batch | None = None, *, upper: float = 1.0) -> float:
    """sg[clip(r, 0, upper)] A log pi (ROLL, pg_variant tis; TIS in 2503.14286). Token mean."""
    return _score(batch, token_mean(batch), _clipped(held or batch, 0.0, upper))


def tis_gradient(batch: Batch, *, upper: float = 1.0) -> Floats:
    return _score_gradient(batch, token_mean(batch), _clipped(batch, 0.0, upper))


# --- weights of a response ----------------------------------------------------------------------


def _topr_weight(sg: Batch) -> Coefficient:
    drift = {row[0][0]: sum(log_ratio(sg, i) for i in row) for row in trajectories(sg)}
    return lambda i: 1.0 if advantage(sg, i) >= 0 else math.exp(min(drift[i[0]], 0.0))


def topr(batch: Batch, held: Batch | None = None) -> float:
    """2503.14286, eq. 8: A log pi(y) where A >= 0, else sg[clip(pi(y) / mu(y), 0, 1)] A log pi(y).
    Responses count once."""
    return _score(batch, sequence_sum(batch), _topr_weight(held or batch))


def topr_gradient(batch: Batch) -> Floats:
    return _score_gradient(batch, sequence_sum(batch), _topr_weight(batch))


def _vespo_weight(
    sg: Batch, positive: tuple[float, float], negative: tuple[float, float]
) -> Coefficient:
    """phi(W) = W^k exp(lambda (1 - W)); log W clamped token by token and as a sum."""
    phi: dict[Token, float] = {}
    for row in trajectories(sg):
        log_w = sum(clip(log_ratio(sg, i), -20.0, 20.0) for i in row)
        log_w = clip(log_w, math.log(1e-8), 20.0)
        for i in row:
            k, lam = positive if advantage(sg, i) >= 0 else negative
            phi[i] = math.exp(max(k * log_w + lam * (1.0 - math.exp(log_w)), -745.0))
    return lambda i: phi[i]


def vespo(
    batch: Batch,
    held: Batch | None = None,
    *,
    k_pos: float = 2.0,
    lambda_pos: float = 3.0,
    k_neg: float = 3.0,
    lambda_neg: float = 2.0,
) -> float:
    """2602.10693, eq. 20: sg[W^k exp(lambda (1 - W))] A log pi, W = prod r; clamped, and averaged
    over tokens, as in the authors' code."""
    weight = _vespo_weight(held or batch, (k_pos, lambda_pos), (k_neg, lambda_neg))
    return _score(batch, token_mean(batch), weight)


def vespo_gradient(
    batch: Batch,
    *,
    k_pos: float = 2.0,
    lambda_pos: float = 3.0,
    k_neg: float = 3.0,
    lambda_neg: float = 2.0,
) -> Floats:
    weight = _vespo_weight(batch, (k_pos, lambda_pos), (k_neg, lambda_neg))
    return _score_gradient(batch, token_mean(batch), weight)


# --- regularised --------------------------------------------------------------------------------


def dro(batch: Batch, *, beta: float = 1.0) -> float:
    """-A log pi + beta/2 (log r)^2 (2501.12599, eq. 3, by token). Token mean."""
    return loss(
        token_mean(batch),
        lambda i: advantage(batch, i) * float(batch.logp[i]) - beta / 2 * log_ratio(batch, i) ** 2,
    )


def dro_gradient(batch: Batch, *, beta: float = 1.0) -> Floats:
    return gradient(
        batch, token_mean(batch), lambda i: advantage(batch, i) - beta * log_ratio(batch, i)
    )
