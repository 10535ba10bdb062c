"""APC-Obj without a constraint is sample-based TV-TRPO with one (theory section 2)."""

from __future__ import annotations

import numpy as np
import pytest

import fibdsl
from fibdsl.objective import Objective
from tests.closed_forms import Batch, Floats, apc_maximum, linear_program_trpo, random_batch

APC = fibdsl.load("apc")


def instance(seed: int) -> tuple[np.random.Generator, Batch, Objective]:
    rng = np.random.default_rng(seed)
    rows, width = rng.integers(2, 4, 2)
    batch = random_batch(
        rng, int(rows), int(width), advantages="token", zero_advantages=0.1, n_states=3
    )
    return rng, batch, APC.with_params(delta=float(rng.uniform(0.02, 0.9)))


def at(batch: Batch, r: Floats) -> dict[str, object]:
    """The batch with ratios `r`; ratios of 0 become 1e-300."""
    logp = np.where(batch.mask, np.log(np.maximum(r, 1e-300)), np.nan)
    return {**vars(batch), "logp": logp, "old_logp": np.zeros_like(logp)}


def objective_at(apc: Objective, batch: Batch, r: Floats) -> float:
    return -apc.evaluate(**at(batch, r)).loss  # type: ignore[arg-type]


def spent(batch: Batch, r: Floats) -> dict[int, tuple[float, int]]:
    """Sum of |r - 1| and number of tokens of each state."""
    states: dict[int, tuple[float, int]] = {}
    for i in map(tuple, np.argwhere(batch.mask)):
        used, count = states.get(int(batch.keys["state_id"][i]), (0.0, 0))
        states[int(batch.keys["state_id"][i])] = (used + abs(float(r[i]) - 1.0), count + 1)
    return states


@pytest.mark.parametrize("seed", range(150))
def test_the_maximum_of_apc_is_the_optimum_of_trpo(seed: int) -> None:
    rng, batch, apc = instance(seed)
    delta = apc.params["delta"]
    optimum, r_star = linear_program_trpo(batch, delta, "state_id")
    assert objective_at(apc, batch, r_star) == pytest.approx(optimum, rel=1e-12, abs=1e-13)
    best, r_best = apc_maximum(batch, delta, "state_id")
    assert best == pytest.approx(optimum, rel=1e-12, abs=1e-13)
    assert objective_at(apc, batch, r_best) == pytest.approx(optimum, rel=1e-12, abs=1e-13)

    for scale in (0.05, 0.3, 1.0, 4.0):
        around = rng.choice([np.ones_like(r_star), r_star])
        r = np.abs(around + scale * rng.normal(size=r_star.shape))
        assert objective_at(apc, batch, r) <= optimum + 1e-12
        G = apc.gated_ratio(**at(batch, r))  # type: ignore[arg-type]
        assert (G[batch.mask] >= 0).all()
        for used, count in spent(batch, G).values():
            assert used <= count * delta + 1e-12
        inside = all(used <= count * delta for used, count in spent(batch, r).values())
        assert np.allclose(G[batch.mask], r[batch.mask], rtol=1e-13, atol=1e-13) == inside


def test_censoring_by_hand() -> None:
    # One state of three samples, budget 3 * .1 = .3: deviations .2, -.15, .05 spend .4, and each
    # may use what the others leave: .3 - .2 = .1, .3 - .25 = .05, max(0, .3 - .35) = 0.
    r = np.array([[1.2, 0.85, 1.05]])
    tensors = at(Batch(r, r, np.ones_like(r), r > 0, {"state_id": np.array([[6, 6, 6]])}), r)
    G = APC.gated_ratio(**tensors)  # type: ignore[arg-type]
    np.testing.assert_allclose(G, [[1.1, 0.95, 1.0]], rtol=1e-15)
