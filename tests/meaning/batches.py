"""Batches for the tests of meaning, and what they ask of the reference interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fibdsl
from fibdsl.api import Objective
from fibc import interp

Tensors = dict[str, Any]

# Coarse to fine; each trajectory key is a function of the one before it.
TRAJECTORY_KEYS = ("campus", "data_source", "uid")
TOKEN_KEYS = ("turn_id", "expert_id", "state_id")


def ragged(
    rng: np.random.Generator, rows: int = 6, width: int = 7, drift: float = 0.2, net: float = 0.1
) -> Tensors:
    """A padded batch with an empty row, exact zeros, NaN under the mask and nested ids.

    Trajectories lean to one side (`net`, nats), so that trajectory gates act, and turns are runs
    of tokens.
    """
    lengths = rng.integers(1, width + 1, rows)
    lengths[rng.integers(rows)] = 0
    mask = np.arange(width) < lengths[:, None]
    x = rng.normal(0, drift, (rows, width)) + rng.normal(0, net, (rows, 1))
    x[rng.random(x.shape) < 0.15] = 0.0
    old = -rng.exponential(1.0, x.shape)
    # Multiples of 2**-30, so that logp - old_logp gives x back to the last bit.
    x, old = (np.round(v * 2**30) / 2**30 for v in (x, old))
    logp = old + x
    logp[~mask], old[~mask] = np.nan, np.inf
    advantages = np.where(mask, rng.normal(size=x.shape), np.nan)
    uid = rng.integers(0, max(rows // 2, 1), rows)
    names = rng.integers(-(2**62), 2**62, rows)
    turns = np.cumsum(rng.random(x.shape) < 0.4, axis=1)
    keys = {
        "uid": names[uid],
        "data_source": names[uid // 2],
        "campus": names[uid // 4],
        "turn_id": turns * (2**40) - 2**41,
        "expert_id": rng.integers(-2, 2, x.shape) * 2**61,
        "state_id": rng.integers(0, 5, x.shape) - 3,
    }
    return {
        "logp": logp,
        "old_logp": old,
        "advantages": advantages,
        "mask": mask,
        "keys": keys,
    }


def of_log_ratios(x: Any, advantages: Any = 1.0, **keys: Any) -> Tensors:
    """A padded batch without a gap whose log-ratios are exactly `x`, (B, T)."""
    x = np.asarray(x, np.float64)
    return {
        "logp": x,
        "old_logp": np.zeros_like(x),
        "advantages": np.broadcast_to(np.asarray(advantages, np.float64), x.shape),
        "mask": np.ones(x.shape, bool),
        "keys": keys,
    }


def with_log_ratios(tensors: Tensors, x: Any) -> Tensors:
    """The same batch with other log-ratios at the valid tokens."""
    old = np.where(tensors["mask"], 0.0, np.nan)
    return {**tensors, "logp": old + x, "old_logp": old}


def spec(signal: str, levels: str, *statements: str) -> Objective:
    """An objective written inline: its signal, its levels, and its other statements."""
    lines = "\n".join(statements)
    return fibdsl.load_text(f"objective inline {{ signal {signal}\nlevels {levels}\n{lines} }}")


def jacobian(objective: Objective, tensors: Tensors) -> NDArray[np.float64]:
    """dG_i / d log r_j over the valid tokens, a row each pull-back of a unit seed."""
    batch = objective.batch(**tensors)
    run = interp.run(objective.program, batch, objective.params)
    seeds = np.eye(len(batch.where))
    return np.array([interp.pullback(run, objective.program.gated_ratio, e) for e in seeds])
