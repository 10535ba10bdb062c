"""The reference itself, against numbers worked out by hand and properties of the theory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.closed_forms import (
    Batch,
    Floats,
    Level,
    MeanOver,
    apc,
    apc_maximum,
    clip,
    fiberpo,
    fiberpo_log_ratio_parts,
    gspo,
    hierarchy,
    linear_program_trpo,
    ppo,
    random_batch,
    rollback,
)

log, exp = math.log, math.exp
NO_KEYS: dict[str, list[int]] = {}


def batch_of(
    x: list[list[float]],
    A: list[list[float]] | None = None,
    keys: dict[str, list[int]] = NO_KEYS,
) -> Batch:
    """Log ratios by row, short rows padded with masked NaN; advantages 1 unless given."""
    B, T = len(x), max(len(row) for row in x)
    logp, advantages = np.full((B, T), math.nan), np.full((B, T), math.nan)
    old_logp, mask = np.full((B, T), math.nan), np.zeros((B, T), dtype=np.bool_)
    for b, row in enumerate(x):
        for t, value in enumerate(row):
            logp[b, t], old_logp[b, t], mask[b, t] = value, 0.0, True
            advantages[b, t] = 1.0 if A is None else A[b][t]
    ids = {name: np.array(values, dtype=np.int64) for name, values in keys.items()}
    return Batch(logp, old_logp, advantages, mask, ids)


def with_ratios(batch: Batch, r: Floats) -> Batch:
    logp = np.where(batch.mask, 0.0, math.nan)
    logp[batch.mask] = np.log(r[batch.mask])
    return replace(batch, logp=logp, old_logp=np.where(batch.mask, 0.0, math.nan))


def ratios(batch: Batch) -> Floats:
    """r, 0 where masked out."""
    r = np.zeros(batch.mask.shape)
    r[batch.mask] = np.exp(batch.logp[batch.mask] - batch.old_logp[batch.mask])
    return r


FOUR_LEVELS: list[Level] = [
    (None, (0.15, 0.09), None, "children"),
    ("uid", (0.08, 0.05), None, "children"),
    ("data_source", (0.05, 0.03), None, "children"),
]


# Gates


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0, 0.0),
        (0.15, 0.15),
        (0.20, 0.20),  # the budget itself passes
        (0.25, 0.10),  # 3 * .20 - 2 * .25
        (0.29, 0.02),  # 3 * .20 - 2 * .29
        (0.31, 0.0),  # beyond (1 + 1/2) * .20 = .30
        (-0.15, -0.15),
        (-0.25, -0.10),  # -3 * .20 + 2 * .25
        (-0.40, 0.0),
    ],
)
def test_rollback(x: float, expected: float) -> None:
    assert rollback(x, 0.20, 2) == pytest.approx(expected, abs=1e-15)


def test_rollback_is_continuous() -> None:
    for k in (1.0, 3.0, 32.0):
        zeroed = (1 + 1 / k) * 0.2
        for x in (0.2, zeroed):
            below, above = rollback(x - 1e-12, 0.2, k), rollback(x + 1e-12, 0.2, k)
            assert below == pytest.approx(above, abs=1e-10)


def test_clip() -> None:
    assert [clip(x, -0.1, 0.3) for x in (-1.0, -0.1, 0.0, 0.3, 2.0)] == [-0.1, -0.1, 0.0, 0.3, 0.3]


# PPO, GRPO, DAPO, GSPO


def test_ppo_by_hand() -> None:
    # A >= 0: min(r, 1.28); A < 0: max(r, .8). Rows of 3 and of 1 tokens.
    r, A = [[1.5, 0.5, 1.5], [0.5]], [[1.0, 1.0, -1.0], [-2.0]]
    batch = batch_of([[log(v) for v in row] for row in r], A)
    expected = [[1.28, 0.5, 1.5], [0.8, 0.0, 0.0]]
    # Token mean: -(1.28 + .5 - 1.5 - 1.6) / 4 = 1.32 / 4
    G, loss = ppo(batch, 0.2, 0.28, "token")
    np.testing.assert_allclose(G, expected, rtol=1e-15)
    assert loss == pytest.approx(0.33, abs=1e-15)
    # Trajectory mean: -((1.28 + .5 - 1.5) / 3 - 1.6) / 2 = -(.28 / 3 - 1.6) / 2
    G, loss = ppo(batch, 0.2, 0.28, "trajectory")
    np.testing.assert_allclose(G, expected, rtol=1e-15)
    assert loss == pytest.approx(-(0.28 / 3 - 1.6) / 2, abs=1e-15)


def test_an_advantage_of_zero_is_on_the_plus_side() -> None:
    G, loss = ppo(batch_of([[log(1.5), log(0.5)]], [[0.0, 0.0]]), 0.2, 0.2, "token")
    np.testing.assert_allclose(G, [[1.2, 0.5]], rtol=1e-15)
    assert loss == 0.0
    G, _ = gspo(batch_of([[0.10, -0.04]], [[0.0, 0.0]]), 0.97, 1.02)
    np.testing.assert_allclose(G, [[1.02, 1.02]], rtol=1e-15)


def test_ppo_is_the_printed_minimum() -> None:
    # min(r A, clip(r, 1 - low, 1 + high) A), token by token, where A != 0.
    batch = random_batch(np.random.default_rng(0), 6, 9, drift=0.5, advantages="token")
    G, _ = ppo(batch, 0.2, 0.28, "token")
    r, A, m = ratios(batch), batch.advantages, batch.mask
    printed = np.minimum(r[m] * A[m], np.clip(r[m], 0.8, 1.28) * A[m])
    np.testing.assert_allclose(G[m] * A[m], printed, rtol=1e-14)


def test_gspo_by_hand() -> None:
    # Row 1: mean (.10 - .04) / 2 = .03, s = e^.03 = 1.0304545. Row 2: s = e^-.06 = .9417645.
    batch = batch_of([[0.10, -0.04], [-0.06]], [[1.0, -1.0], [-1.0]])
    G, loss = gspo(batch, 0.97, 1.02)
    # A >= 0: min(s, 1.02) = 1.02; A < 0: max(s, .97) = s in row 1 and .97 in row 2.
    np.testing.assert_allclose(G, [[1.02, exp(0.03)], [0.97, 0.0]], rtol=1e-15)
    # -(1/2) [ (1.02 - 1.0304545) / 2 - .97 ] = -(1/2) (-.0052273 - .97) = .4876136
    assert loss == pytest.approx(0.4876136, abs=5e-8)


# APC-Obj and TV-TRPO


def test_apc_by_hand() -> None:
    # State 7: r = 1.2, .95, 1.15, deviations .2, .05, .15, T_s delta = .3.
    # B = .3 - .20 = .10; .3 - .35 < 0, so 0; .3 - .25 = .05. G = 1.10, 1, 1.05.
    # State -2: r = .95, alone, B = .1: passes.
    batch = batch_of([[log(1.2), log(0.95), log(0.95)], [log(1.15)]], [[1, 1, 2], [-1]])
    batch = replace(batch, keys={"state_id": np.array([[7, 7, -2], [7, 0, 0]])})
    G, loss = apc(batch, 0.1, "state_id")
    np.testing.assert_allclose(G, [[1.10, 1.0, 0.95], [1.05, 0, 0]], rtol=1e-15)
    # -(1.10 + 1 + 1.90 - 1.05) / 4 = -2.95 / 4
    assert loss == pytest.approx(-0.7375, abs=1e-15)


def test_apc_with_a_key_per_trajectory() -> None:
    # Both rows one state: deviations .2, .1, T_s delta = .2: B = .1, 0.
    batch = batch_of([[log(1.2)], [log(0.9)]], keys={"state_id": [5, 5]})
    G, _ = apc(batch, 0.1, "state_id")
    np.testing.assert_allclose(G, [[1.1], [1.0]], rtol=1e-15)


def test_trpo_optimum_by_hand() -> None:
    # State 1: A = 2, -3, 1, T_s delta = 1.5. Lowering token 2 earns 3 per unit of deviation, one
    # unit at most (r = 0); the remaining .5 earns 2 per unit on token 1: gain 3 + 1 = 4.
    # State 2: A = -1, T_s delta = .5: gain .5. Optimum ((2 - 3 + 1 - 1) + 4.5) / 4 = .875.
    batch = batch_of([[0, 0, 0], [0]], [[2, -3, 1], [-1]], keys={"state_id": [1, 2]})
    for solve in (linear_program_trpo, apc_maximum):
        optimum, r = solve(batch, 0.5, "state_id")
        assert optimum == pytest.approx(0.875, abs=1e-12)
        np.testing.assert_allclose(r, [[1.5, 0, 1], [0.5, 0, 0]], atol=1e-12)


def test_apc_maximum_is_the_trpo_optimum() -> None:
    rng = np.random.default_rng(1)
    for n in range(50):
        delta = float(rng.choice([0.01, 0.1, 0.4, 0.9, 1.5]))
        batch = random_batch(
            rng, 4, 5, empty_rows=n % 3, advantages="token", zero_advantages=0.1, n_states=4
        )
        optimum, r = apc_maximum(batch, delta, "state_id")
        by_program, _ = linear_program_trpo(batch, delta, "state_id")
        assert optimum == pytest.approx(by_program, abs=1e-9)
        # It is attained: the objective at r (kept from 0 so that log r exists) comes up to it.
        _, loss = apc(with_ratios(batch, np.maximum(r, 1e-300)), delta, "state_id")
        assert -loss == pytest.approx(optimum, abs=1e-9)


def test_no_ratios_beat_the_apc_maximum() -> None:
    rng = np.random.default_rng(2)
    batch = random_batch(rng, 3, 4, advantages="token", n_states=3)
    for delta in (0.1, 0.6):
        optimum, best = apc_maximum(batch, delta, "state_id")
        for scale in (0.01, 0.1, 0.3, 1.0, 3.0):
            for _ in range(60):
                near = np.maximum(best, 1e-300) * np.exp(scale * rng.standard_normal(best.shape))
                far = np.exp(scale * rng.standard_normal(best.shape))
                for r in (near, far):
                    _, loss = apc(with_ratios(batch, r), delta, "state_id")
                    assert -loss <= optimum + 1e-12


def test_gated_ratios_of_apc_are_feasible() -> None:
    rng = np.random.default_rng(3)
    for drift in (0.01, 0.1, 0.5, 2.0):
        for _ in range(25):
            batch = random_batch(rng, 4, 6, drift=drift, exact_one=0.2)
            G, _ = apc(batch, 0.1, "state_id")
            ids, m = batch.keys["state_id"], batch.mask
            assert (G[m] >= 0).all()
            for state in set(ids[m].tolist()):
                at = m & (ids == state)
                deviation, r_deviation = np.abs(G[at] - 1).sum(), np.abs(ratios(batch)[at] - 1)
                assert deviation <= 0.1 * at.sum() + 1e-12
                if r_deviation.sum() <= 0.1 * at.sum():  # the identity inside the region
                    np.testing.assert_allclose(G[at], ratios(batch)[at], rtol=1e-14)


# FiberPO: figure 2b, C+ = .20, C- = .10, k = 2; zeroed from .30 and .15


@pytest.mark.parametrize(
    ("S_plus", "S_minus", "log_w"),
    [
        (0.15, 0.05, 0.10),  # G-I      .15 - .05
        (0.15, 0.12, 0.09),  # G-II,r   .15 - (3 * .1 - 2 * .12) = .15 - .06
        (0.25, 0.05, 0.05),  # G-II,r   (3 * .2 - 2 * .25) - .05 = .10 - .05, the other channel
        (0.15, 0.16, 0.15),  # G-II     .15 - 0
        (0.35, 0.05, -0.05),  # G-II    0 - .05
        (0.25, 0.20, 0.10),  # G-III,r  .10 - 0
        (0.31, 0.12, -0.06),  # G-III,r 0 - .06
        (0.25, 0.12, 0.04),  # both roll back: .10 - .06
        (0.31, 0.16, 0.0),  # G-III     0 - 0, w = 1
        # Up the diagonal: 0, up at the rollback of -, peak when - is gated, down again, 0.
        (0.08, 0.08, 0.0),
        (0.12, 0.12, 0.06),
        (0.16, 0.16, 0.16),
        (0.31, 0.31, 0.0),
    ],
)
def test_figure_2b_base_weight(S_plus: float, S_minus: float, log_w: float) -> None:
    # Two tokens, T = 2 = k, x = 2 S+ and -2 S-, so that the aggregates are S+ and S-.
    batch = batch_of([[2 * S_plus, -2 * S_minus]])
    parts = fiberpo_log_ratio_parts(batch, 0.20, 0.10, 0.02)
    np.testing.assert_allclose(parts.S_plus, [S_plus], rtol=1e-15)
    np.testing.assert_allclose(parts.S_minus, [S_minus], rtol=1e-15)
    np.testing.assert_allclose(parts.log_w, [log_w], atol=1e-15)


def test_figure_2b_gated_ratios() -> None:
    # x = .30, -.24, A = 1, -1: S+ = .15, S- = .12, log w = .15 - .06 = .09.
    # Token 1: u = .30 - .15 = .15 -> .02, v = -.12 -> -.02: log f = .04, log G = .13.
    # Token 2: u = .24 - .12 = .12, v = -.15: log f = -.02 - .02 = -.04, log G = .05.
    batch = batch_of([[0.30, -0.24]], [[1.0, -1.0]])
    parts = fiberpo_log_ratio_parts(batch, 0.20, 0.10, 0.02)
    np.testing.assert_allclose(parts.u, [[0.15, 0.12]], rtol=1e-14)
    np.testing.assert_allclose(parts.v, [[-0.12, -0.15]], rtol=1e-14)
    G, loss = fiberpo(batch, 0.20, 0.10, 0.02)
    np.testing.assert_allclose(np.log(G), [[0.13, 0.05]], rtol=1e-13)
    assert loss == pytest.approx(-(exp(0.13) - exp(0.05)) / 2, abs=1e-15)


# Figure 3: T = 3 = k, epsilon = .025, C+ = .15, C- = .09; zeroed from .20 and .12


def test_figure_3_nothing_clipped() -> None:
    # r = 1.02, .99, .99: x = .0198, -.01005 twice; S+ = .0066, S- = .0067. u = .0132 and
    # .01005 - .0067 = .0034, v = -.0067 and -.0066: L-I and G-I, G = r.
    r = [1.02, 0.99, 0.99]
    G, _ = fiberpo(batch_of([[log(v) for v in r]]), 0.15, 0.09, 0.025)
    np.testing.assert_allclose(G, [r], rtol=1e-15)


def test_figure_3_some_clipped() -> None:
    # r = 1.1, .95, .95: x = .0953102, -.0512933 twice; S+ = .0317701, S- = .0341955, both pass:
    # log w = -.0024254.
    # Token 1: u = .0635401 -> .025, v = -.0341955 -> -.025: log f = .05.
    # Others: u = .0512933 - .0341955 = .0170978 passes, v = -.0317701 -> -.025:
    # log f = -.0170978 - .025 = -.0420978.
    batch = batch_of([[log(1.1), log(0.95), log(0.95)]])
    parts = fiberpo_log_ratio_parts(batch, 0.15, 0.09, 0.025)
    np.testing.assert_allclose(parts.log_w, [-0.0024254], atol=1e-7)
    np.testing.assert_allclose(parts.log_f, [[0.05, -0.0420978, -0.0420978]], atol=1e-7)
    G, _ = fiberpo(batch, 0.15, 0.09, 0.025)
    np.testing.assert_allclose(np.log(G), [[0.0475746, -0.0445232, -0.0445232]], atol=2e-7)


@pytest.mark.parametrize(
    ("h", "log_w"),
    [
        # r = 1 + 2h, 1 - h, 1 - h: S+ = log(1 + 2h) / 3, S- = -2 log(1 - h) / 3.
        (0.10, log(1.2) / 3 + 2 * log(0.9) / 3),  # G-I      S+ = .0608, S- = .0702
        (0.15, log(1.3) / 3 - (0.36 + 2 * log(0.85))),  # G-II,r  S+ = .0875, S- = .1083,
        # g- = 4 * .09 - 3 S- = .36 + 2 log .85 = .0350
        (0.20, log(1.4) / 3),  # G-II     S+ = .1122, S- = .1488
        (0.35, 0.60 - log(1.7)),  # G-III,r  S+ = .1769, g+ = 4 * .15 - 3 S+ = .60 - log 1.7
        (0.50, 0.0),  # G-III    S+ = .2310, S- = .4621
    ],
)
def test_figure_3_global_regimes(h: float, log_w: float) -> None:
    batch = batch_of([[log(1 + 2 * h), log(1 - h), log(1 - h)]])
    parts = fiberpo_log_ratio_parts(batch, 0.15, 0.09, 0.025)
    np.testing.assert_allclose(parts.log_w, [log_w], atol=1e-14)


def test_figure_3_regimes_are_concentric() -> None:
    # On every ray from the centre of the simplex (mean r = 1) the regimes come in this order.
    order = []
    for angle in np.linspace(0.0, 2 * math.pi, 61):
        d = [math.cos(angle + turn * 2 * math.pi / 3) for turn in range(3)]
        seen: list[int] = []
        for t in np.linspace(0.0, 1.0, 2001)[:-1]:
            r = [1 + t * v / -min(d) for v in d]
            parts = fiberpo_log_ratio_parts(batch_of([[log(v) for v in r]]), 0.15, 0.09, 0.025)
            P, N = float(parts.S_plus[0]), float(parts.S_minus[0])
            assert N >= P - 1e-15  # the KL bias
            regime = (N > 0.09) + (N >= 0.12) + (P > 0.15) + (P >= 0.20)
            if not seen or seen[-1] != regime:
                seen.append(regime)
            if regime == 4:
                break
        order.append(seen)
    assert all(seen == [0, 1, 2, 3, 4] for seen in order)


# Figure 4: T = 10, k = 32, epsilon = .04, C+ = .12, C- = .05; zeroed from .12375 and .0515625.
# The drifts are ours: six tokens with +.2, four with -.3 (mean 0), advantages of the same signs.


def figure_4(t: float) -> Batch:
    r = [1 + 0.2 * t] * 6 + [1 - 0.3 * t] * 4
    return batch_of([[log(v) for v in r]], [[1.0] * 6 + [-1.5] * 4])


@pytest.mark.parametrize(
    ("t", "S", "log_w", "log_G"),
    [
        # x+ = log 1.02 = .0198026, x- = -log .97 = .0304592; S+ = .6 x+, S- = .4 x-. Nothing
        # clipped (u = .0079, .0183): G = r.
        (0.1, (0.0118816, 0.0121837), -0.0003021, (0.0198026, -0.0304592)),
        # x+ = .0582689, x- = .0943107. +: u = .0233076, v = -.0377243 pass, G = r.
        # -: u = .0943107 - .0377243 = .0565864 -> .04, log G = -(S- + .04).
        (0.3, (0.0349613, 0.0377243), -0.0027629, (0.0582689, -0.0777243)),
        # x- = -log .8815 = .1261303, S- = .0504521 rolls back: 33 * .05 - 32 S- = .0355322.
        # x+ = log 1.079 = .0760347, S+ = .0456208, log w = S+ - .0355322 = .0100886.
        # +: u = .0304139, v -> -.04: log G = .0100886 + .0704139.
        # -: u = .0756782 -> .04, v = -.0456208 -> -.04: log G = .0100886 - .08.
        (0.395, (0.0456208, 0.0504521), 0.0100886, (0.0805025, -0.0699114)),
        # x+ = .0953102, x- = .1625189; S- zeroed, log w = S+.
        # +: u = .0381241, v -> -.04: log G = .0571861 + .0781241. -: log G = .0571861 - .08.
        (0.5, (0.0571861, 0.0650076), 0.0571861, (0.1353102, -0.0228139)),
        # x+ = .1823216, x- = .3566749; everything clipped: log w +- .08.
        (1.0, (0.1093929, 0.1426700), 0.1093929, (0.1893929, 0.0293929)),
        # x+ = log 1.224 = .2021242, S+ = .1212745 rolls back: 33 * .12 - 32 S+ = .0792156.
        # x- = -log .664 = .4094731.
        (1.12, (0.1212745, 0.1637893), 0.0792156, (0.1592156, -0.0007844)),
        # x+ = log 1.26 = .2311117, S+ = .1386670: both zeroed, w = 1.
        (1.3, (0.1386670, 0.1977185), 0.0, (0.08, -0.08)),
    ],
)
def test_figure_4(
    t: float, S: tuple[float, float], log_w: float, log_G: tuple[float, float]
) -> None:
    parts = fiberpo_log_ratio_parts(figure_4(t), 0.12, 0.05, 0.04, k=32)
    G, loss = fiberpo(figure_4(t), 0.12, 0.05, 0.04, k=32)
    np.testing.assert_allclose([parts.S_plus[0], parts.S_minus[0]], S, atol=1e-7)
    # The rollback multiplies the rounding of S by 32.
    np.testing.assert_allclose(parts.log_w, [log_w], atol=2e-6)
    np.testing.assert_allclose(np.log(G[0, :6]), log_G[0], atol=2e-6)
    np.testing.assert_allclose(np.log(G[0, 6:]), log_G[1], atol=2e-6)
    # loss = -(6 G+ - 1.5 * 4 G-) / 10
    assert loss == pytest.approx(-0.6 * (exp(log_G[0]) - exp(log_G[1])), abs=2e-6)


def test_figure_4_thresholds_come_in_order() -> None:
    # The token clip (L-I to L-II) before the rollback of -, before the rollback of +.
    first: dict[str, float] = {}
    for t in np.linspace(0.0, 1.5, 1501):
        parts = fiberpo_log_ratio_parts(figure_4(float(t)), 0.12, 0.05, 0.04, k=32)
        events = {
            "clip": max(np.abs(parts.u).max(), np.abs(parts.v).max()) > 0.04,
            "minus": parts.S_minus[0] > 0.05,
            "plus": parts.S_plus[0] > 0.12,
        }
        for event, happened in events.items():
            if happened:
                first.setdefault(event, float(t))
    assert list(first) == ["clip", "minus", "plus"]
    # clip: .6 x- = .04, x- = .0666667, t = (1 - e^-.0666667) / .3 = .21498, next grid point .215
    # minus: .4 x- = .05, t = (1 - e^-.125) / .3 = .39168; plus: .6 x+ = .12, t = 5 (e^.2 - 1)
    assert list(first.values()) == pytest.approx([0.215, 0.392, 1.108], abs=1e-9)


# FiberPO: properties


def test_two_trajectories_of_different_length() -> None:
    # Row 1: x = .02, S+ = .02, T = 1: G = r. Row 2: nothing. Row 3: x = -.01, .03, G = r.
    # loss = -(1/2) [e^.02 + (2 e^-.01 - e^.03) / 2]
    batch = batch_of([[0.02], [], [-0.01, 0.03]], [[1], [], [2, -1]])
    G, loss = fiberpo(batch, 0.2, 0.1, 0.05)
    np.testing.assert_allclose(
        G, [[exp(0.02), 0.0], [0.0, 0.0], [exp(-0.01), exp(0.03)]], rtol=1e-14
    )
    assert loss == pytest.approx(-(exp(0.02) + (2 * exp(-0.01) - exp(0.03)) / 2) / 2, abs=1e-15)


def test_a_ratio_of_one_in_a_drifting_trajectory_gets_the_limit() -> None:
    # x = .3, 0, -.09 and T = 3: S+ = .1, S- = .03, both pass, log w = .07. The token in the
    # middle, from either side: clip(-.1) - clip(-.03) = -.02 + .02 = 0, so G = w here; with
    # epsilon = .05, -.05 + .03 = -.02, log G = .05.
    for epsilon, expected in ((0.02, 0.07), (0.05, 0.05)):
        for x in (0.0, 1e-12, -1e-12):
            G, _ = fiberpo(batch_of([[0.3, x, -0.09]]), 0.2, 0.1, epsilon)
            assert log(G[0, 1]) == pytest.approx(expected, abs=1e-11)
    # Zero is in the + channel: u = 0 - S+, v = -S-. G cannot tell; a gradient can.
    parts = fiberpo_log_ratio_parts(batch_of([[0.3, 0.0, -0.09]]), 0.2, 0.1, 0.02)
    np.testing.assert_allclose([parts.u[0, 1], parts.v[0, 1]], [-0.1, -0.03], rtol=1e-14)


@pytest.mark.parametrize("name", ["fiberpo", "hierarchy"])
def test_identity_jacobian_at_one(name: str) -> None:
    # dG/dr at r = 1 by central differences, all valid tokens of a batch.
    batch = random_batch(np.random.default_rng(4), 4, 3, exact_one=1.0, nan_under_mask=False)
    tokens = [(int(b), int(t)) for b, t in np.argwhere(batch.mask)]
    h = 1e-5
    for i in tokens:
        G = []
        for step in (h, -h):
            logp = batch.old_logp.copy()
            logp[i] += math.log1p(step)
            moved = replace(batch, logp=logp)
            G.append(
                fiberpo(moved, 0.2, 0.1, 0.02)[0]
                if name == "fiberpo"
                else hierarchy(moved, FOUR_LEVELS, 0.02)[0]
            )
        column = (G[0] - G[1]) / (2 * h)
        for j in tokens:
            assert column[j] == pytest.approx(1.0 if j == i else 0.0, abs=1e-9)


def test_fiberpo_is_the_printed_product() -> None:
    # arXiv 2604.03044, 3.3.1, in ratios: exp(g(log s+)) / exp(g(log s-))
    # * logclip((s^l)^-l r) / logclip((s^-l)^-l), logclip(x) = exp(clip(log x, +-epsilon)).
    rng = np.random.default_rng(11)
    lo, hi = exp(-0.03), exp(0.03)
    for _ in range(20):
        batch = random_batch(rng, 5, 8, drift=0.15, trajectory_drift=0.1, exact_one=0.2)
        G, _ = fiberpo(batch, 0.12, 0.05, 0.03)
        for b, m in enumerate(batch.mask):
            if not m.any():
                continue
            r = ratios(batch)[b, m]
            T = len(r)
            s = {
                1: np.prod(np.maximum(r, 1)) ** (1 / T),
                -1: np.prod(np.maximum(1 / r, 1)) ** (1 / T),
            }
            w = exp(rollback(log(s[1]), 0.12, T)) / exp(rollback(log(s[-1]), 0.05, T))
            for r_i, G_i in zip(r, G[b, m], strict=True):
                l_i = 1 if r_i >= 1 else -1
                f = np.clip(s[l_i] ** -l_i * r_i, lo, hi) / np.clip(s[-l_i] ** -l_i, lo, hi)
                assert G_i == pytest.approx(w * f, rel=1e-12)


def test_pass_through() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        batch = random_batch(rng, 5, 7, drift=0.3, trajectory_drift=0.2, exact_one=0.2)
        G, _ = fiberpo(batch, 10.0, 10.0, 10.0)
        np.testing.assert_allclose(G, ratios(batch), rtol=1e-14)


def test_coupling_through_the_trajectory() -> None:
    # d log G_j / d x_i for a token i of the other sign, epsilon small enough that every clip is
    # flat: 1/T where the aggregate of i passes, -k/T = -1 where it rolls back with k = T.
    for scale, expected in ((0.10, 0.1), (0.105, -1.0), (0.2, 0.0)):
        x = [scale * 2] * 5 + [-scale] * 5  # S+ = scale, C+ = .1, zeroed from .11
        log_G = []
        for step in (-1e-6, -2e-6):
            G, _ = fiberpo(batch_of([[x[0] + step, *x[1:]]]), 0.1, 0.09, 1e-3)
            log_G.append(log(G[0, 9]))
        assert (log_G[0] - log_G[1]) / 1e-6 == pytest.approx(expected, abs=1e-6)


# The hierarchy


def test_hierarchy_by_hand() -> None:
    # One group of trajectories x = .10, .30 and x = .04: S = .20 and .04; no - channel.
    x, A = [[0.10, 0.30], [0.04]], [[1.0, 1.0], [-1.0]]
    batch = batch_of(x, A, keys={"uid": [9, 9]})
    # Mean over children: S_g = .12; group C+ = .10, k = 2: 3 * .10 - 2 * .12 = .06.
    # Row 1: deviation .08, C+ = .05, k = 2, zeroed from .075: 0; tokens -+.10 -> -+.02.
    # Row 2: deviation -.08, k = 1, zeroed from .10: -(2 * .05 - .08) = -.02; token 0.
    # log G = .04, .08; .04.
    G, loss = hierarchy(
        batch,
        [(None, (0.05, 0.05), None, "children"), ("uid", (0.10, 0.10), None, "children")],
        0.02,
    )
    np.testing.assert_allclose(np.log(G[batch.mask]), [0.04, 0.08, 0.04], rtol=1e-13)
    assert loss == pytest.approx(-((exp(0.04) + exp(0.08)) / 2 - exp(0.04)) / 2, abs=1e-15)
    # Mean over tokens: S_g = (2 * .20 + .04) / 3 = .44 / 3, gated .30 - .88 / 3 = .02 / 3.
    # Row 1: deviation .16 / 3, gated .15 - .32 / 3 = .13 / 3; row 2: -.32 / 3, zeroed.
    # log G = .05 -+ .02; .02 / 3.
    G, _ = hierarchy(
        batch,
        [(None, (0.05, 0.05), None, "children"), ("uid", (0.10, 0.10), None, "token")],
        0.02,
    )
    np.testing.assert_allclose(np.log(G[batch.mask]), [0.03, 0.07, 0.02 / 3], rtol=1e-12)
    # k given: group 3 * .10 - 2 * .12 = .06 as before; row 1 with k = 1: 2 * .05 - .08 = .02.
    G, _ = hierarchy(
        batch, [(None, (0.05, 0.05), 1.0, "children"), ("uid", (0.10, 0.10), 2, "children")], 0.02
    )
    np.testing.assert_allclose(np.log(G[batch.mask]), [0.06, 0.10, 0.04], rtol=1e-13)


def test_token_mean_pushes_the_child_aggregates_forward() -> None:
    # Group 1 = {.10, .30; .04}: S = .12 over children. Group 2 = {.30}: S = .30. Domain over
    # tokens: (3 * .12 + 1 * .30) / 4 = .165 = S_D (not the mean of x, .74 / 4 = .185).
    # Only the domain gate passes anything: log G = .165 everywhere.
    batch = batch_of([[0.10, 0.30], [0.04], [0.30]], keys={"uid": [1, 1, 2], "domain": [3, 3, 3]})
    levels: list[Level] = [
        (None, (0.0, 0.0), None, "children"),
        ("uid", (0.0, 0.0), None, "children"),
        ("domain", (1.0, 1.0), None, "token"),
    ]
    G, _ = hierarchy(batch, levels, 0.0)
    np.testing.assert_allclose(np.log(G[batch.mask]), [0.165] * 4, rtol=1e-13)


def test_budgets_per_cell() -> None:
    # One token each, S = .09 and k = 1: passes 0.10, rolls back from .05 (2 * .05 - .09 = .01).
    batch = batch_of([[0.09], [0.09]], keys={"domain": [-4, 8]})
    gate: Level = ("domain", {-4: (0.10, 0.10), None: (0.05, 0.05)}, None, "children")
    G, _ = hierarchy(batch, [(None, (1.0, 1.0), None, "children"), gate], 1.0)
    np.testing.assert_allclose(np.log(G[:, 0]), [0.09, 0.01], rtol=1e-13)


def test_one_level_hierarchy_is_fiberpo() -> None:
    rng = np.random.default_rng(6)
    for n in range(40):
        batch = random_batch(
            rng, 5, 8, drift=0.15, trajectory_drift=0.1, exact_one=0.2, empty_rows=n % 3
        )
        for k in (None, 4.0):
            G, loss = fiberpo(batch, 0.12, 0.05, 0.03, k)
            H, same = hierarchy(batch, [(None, (0.12, 0.05), k, "children")], 0.03)
            np.testing.assert_allclose(G, H, rtol=1e-13)
            assert loss == pytest.approx(same, abs=1e-14)


@pytest.mark.parametrize("over_groups", ["children", "token"])
@pytest.mark.parametrize("over_trajectories", ["children", "token"])
def test_hierarchy_telescopes(over_trajectories: MeanOver, over_groups: MeanOver) -> None:
    rng = np.random.default_rng(7)
    levels: list[Level] = [
        (None, (9.0, 9.0), None, "children"),
        ("uid", (9.0, 9.0), None, over_trajectories),
        ("data_source", (9.0, 9.0), None, over_groups),
    ]
    for _ in range(10):
        batch = random_batch(rng, 8, 6, drift=0.3, trajectory_drift=0.3, empty_rows=2)
        G, loss = hierarchy(batch, levels, 9.0)
        np.testing.assert_allclose(G, ratios(batch), rtol=1e-13)
        _, plain = ppo(batch, 1e9, 1e9, "trajectory")
        assert loss == pytest.approx(plain, abs=1e-13)


def test_hierarchy_is_block_diagonal_and_bounded() -> None:
    rng = np.random.default_rng(8)
    bound = (0.15 + 0.09) + (0.08 + 0.05) + (0.05 + 0.03) + 2 * 0.02
    for _ in range(20):
        batch = random_batch(rng, 8, 6, drift=0.2, trajectory_drift=0.2, nan_under_mask=False)
        G, _ = hierarchy(batch, FOUR_LEVELS, 0.02)
        assert np.abs(np.log(G[batch.mask])).max() <= bound
        domain = batch.keys["data_source"]
        inside = domain == domain[0]
        logp = np.where(inside[:, None], batch.logp + 0.07, batch.logp)
        moved, _ = hierarchy(replace(batch, logp=logp), FOUR_LEVELS, 0.02)
        np.testing.assert_array_equal(moved[~inside], G[~inside])
        assert (moved[inside] != G[inside]).any()


def test_a_level_finer_than_the_trajectory() -> None:
    # token < turn: turns {.10, .30}, {.04}; C+ = .15, k = 2 and 1: .20 rolls back to .05, .04
    # passes; tokens -+.10 -> -+.02, 0.
    batch = batch_of([[0.10, 0.30, 0.04]])
    batch = replace(batch, keys={"turn": np.array([[1, 1, 2]])})
    G, _ = hierarchy(batch, [("turn", (0.15, 0.15), None, "children")], 0.02)
    np.testing.assert_allclose(np.log(G), [[0.03, 0.07, 0.04]], rtol=1e-13)


def test_a_key_that_splits_a_finer_cell_is_refused() -> None:
    batch = batch_of([[0.1], [0.1]], keys={"uid": [1, 1], "data_source": [1, 2]})
    with pytest.raises(ValueError, match="'data_source' splits the finer cell"):
        hierarchy(batch, FOUR_LEVELS, 0.02)


# The mask, empty trajectories, random batches


@pytest.mark.parametrize("name", ["ppo", "dapo", "gspo", "apc", "fiberpo", "hierarchy"])
def test_masked_tokens_and_empty_rows_do_not_count(name: str) -> None:
    def evaluate(batch: Batch) -> tuple[Floats, float]:
        match name:
            case "ppo":
                return ppo(batch, 0.2, 0.2, "trajectory")
            case "dapo":
                return ppo(batch, 0.2, 0.28, "token")
            case "gspo":
                return gspo(batch, 0.97, 1.02)
            case "apc":
                return apc(batch, 0.1, "state_id")
            case "fiberpo":
                return fiberpo(batch, 0.12, 0.05, 0.03)
            case _:
                return hierarchy(batch, FOUR_LEVELS, 0.02)

    rng = np.random.default_rng(9)
    for _ in range(5):
        batch = random_batch(rng, 7, 6, drift=0.2, empty_rows=3, advantages="token")
        G, loss = evaluate(batch)
        assert np.isfinite(G).all()
        assert math.isfinite(loss)
        assert (G[~batch.mask] == 0).all()
        # Other rubbish under the mask.
        logp = np.where(batch.mask, batch.logp, 1e300)
        advantages = np.where(batch.mask, batch.advantages, math.inf)
        assert evaluate(replace(batch, logp=logp, advantages=advantages))[1] == loss
        # The empty rows left out, the others in another order.
        rows = rng.permutation(np.flatnonzero(batch.mask.any(axis=1)))
        smaller = Batch(
            batch.logp[rows],
            batch.old_logp[rows],
            batch.advantages[rows],
            batch.mask[rows],
            {key: ids[rows] for key, ids in batch.keys.items()},
        )
        H, same = evaluate(smaller)
        np.testing.assert_allclose(H, G[rows], rtol=1e-13)
        assert same == pytest.approx(loss, abs=1e-13)
    nothing = random_batch(rng, 3, 4, empty_rows=3)
    G, loss = evaluate(nothing)
    assert not G.any()
    assert loss == 0.0


def test_random_batch() -> None:
    rng = np.random.default_rng(10)
    batch = random_batch(
        rng, 40, 12, exact_one=0.3, empty_rows=5, zero_advantages=0.3, n_domains=3, n_groups=12
    )
    m, ids = batch.mask, batch.keys
    assert (~m.any(axis=1)).sum() == 5
    assert np.isnan(batch.logp[~m]).all()
    assert (batch.logp[m] <= 0).all()
    assert 0.2 < (batch.logp[m] == batch.old_logp[m]).mean() < 0.4
    for b in np.flatnonzero(m.any(axis=1)):
        assert len(set(batch.advantages[b, m[b]].tolist())) == 1
    assert 0.1 < (batch.advantages[m] == 0).mean() < 0.5
    for uid in set(ids["uid"].tolist()):
        assert len(set(ids["data_source"][ids["uid"] == uid].tolist())) == 1
    assert {values.dtype for values in ids.values()} == {np.dtype(np.int64)}
    assert ids["state_id"].shape == (40, 12)
    assert len(set(ids["uid"].tolist())) > 8
    assert (ids["uid"] < 0).any()
    assert (np.abs(ids["uid"].astype(np.float64)) > 2.0**60).any()
