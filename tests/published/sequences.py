"""One ratio a response: GSPO's descendants, GMPO, GEPO (arXiv ids beside each)."""

from __future__ import annotations

import math

import numpy as np

from tests.closed_forms import Batch, Floats, clip
from tests.published.sums import advantage, identity, log_ratio, mean, ppo, trajectories


def luspo(batch: Batch, *, high: float = 1.0025, low: float = 0.998) -> float:
    """2602.05261: 1/M sum_i |y_i| min(s A, clip(s) A), s = exp(mean log r)."""
    rows = trajectories(batch)
    total = 0.0
    for row in rows:
        s = math.exp(mean(log_ratio(batch, i) for i in row))
        total += len(row) * mean(ppo(s, low, high, advantage(batch, i)) for i in row)
    return -total / len(rows)


def gspo_token(
    batch: Batch, held: Batch | None = None, *, high: float = 1.0004, low: float = 0.9997
) -> float:
    """2507.18071, eq. 13-14: s_t = sg[s] pi / sg[pi]; 1/M sum 1/T sum min(s_t A_t, clip(s_t) A_t).
    sg[...] reads `held`."""
    sg = held or batch
    rows = trajectories(batch)
    total = 0.0
    for row in rows:
        s = math.exp(mean(log_ratio(sg, i) for i in row))
        total += mean(
            ppo(
                s * math.exp(float(batch.logp[i]) - float(sg.logp[i])),
                low,
                high,
                advantage(batch, i),
            )
            for i in row
        )
    return -total / len(rows)


def gspo_token_gradient(batch: Batch, *, high: float = 1.0004, low: float = 0.9997) -> Floats:
    """Eq. 17 with the clip: s A_t where it does not act, else 0."""
    found = np.zeros(batch.mask.shape)
    rows = trajectories(batch)
    for row in rows:
        s = math.exp(mean(log_ratio(batch, i) for i in row))
        for i in row:
            A = advantage(batch, i)
            clipped = s > high if A >= 0 else s < low
            found[i] = 0.0 if clipped else -s * A / len(row) / len(rows)
    return found


def gmpo(batch: Batch, *, epsilon: float = 0.4) -> float:
    """2507.20673, eq. 4: A (prod_t clipped r_t)^(1/T), each log r_t held to epsilon on the side of
    sign(A)."""
    rows = trajectories(batch)
    total = 0.0
    for row in rows:
        held = []
        for i in row:
            x, sign = log_ratio(batch, i), 1.0 if advantage(batch, i) >= 0 else -1.0
            held.append(sign * min(sign * x, clip(sign * x, -epsilon, epsilon)))
        total += math.exp(mean(held)) * mean(advantage(batch, i) for i in row)
    return -total / len(rows)


def gepo(batch: Batch, *, high: float = 1.2, low: float = 0.8) -> float:
    """2508.17850, eq. 2-3: w = p / (sum q^2 / sum q) over the group, p and q the geometric means of
    the token probabilities; PPO's clip as in the authors' code. 1/M sum_i."""
    rows = trajectories(batch)
    q = [math.exp(mean(float(batch.old_logp[i]) for i in row)) for row in rows]
    group = [identity(batch, "uid", row[0]) for row in rows]
    total = 0.0
    for row, own in zip(rows, group, strict=True):
        members = [value for value, other in zip(q, group, strict=True) if other == own]
        p = math.exp(mean(float(batch.logp[i]) for i in row))
        w = p * sum(members) / sum(value * value for value in members)
        total += mean(ppo(w, low, high, advantage(batch, i)) for i in row)
    return -total / len(rows)
