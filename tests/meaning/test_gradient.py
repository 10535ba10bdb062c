"""The gradient of the loss, a hand-written pull-back, against differences of the closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.closed_forms import Batch, random_batch
from tests.meaning.batches import tensors_of
from tests.meaning.forms import PAIRS

STEP = 1e-6


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", range(2))
def test_central_differences(name: str, seed: int) -> None:
    pair = PAIRS[name]
    rng = np.random.default_rng(seed)
    made = random_batch(
        rng,
        6,
        4,
        drift=pair.drift,
        trajectory_drift=pair.trajectory_drift,
        empty_rows=1,
        advantages="token",
        n_states=3,
    )
    batch = Batch(**tensors_of(made, rng))
    gradient = pair.objective.evaluate(**vars(batch)).gradient
    assert not gradient[~batch.mask].any()
    checked = skipped = 0
    at_rest = pair.closed_form(batch)[1]
    for i in map(tuple, np.argwhere(batch.mask)):
        losses = []
        for step in (STEP, -STEP):
            logp = batch.logp.copy()
            logp[i] += step
            losses.append(pair.closed_form(replace(batch, logp=logp))[1])
        right, left = (losses[0] - at_rest) / STEP, (at_rest - losses[1]) / STEP
        if abs(right - left) > 1e-3 * max(abs(right), abs(left), 1e-3):
            skipped += 1  # a kink within one step
            continue
        assert gradient[i] == pytest.approx((right + left) / 2, rel=1e-6, abs=1e-9)
        checked += 1
    assert skipped <= 1
    assert checked >= 8
