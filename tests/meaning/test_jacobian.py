"""The Jacobian of the gating map: identity at r = 1, diagonal where gates pass, block-diagonal.

At r = 1 a derivative with respect to log r is one with respect to r.
"""

from __future__ import annotations

import numpy as np
import pytest

import fibdsl
from fibdsl.objective import Objective
from tests.meaning.batches import (
    jacobian,
    log_ratios,
    of_log_ratios,
    random_tensors,
    spec,
    with_log_ratios,
)

AGREEING = ("ppo", "grpo", "dapo", "apc", "fiberpo", "fiberpo_domain")

INLINE = {
    "turns": spec(
        "log_ratio split",
        "token < turn by turn_id < trajectory < group by uid",
        "at group { base rollback(+0.1, -0.05) }",
        "at trajectory { fiber rollback(+0.1, -0.05, k = tokens) }",
        "at turn { aggregate mean over token fiber clip(0.03) }",
        "at token { fiber clip(0.02) }",
        "reduce mean over trajectory, mean over token",
    ),
    "experts": spec(
        "log_ratio split",
        "token < expert by expert_id",
        "at expert { base rollback(+0.1, -0.05) }",
        "at token { fiber clip(0.02) }",
        "reduce mean over trajectory, mean over token",
    ),
    "net": spec(
        "log_ratio net",
        "token < trajectory",
        "at trajectory { base clip(+0.1, -0.05) pessimistic }",
        "at token { fiber clip(0.02) pessimistic }",
        "reduce mean over token",
    ),
    "split_pessimistic": spec(
        "log_ratio split",
        "token < trajectory",
        "at trajectory { base rollback(+0.1, -0.05) pessimistic }",
        "at token { fiber clip(0.02) }",
        "reduce mean over token",
    ),
    "deviation_split": spec(
        "ratio split",
        "token < trajectory",
        "at trajectory { base rollback(+0.1, -0.05) }",
        "at token { fiber clip(0.02) }",
        "reduce sum over token",
    ),
}
OBJECTIVES = {name: fibdsl.load(name) for name in AGREEING} | INLINE


@pytest.fixture(params=OBJECTIVES)
def objective(request: pytest.FixtureRequest) -> Objective:
    return OBJECTIVES[request.param]


@pytest.mark.parametrize("seed", range(5))
def test_identity_to_the_last_bit_at_ratio_one(objective: Objective, seed: int) -> None:
    tensors = with_log_ratios(random_tensors(np.random.default_rng(seed)), 0.0)
    n = int(tensors["mask"].sum())
    assert np.array_equal(jacobian(objective, tensors), np.eye(n))
    evaluation = objective.evaluate(**tensors)
    assert np.array_equal(evaluation.gated_ratio, tensors["mask"].astype(float))


@pytest.mark.parametrize("seed", range(5))
def test_diagonal_where_every_gate_passes(objective: Objective, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = random_tensors(rng)
    x = rng.uniform(-1, 1, tensors["mask"].shape) * 1e-3
    x[rng.random(x.shape) < 0.4] = 0.0
    ratio = np.exp(x[tensors["mask"]])
    J = jacobian(objective, with_log_ratios(tensors, x))
    np.testing.assert_allclose(np.diag(J), ratio, rtol=1e-14)
    assert np.array_equal(J - np.diag(np.diag(J)), np.zeros_like(J))


def test_gspo_shares_a_gradient_over_the_sequence() -> None:
    tensors = of_log_ratios(np.zeros((2, 4)))
    blocks = np.kron(np.eye(2), np.full((4, 4), 0.25))
    assert np.array_equal(jacobian(fibdsl.load("gspo"), tensors), blocks)


# S+ = (.40 + .16) / 5 = .112, S- = (.05 + .03) / 5 = .016.
DRIFTING = [0.40, 0.16, -0.05, -0.03, 0.0]


@pytest.mark.parametrize(
    ("c_plus", "log_w"),
    [
        (0.2, 0.112 - 0.016),
        (0.1, (5 + 1) * 0.1 - 5 * 0.112 - 0.016),
        (0.09, 0.0 - 0.016),
    ],
)
def test_ratio_one_in_a_drifting_trajectory(c_plus: float, log_w: float) -> None:
    objective = fibdsl.load("fiberpo", c_plus=c_plus, c_minus=0.05, epsilon=0.02)
    at_one = objective.gated_ratio(**of_log_ratios([DRIFTING]))[0, 4]
    # Both residuals of a zero are those of the aggregates alone: clip(-.112) and clip(-.016).
    assert at_one == pytest.approx(np.exp(log_w - 0.02 + 0.016), rel=1e-14)
    for nudge in (1e-9, -1e-9):
        near = objective.gated_ratio(**of_log_ratios([[*DRIFTING[:4], np.log1p(nudge)]]))[0, 4]
        assert near == pytest.approx(at_one, rel=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_ratio_one_is_the_limit_of_its_neighbours(objective: Objective, seed: int) -> None:
    tensors = random_tensors(np.random.default_rng(seed), drift=0.3)
    x = log_ratios(tensors)
    zeros = np.argwhere((x == 0) & tensors["mask"])
    G = objective.gated_ratio(**tensors)
    for row, column in zeros:
        for nudge in (1e-9, -1e-9):
            moved = x.copy()
            moved[row, column] = np.log1p(nudge)
            near = objective.gated_ratio(**with_log_ratios(tensors, moved))
            assert near[row, column] == pytest.approx(G[row, column], abs=1e-7)


def test_rolled_back_trajectory_by_hand() -> None:
    # T = k = 2, S = .22 in rollback: y = 3 * .2 - 2 * .22 = .16; residuals +-.01 pass, so
    # d log G_i / dx_j = -2/2 (rollback of the mean) + [i = j] - 1/2 (residual).
    objective = fibdsl.load("fiberpo", c_plus=0.2, c_minus=0.1, epsilon=0.02)
    J = jacobian(objective, of_log_ratios([[0.23, 0.21]]))
    G = np.exp([0.17, 0.15])
    np.testing.assert_allclose(J, G[:, None] * [[-0.5, -1.5], [-1.5, -0.5]], rtol=1e-13)


def test_clipped_token_by_hand() -> None:
    # S = .1 passes; residuals +-.05 are clipped: only the mean moves, d log G_i / dx_j = 1/2.
    objective = fibdsl.load("fiberpo", c_plus=0.2, c_minus=0.1, epsilon=0.02)
    J = jacobian(objective, of_log_ratios([[0.15, 0.05]]))
    G = np.exp([0.12, 0.08])
    np.testing.assert_allclose(J, G[:, None] * np.full((1, 2), 0.5), rtol=1e-13)


# One state of two, budget 2 * .1: the first deviation, .25, is cut to .2, and nothing is left for
# the second. Both gates see only the other's deviation.
CENSORED = of_log_ratios([[np.log(1.25), 0.0]], state_id=[[5, 5]])


def test_what_a_ratio_of_one_takes_from_a_censored_neighbour() -> None:
    # At 0 |x| has slope +1: zero belongs to the + side.
    J = jacobian(fibdsl.load("apc", delta=0.1), CENSORED)
    assert np.array_equal(J[0], [0.0, -1.0])


def test_a_ratio_of_one_without_any_budget_left_has_no_gradient() -> None:
    # B = 0 whatever the token does, so G = 1 on a whole neighbourhood of r = 1.
    apc = fibdsl.load("apc", delta=0.1)
    for x in (1e-9, -1e-9, 0.0):
        J = jacobian(apc, with_log_ratios(CENSORED, [[np.log(1.25), x]]))
        assert np.array_equal(J[1], [0.0, 0.0])


CELLS = {
    "ppo": "token",
    "grpo": "token",
    "dapo": "token",
    "gspo": "trajectory",
    "apc": "state_id",
    "fiberpo": "trajectory",
    "fiberpo_domain": "data_source",
}


@pytest.mark.parametrize("name", CELLS)
def test_block_diagonal_over_the_coarsest_gated_level(name: str) -> None:
    objective = fibdsl.load(name)
    coupled = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        tensors = random_tensors(rng, drift=0.15, trajectory_drift=0.0 if name == "apc" else 0.3)
        mask, keys = tensors["mask"], tensors["keys"]
        rows = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)
        cells = {
            "token": np.arange(mask.size).reshape(mask.shape),
            "trajectory": rows,
            "state_id": keys["state_id"],
            "data_source": keys["data_source"][rows],
        }[CELLS[name]][mask]
        J = jacobian(objective, tensors)
        same = cells[:, None] == cells
        assert np.array_equal(J[~same], np.zeros((~same).sum()))
        coupled += int(np.count_nonzero(J[same & ~np.eye(len(J), dtype=bool)]))
    assert (coupled > 0) == (CELLS[name] != "token")


def test_a_domain_couples_tokens_of_different_groups() -> None:
    # Means of children: the + channel of the domain is (.10 + .02) / 2 = .06 > .05 and rolls back
    # with k = 2, so every token depends on every other through it: slope -2 / (2 * 2 * 2).
    tensors = of_log_ratios([[0.11, 0.09], [0.03, 0.01]], uid=[7, 8], data_source=[1, 1])
    J = jacobian(fibdsl.load("fiberpo_domain"), tensors)
    assert (J != 0).all()
    away = of_log_ratios([[0.11, 0.09], [0.03, 0.01]], uid=[7, 8], data_source=[1, 2])
    J = jacobian(fibdsl.load("fiberpo_domain"), away)
    assert np.array_equal(J[:2, 2:], np.zeros((2, 2)))
    assert np.array_equal(J[2:, :2], np.zeros((2, 2)))
