"""Batches and objectives for the tests of meaning, and Jacobians by the reference's pull-back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fibdsl
from fibc import interp
from fibdsl.objective import Objective
from tests.closed_forms import Batch, random_batch

Tensors = dict[str, Any]


def random_tensors(rng: np.random.Generator, rows: int = 6, **options: Any) -> Tensors:
    """`tensors_of` a random batch with holes, an empty row and exact zeros."""
    defaults = {"drift": 0.2, "trajectory_drift": 0.1, "exact_one": 0.15, "empty_rows": 1}
    batch = random_batch(rng, rows, 7, advantages="token", n_domains=4, **defaults | options)
    return tensors_of(batch, rng)


def tensors_of(batch: Batch, rng: np.random.Generator) -> Tensors:
    """The arguments of `evaluate`, with more keys: `campus` (B,), `turn_id` and `expert_id` (B, T).

    Turns count within their trajectory; `turn_cell` names the same cells by ids of their own.
    """
    turns = np.cumsum(rng.random(batch.mask.shape) < 0.4, axis=1)
    domains = np.unique(batch.keys["data_source"], return_inverse=True)[1]
    keys = {
        **batch.keys,
        "campus": domains // 2 - 2**60,
        "turn_id": turns * 2**40 - 2**41,
        "turn_cell": turns + 100 * np.arange(len(turns))[:, None],
        "expert_id": rng.integers(-2, 2, turns.shape) * 2**61,
    }
    return {**vars(batch), "keys": keys}


def of_log_ratios(x: Any, advantages: Any = 1.0, **keys: Any) -> Tensors:
    """A batch without a gap whose log-ratios are exactly `x`."""
    x = np.asarray(x, np.float64)
    return {
        "logp": x,
        "old_logp": np.zeros_like(x),
        "advantages": np.broadcast_to(np.asarray(advantages, np.float64), x.shape),
        "mask": np.ones(x.shape, bool),
        "keys": keys,
    }


def log_ratios(tensors: Tensors) -> NDArray[np.float64]:
    """x of each token, 0 under the mask."""
    return np.where(tensors["mask"], tensors["logp"] - tensors["old_logp"], 0.0)


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
