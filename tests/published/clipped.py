"""PPO and its kin: one ratio a token, and what bounds it (arXiv ids beside each)."""

from __future__ import annotations

import math

from tests.closed_forms import Batch, Token
from tests.published.sums import (
    Coefficient,
    advantage,
    loss,
    ppo,
    ratio,
    sequence_mean,
    sequence_sum,
    token_mean,
)


def ppo_dual_clip(batch: Batch, *, epsilon: float = 0.2, c: float = 3.0) -> float:
    """1912.09729, eq. 5: max(min(r A, clip(r) A), c A) where A < 0, else PPO. Token mean."""

    def term(i: Token) -> float:
        A = advantage(batch, i)
        plain = ppo(ratio(batch, i), 1 - epsilon, 1 + epsilon, A)
        return max(plain, c * A) if A < 0 else plain

    return loss(token_mean(batch), term)


def two_sided(batch: Batch, *, epsilon: float = 0.2, delta: float = 4.0) -> float:
    """INTELLECT-2, 2505.07291: min(min(r, delta) A, clip(r, 1 +- epsilon) A). Token mean."""

    def term(i: Token) -> float:
        r, A = ratio(batch, i), advantage(batch, i)
        clipped = min(max(r, 1 - epsilon), 1 + epsilon)
        return min(min(r, delta) * A, clipped * A)

    return loss(token_mean(batch), term)


def dr_grpo(batch: Batch, *, epsilon: float = 0.2, length: float = 3000.0) -> float:
    """2503.20783, section 3.2: 1/M sum_i 1/length sum_t min(r A, clip(r) A)."""
    return loss(
        sequence_sum(batch, length),
        lambda i: ppo(ratio(batch, i), 1 - epsilon, 1 + epsilon, advantage(batch, i)),
    )


def spo(batch: Batch, *, epsilon: float = 0.2) -> float:
    """2401.16025: r A - |A| / (2 epsilon) (r - 1)^2. Token mean."""
    return loss(token_mean(batch), _penalised(batch, epsilon))


def cfpo(batch: Batch, *, epsilon: float = 0.2) -> float:
    """2601.22801: the same, 1/M sum_i 1/T sum_t."""
    return loss(sequence_mean(batch), _penalised(batch, epsilon))


def _penalised(batch: Batch, epsilon: float) -> Coefficient:
    def term(i: Token) -> float:
        r, A = ratio(batch, i), advantage(batch, i)
        return r * A - abs(A) / (2 * epsilon) * (r - 1) ** 2

    return term


def sapo(batch: Batch, *, tau_pos: float = 1.0, tau_neg: float = 1.05) -> float:
    """2511.20347, eq. 5-6: 4/tau sigmoid(tau (r - 1)) A, tau by the sign of A."""

    def term(i: Token) -> float:
        A = advantage(batch, i)
        tau = tau_pos if A > 0 else tau_neg
        return 4.0 / tau / (1.0 + math.exp(-tau * (ratio(batch, i) - 1.0))) * A

    return loss(sequence_mean(batch), term)
