"""What the closed forms are made of: tokens of a batch, means over them, PPO's surrogate.

Plain loops over floats. Conventions as in `tests.closed_forms`: what lies under the mask is never
read, and a trajectory without a valid token does not exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import numpy as np

from tests.closed_forms import Batch, Floats, Token, clip

Coefficient: TypeAlias = Callable[[Token], float]
Measure: TypeAlias = Mapping[Token, float]
"""mu_i of each valid token."""


def trajectories(batch: Batch) -> list[list[Token]]:
    """The valid tokens of every trajectory that has one."""
    rows, width = batch.mask.shape
    found = [[(b, t) for t in range(width) if batch.mask[b, t]] for b in range(rows)]
    return [row for row in found if row]


def tokens(batch: Batch) -> list[Token]:
    return [i for row in trajectories(batch) for i in row]


def identity(batch: Batch, key: str, i: Token) -> int:
    """The id of a token, or of its row."""
    ids = batch.keys[key]
    return int(ids[i[0]]) if ids.ndim == 1 else int(ids[i])


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def log_ratio(batch: Batch, i: Token) -> float:
    return float(batch.logp[i]) - float(batch.old_logp[i])


def ratio(batch: Batch, i: Token) -> float:
    return math.exp(log_ratio(batch, i))


def advantage(batch: Batch, i: Token) -> float:
    return float(batch.advantages[i])


def ppo(r: float, low: float, high: float, A: float) -> float:
    """min(r A, clip(r, low, high) A), arXiv 1707.06347, eq. 7."""
    return min(r * A, clip(r, low, high) * A)


# --- reductions ---------------------------------------------------------------------------------


def token_mean(batch: Batch) -> Measure:
    """mu_i = 1/N, N tokens in the batch."""
    every = tokens(batch)
    return {i: 1.0 / len(every) for i in every}


def sequence_mean(batch: Batch) -> Measure:
    """mu_i = 1/(M T), M trajectories, T tokens in this one."""
    rows = trajectories(batch)
    return {i: 1.0 / len(rows) / len(row) for row in rows for i in row}


def sequence_sum(batch: Batch, length: float = 1.0) -> Measure:
    """mu_i = 1/(M length)."""
    rows = trajectories(batch)
    return {i: 1.0 / len(rows) / length for row in rows for i in row}


def loss(mu: Measure, term: Coefficient) -> float:
    """-sum_i mu_i term_i."""
    return -sum(weight * term(i) for i, weight in mu.items())


def gradient(batch: Batch, mu: Measure, coefficient: Coefficient) -> Floats:
    """-mu_i c_i, c_i the coefficient of d log pi_i; 0 under the mask."""
    found = np.zeros(batch.mask.shape)
    for i, weight in mu.items():
        found[i] = -weight * coefficient(i)
    return found
