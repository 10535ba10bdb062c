"""Metrics of the reference against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest

import fibdsl
from tests.meaning.batches import of_log_ratios, spec


def test_fiberpo() -> None:
    # Three trajectories and a row without a token; S+ and S- of each:
    #   .01/3, .01/3  both pass
    #   .25, 0        rollback (k = 2: up to .3), the other passes
    #   0, .3         the other passes, zeroed (k = 1: from .2)
    nan = np.nan
    x = [[0.01, -0.01, 0.0], [0.4, 0.1, nan], [-0.3, nan, nan], [nan, nan, nan]]
    tensors = of_log_ratios(x, np.array([[1.0], [-1.0], [2.0], [5.0]]))
    tensors["mask"] = np.isfinite(x)
    objective = fibdsl.load("fiberpo", c_plus=0.2, c_minus=0.1, epsilon=0.02)
    # 3 * .2 - 2 * .25 = .1, residuals +-.15 clipped to +-.02; exp(0) for the zeroed one.
    G = [np.exp(0.01), np.exp(-0.01), 1.0, np.exp(0.12), np.exp(0.08), 1.0]
    r = np.exp([0.01, -0.01, 0.0, 0.4, 0.1, -0.3])
    assert objective.evaluate(**tensors).metrics == pytest.approx(
        {
            "drift/trajectory/plus": (0.01 / 3 + 0.25) / 3,
            "drift/trajectory/minus": (0.01 / 3 + 0.3) / 3,
            "drift/token/plus": (0.01 + 0.4 + 0.1) / 6,
            "drift/token/minus": (0.01 + 0.3) / 6,
            "regime/trajectory/plus/pass": 2 / 3,
            "regime/trajectory/plus/rollback": 1 / 3,
            "regime/trajectory/plus/zeroed": 0,
            "regime/trajectory/minus/pass": 2 / 3,
            "regime/trajectory/minus/rollback": 0,
            "regime/trajectory/minus/zeroed": 1 / 3,
            "regime/token/plus/pass": 4 / 6,
            "regime/token/plus/clipped": 2 / 6,
            "regime/token/minus/pass": 1,
            "regime/token/minus/clipped": 0,
            "tokens_clipped": 2 / 6,
            "ratio/mean": r.mean(),
            "gated_ratio/mean": np.mean(G),
            "kl/k1": -(0.4 + 0.1 - 0.3) / 6,
            "kl/k3": (r - 1).mean() - (0.4 + 0.1 - 0.3) / 6,
        },
        rel=1e-13,
        abs=1e-16,
    )


def test_pessimistic_clip_counts_only_where_it_acts() -> None:
    # Beyond the bounds .8 and 1.2: by sign of the advantage two of the four are clipped.
    # A ratio of 1 is on the + side.
    r = np.array([[1.5, 1.5, 0.5, 0.5, 1.0, 0.9]])
    A = [[1.0, -1.0, 1.0, -1.0, 1.0, 0.0]]
    metrics = fibdsl.load("ppo").evaluate(**of_log_ratios(np.log(r), A)).metrics
    assert metrics == pytest.approx(
        {
            "drift/trajectory": 0.1 / 6,
            "drift/token": (4 * 0.5 + 0.1) / 6,
            "regime/token/plus/pass": 2 / 6,
            "regime/token/plus/clipped": 1 / 6,
            "regime/token/minus/pass": 2 / 6,
            "regime/token/minus/clipped": 1 / 6,
            "tokens_clipped": 2 / 6,
            "ratio/mean": 5.9 / 6,
            "gated_ratio/mean": (1.2 + 1.5 + 0.5 + 0.8 + 1.0 + 0.9) / 6,
            "kl/k1": -np.log(r).mean(),
            "kl/k3": -0.1 / 6 - np.log(r).mean(),
        },
        rel=1e-13,
        abs=1e-16,
    )


def test_a_pessimistic_gate_of_a_trajectory_is_weighed_by_the_advantages_in_it() -> None:
    # Both sequences leave the bounds: upwards with three of four advantages >= 0 (the upper bound
    # acts for those), downwards with one of two < 0.
    tensors = of_log_ratios(
        [[0.3, 0.3, 0.3, 0.3], [-0.2, -0.2, 0.0, 0.0]], [[1, 0, 2, -1], [1, -1, 0, 0]]
    )
    tensors["mask"] = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    evaluation = fibdsl.load("gspo", high=1.1, low=0.9).evaluate(**tensors)
    up, down = np.exp(0.3), np.exp(-0.2)
    np.testing.assert_allclose(
        evaluation.gated_ratio, [[1.1, 1.1, 1.1, up], [down, 0.9, 0, 0]], rtol=1e-15
    )
    expected = {
        "drift/trajectory": 0.25,
        "regime/trajectory/plus/clipped": 0.75 / 2,
        "regime/trajectory/plus/pass": 0.25 / 2,
        "regime/trajectory/minus/clipped": 0.5 / 2,
        "regime/trajectory/minus/pass": 0.5 / 2,
    }
    assert expected == pytest.approx({k: evaluation.metrics[k] for k in expected}, rel=1e-14)
    assert "tokens_clipped" not in evaluation.metrics


def test_cells_of_every_level_count_once() -> None:
    # Groups {row 0, row 1} and {row 2}; S+ of rows .03, .05, .2, of groups .04 and .2.
    objective = spec(
        "log_ratio split",
        "token < trajectory < group by uid",
        "at group { base rollback(+0.1, -0.1) }",
        "at trajectory { fiber clip(0.005) }",
        "at token { fiber clip(0.5) }",
        "reduce mean over group, mean over token",
    )
    tensors = of_log_ratios([[0.03, 0.03], [0.05, 0.05], [0.4, 0.0]], uid=[9, 9, -4])
    metrics = objective.evaluate(**tensors).metrics
    expected = {
        "drift/group/plus": 0.12,
        "drift/trajectory/plus": 0.28 / 3,
        "drift/token/plus": 0.56 / 6,
        "regime/group/plus/pass": 0.5,
        "regime/group/plus/zeroed": 0.5,
        "regime/group/minus/pass": 1.0,
        "regime/trajectory/plus/clipped": 2 / 3,
        "regime/trajectory/plus/pass": 1 / 3,
        "regime/token/plus/pass": 1.0,
        "tokens_clipped": 0.0,
    }
    assert expected == pytest.approx({k: metrics[k] for k in expected}, rel=1e-14)
