"""Where a trainer does something else than its options, its documentation or its paper say.

docs/objectives.md tells of these. A test that fails means that a trainer has been mended.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from tests.trainers import parity
from tests.trainers.batches import KINDS, Batch, random_batch
from tests.trainers.verl_cases import AGGREGATIONS, NOT_COVERED

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("verl", "trl")),
        reason="verl or trl is not installed",
    ),
]

PARTS = (slice(0, 4), slice(4, 9), slice(9, 15))
TOKENS, FAR = random_batch(KINDS["tokens"], 0), random_batch(KINDS["far"], 0)


def loss(mode: str, aggregation: str, batch: Batch = TOKENS, **options: Any) -> float:
    from tests.trainers import verl

    return verl.policy_loss(batch, mode, aggregation, options).loss


@pytest.mark.parametrize("mode", ["sapo", "geo_mean"])
def test_verl_ignores_the_aggregation(mode: str) -> None:
    assert len({loss(mode, aggregation) for aggregation in AGGREGATIONS}) == 1


def test_parts_add_up_except_those_of_geo_mean() -> None:
    from tests.trainers import verl

    for mode in verl.REGISTERED - NOT_COVERED:
        options = {"policy_loss.dro_beta": 0.5} if mode == "dro" else {}
        for aggregation in AGGREGATIONS:
            parts = (
                verl.policy_loss(part, mode, aggregation, options, whole=TOKENS).loss
                for part in map(TOKENS.rows, PARTS)
            )
            whole = verl.policy_loss(TOKENS, mode, aggregation, options).loss
            assert (sum(parts) == pytest.approx(whole, rel=1e-9)) == (mode != "geo_mean")


def test_geo_mean_averages_over_the_micro_batch() -> None:
    rows = [5 * loss("geo_mean", "token-mean", TOKENS.rows(slice(i, i + 5))) for i in (0, 5, 10)]
    assert sum(rows) / 15 == pytest.approx(loss("geo_mean", "token-mean"))


def test_clip_ratio_alone_has_no_effect() -> None:
    """clip_ratio_low and clip_ratio_high are 0.2 unless they are set too."""
    assert loss("vanilla", "token-mean", clip_ratio=0.9) == loss("vanilla", "token-mean")
    both: dict[str, Any] = {"clip_ratio_low": None, "clip_ratio_high": None}
    assert loss("vanilla", "token-mean", clip_ratio=0.9, **both) != loss("vanilla", "token-mean")


def test_dppo_caps_ratios_at_3_not_at_20() -> None:
    for mode in ("dppo_tv", "dppo_kl"):
        assert loss(mode, "token-mean") == loss(mode, "token-mean", clip_ratio_c=3.0)
        assert loss(mode, "token-mean") != loss(mode, "token-mean", clip_ratio_c=20.0)


def test_without_a_scale_factor_the_divisor_is_the_width_of_the_micro_batch() -> None:
    mode = "seq-mean-token-sum-norm"
    width = TOKENS.mask.shape[1]
    assert loss("vanilla", mode) == loss("vanilla", mode, loss_scale_factor=width)


def test_vanilla_has_no_gradient_beyond_20() -> None:
    """Where A < 0 and no dual clip acts, ratios above exp(20) are pushed down no more."""
    from tests.trainers import verl

    found = verl.policy_loss(FAR, "vanilla", "token-mean", {"clip_ratio_c": 1e30}).gradient
    x = np.where(FAR.mask, FAR.logp - FAR.old_logp, 0.0)
    beyond, before = (x > 20) & (FAR.advantages < 0), (x > 15) & (x < 20) & (FAR.advantages < 0)
    assert beyond.any()
    assert before.any()
    assert (found[beyond] == 0).all()
    assert (found[before] > 1e3).all()


def test_gspo_has_no_gradient_beyond_10() -> None:
    from tests.trainers import verl

    found = verl.policy_loss(FAR, "gspo", "seq-mean-token-mean", {}).gradient
    x = np.where(FAR.mask, FAR.logp - FAR.old_logp, 0.0).sum(-1) / np.maximum(FAR.mask.sum(-1), 1)
    beyond = (x > 10) & (FAR.advantages[:, 0] < 0)
    assert beyond.any()
    assert (found[beyond] == 0).all()


def test_bypassed_ppo_clip_has_no_weights() -> None:
    given = {"loss_type": "ppo_clip", "rollout_is": "token", "rollout_is_threshold": 2.0}
    options: dict[str, Any] = {f"policy_loss.rollout_correction.{n}": v for n, v in given.items()}
    assert loss("bypass_mode", "token-mean", **options) == loss("vanilla", "token-mean")


def test_trl_multiplies_the_kl_term_by_the_ratio() -> None:
    from tests.trainers import trl

    def at(**options: Any) -> float:
        return trl.policy_loss(TOKENS, "grpo", "token", {"beta": 0.1, **options}).loss

    assert at() == at(use_bias_correction_kl=True)
    assert at() != at(use_bias_correction_kl=False)


def test_both_count_rows_without_a_valid_token() -> None:
    """A mean over rows is divided by all of them; ours is, too, if `normalizers` says so."""
    means = ("seq-mean-token-mean", "token")
    cases = [c for c in parity.CASES if c.loss in ("vanilla", "grpo") and c.setting in means]
    for case in [c for c in cases if c.spec == "dapo" and not c.about]:
        batch, rows = case.batch, case.batch.mask.any(-1)
        ours = parity.objective(case).evaluate(
            batch.logp, batch.old_logp, batch.advantages, batch.mask
        )
        assert parity.theirs(case).loss == pytest.approx(ours.loss * rows.mean(), rel=1e-9)
        assert rows.mean() < 1
