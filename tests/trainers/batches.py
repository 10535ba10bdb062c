"""Batches that reach every regime of a trainer's loss.

Each has 15 rows: advantages of both signs at six sizes of drift, a row without advantage, a row of
r = 1 exactly, and a row with no valid token. The other rows are ragged, have holes and some tokens
of r = 1 exactly. What is under the mask is finite, for trainers multiply by the mask, and different
from anything that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WIDTH = 16

# A row each: its advantage (they sum to zero, as rewards less their mean do) and its drift, in
# units of the batch's.
_ROWS = (
    *[(+1.5, -3.0), (+0.5, -1.5), (+1.0, -0.1), (+0.25, +0.1), (+2.0, +1.5), (+0.75, +3.0)],
    *[(-1.0, -3.0), (-1.75, -1.5), (-0.5, -0.1), (-1.25, +0.1), (-0.25, +1.5), (-2.0, +3.0)],
    *[(+0.0, +1.5), (+1.5, 0.0), (-0.75, 0.0)],
)
_ON_POLICY, _EMPTY = 13, 14


@dataclass(frozen=True)
class Kind:
    """How far the rows of a batch drift, in nats, and how far tokens do within their row.

    Attributes:
        drift: the mean log-ratio of a row, or with `summed` its sum, times the row's units.
        noise: the deviation of its tokens from that mean.
    """

    drift: float
    noise: float
    summed: bool = False


KINDS = {
    "tokens": Kind(0.25, 0.5),
    "sequences": Kind(0.1, 0.3),
    "close": Kind(3e-4, 0.02),  # where GSPO clips
    "products": Kind(1.0, 0.1, summed=True),
    "far": Kind(8.0, 2.0),  # beyond the clamps of the trainers, at 10 and 20 nats
}


@dataclass(frozen=True)
class Batch:
    """Log-probabilities in nats and advantages, float64 (B, T), and a mask, bool (B, T)."""

    logp: Floats
    old_logp: Floats
    rollout_logp: Floats
    ref_logp: Floats
    advantages: Floats
    mask: Bools

    def rows(self, part: slice) -> Batch:
        return Batch(*(array[part] for array in vars(self).values()))


def random_batch(kind: Kind, seed: int, *, token_advantages: bool = False) -> Batch:
    """A batch of a kind; with `token_advantages` they differ, in sign too, within a row."""
    rng = np.random.default_rng(seed)
    rows = len(_ROWS)
    mask = np.arange(WIDTH) < rng.integers(WIDTH // 2, WIDTH + 1, rows)[:, None]
    mask[:, 1:] &= rng.random((rows, WIDTH - 1)) > 0.1
    mask[_EMPTY] = False
    advantages, units = (np.array(column)[:, None] for column in zip(*_ROWS, strict=True))
    assert advantages.sum() == 0

    noise = kind.noise * rng.standard_normal(mask.shape)
    noise -= _mean(noise, mask)
    drift = kind.drift * units / (np.maximum(mask.sum(-1, keepdims=True), 1) if kind.summed else 1)
    x = drift + noise
    if not kind.summed and kind.noise > 0.1:  # elsewhere it would move the drift of the row
        x[rng.random(mask.shape) < 0.1] = 0.0
    x[_ON_POLICY] = 0.0

    # Probabilities on both sides are below 1, whatever their ratio.
    larger = -rng.exponential(0.7, mask.shape) - 0.02
    old_logp = larger - np.maximum(x, 0.0)
    logp = np.where(x == 0.0, old_logp, larger + np.minimum(x, 0.0))
    signs = rng.choice([-1.0, 0.0, 1.0, 1.0], mask.shape) if token_advantages else 1.0
    # What vLLM says drifts otherwise: some rows up that the policy moved down.
    noise = 0.4 * rng.standard_normal(mask.shape)
    sampler = 0.06 * np.roll(units, 3) + noise - _mean(noise, mask)
    batch = Batch(
        logp,
        old_logp,
        np.minimum(old_logp - sampler, -1e-3),
        np.minimum(old_logp + 0.5 * rng.standard_normal(mask.shape), -1e-3),
        np.broadcast_to(advantages, mask.shape) * signs,
        mask,
    )
    for array in (batch.logp, batch.old_logp, batch.rollout_logp, batch.ref_logp):
        array[~mask] = -5.0 - rng.exponential(3.0, int((~mask).sum()))
    return batch


def _mean(values: Floats, mask: Bools) -> Any:
    """The mean over the valid tokens of each row, (B, 1)."""
    return (values * mask).sum(-1, keepdims=True) / np.maximum(mask.sum(-1, keepdims=True), 1)


@dataclass(frozen=True)
class Acts:
    """What a case has to reach: a quantity of each token below, inside and above an interval,
    under advantages of both signs. An infinite end has nothing beyond it."""

    measure: str
    low: float
    high: float

    def missing(self, batch: Batch) -> list[str]:
        """The regimes that no valid token of the batch is in."""
        value = np.broadcast_to(measures(batch)[self.measure], batch.mask.shape)
        places = {
            "inside": (value >= self.low) & (value <= self.high),
            **({"below": value < self.low} if np.isfinite(self.low) else {}),
            **({"above": value > self.high} if np.isfinite(self.high) else {}),
        }
        signs = {"A > 0": batch.advantages > 0, "A < 0": batch.advantages < 0}
        return [
            f"{self.measure} {place}, {sign}"
            for place, where in places.items()
            for sign, of_sign in signs.items()
            if not (where & of_sign & batch.mask).any()
        ]


def measures(batch: Batch) -> dict[str, Floats]:
    """Quantities gates look at, (B, T) or (B, 1): one value a token or a row."""
    x = batch.logp - batch.old_logp
    to_rollout = batch.old_logp - batch.rollout_logp
    to_ref = batch.ref_logp - batch.logp
    p, old = np.exp(batch.logp), np.exp(batch.old_logp)
    rest = (1 - old) * np.log((1 - old) / (1 - p))
    return {
        "log_ratio": x,
        "ratio": np.exp(x),
        "sequence log_ratio": _mean(x, batch.mask),
        "sequence ratio": np.exp(_mean(x, batch.mask)),
        "product": np.exp((x * batch.mask).sum(-1, keepdims=True)),
        "tv": p - old,
        "kl": np.sign(p - old) * (rest - old * x),
        "rollout ratio": np.exp(to_rollout),
        "rollout product": np.exp((to_rollout * batch.mask).sum(-1, keepdims=True)),
        "ref ratio": np.exp(to_ref),
        "k3 of ref": np.expm1(to_ref) - to_ref,
        "sampling kl": -_mean(batch.logp - batch.rollout_logp, batch.mask),
    }
