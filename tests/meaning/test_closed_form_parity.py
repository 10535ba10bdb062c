"""Gated ratios and losses of the reference interpreter are those of the printed formulas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from tests.closed_forms import Batch, Floats, random_batch
from tests.meaning.batches import tensors_of
from tests.meaning.forms import CHAINS, PAIRS, SHIPPED, Pair, chain, real

TOLERANCE = 1e-12

# What varies from batch to batch beside its random numbers.
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"exact_one": 0.3, "empty_rows": 2, "advantages": "token", "zero_advantages": 0.3},
    {"holes": 0.6, "empty_rows": 1, "n_groups": 8, "n_domains": 4},
    {"n_groups": 1, "n_domains": 1, "n_states": 1, "exact_one": 0.9, "advantages": "token"},
    {"drift": 1.5, "trajectory_drift": 1.0, "advantages": "token", "nan_under_mask": False},
    {"drift": 1e-3, "trajectory_drift": 1e-3},
)


def batches(pair: Pair) -> Iterable[Batch]:
    drift = {"drift": pair.drift, "trajectory_drift": pair.trajectory_drift}
    for seed, kind in enumerate(KINDS * 3):
        rng = np.random.default_rng(seed)
        rows, width = (int(n) for n in rng.integers((3, 1), (10, 12)))
        batch = random_batch(rng, rows, width, **drift | kind)
        yield Batch(**tensors_of(batch, rng))


def compare(pair: Pair, batch: Batch) -> Floats:
    G, loss = pair.closed_form(batch)
    evaluation = pair.objective.evaluate(**vars(batch))
    np.testing.assert_allclose(evaluation.gated_ratio, G, rtol=TOLERANCE, atol=TOLERANCE)
    assert evaluation.loss == pytest.approx(loss, rel=TOLERANCE, abs=TOLERANCE)
    assert np.array_equal(pair.objective.gated_ratio(**vars(batch)), evaluation.gated_ratio)
    return G


@pytest.mark.parametrize("name", PAIRS)
def test_random_batches(name: str) -> None:
    gated = 0  # batches in which a gate acts
    for batch in batches(PAIRS[name]):
        G = compare(PAIRS[name], batch)[batch.mask]
        ratio = np.exp(batch.logp - batch.old_logp)[batch.mask]
        gated += not np.allclose(G, ratio, rtol=1e-9)
    assert gated >= 5


@pytest.mark.parametrize("garbage", [np.inf, -np.inf, np.nan])
def test_infinities_under_the_mask(garbage: float) -> None:
    for pair in SHIPPED.values():
        batch = random_batch(np.random.default_rng(0), 5, 6, drift=pair.drift)
        for array in (batch.logp, batch.old_logp, batch.advantages):
            array[~batch.mask] = garbage
        compare(pair, batch)


@pytest.mark.parametrize("rollouts", ["near", "far"])
@pytest.mark.parametrize("name", [*SHIPPED, "chain_means_over_tokens", "chain_fractional_k"])
def test_real_rollouts(name: str, rollouts: str) -> None:
    compare(PAIRS[name], real(rollouts))


def test_one_token() -> None:
    for pair in PAIRS.values():
        rng = np.random.default_rng(3)
        batch = random_batch(rng, 1, 1, drift=2.0, holes=0.0, n_domains=1, n_groups=1)
        compare(pair, Batch(**tensors_of(batch, rng)))


def test_real_rollouts_reach_the_gates() -> None:
    metrics = SHIPPED["fiberpo"].objective.evaluate(**vars(real("far"))).metrics
    assert metrics["regime/trajectory/plus/zeroed"] > 0
    assert metrics["regime/trajectory/minus/pass"] > 0
    assert 0 < metrics["tokens_clipped"] <= 1


# --- reductions ---------------------------------------------------------------------------------


def reduced(batch: Batch, G: Floats, steps: list[tuple[str, str | None]]) -> float:
    """J by nested means and sums over cells: (reduction, key) from the outermost to the token."""
    tokens = [(int(b), int(t)) for b, t in np.argwhere(batch.mask)]

    def value(steps: list[tuple[str, str | None]], inside: list[tuple[int, int]]) -> float:
        (reduction, key), rest = steps[0], steps[1:]
        if not rest:
            terms = [float(G[i] * batch.advantages[i]) for i in inside]
        else:
            cells: dict[int, list[tuple[int, int]]] = {}
            for i in inside:
                ids = np.arange(len(batch.mask)) if key is None else batch.keys[key]
                cells.setdefault(int(ids[i[0]] if ids.ndim == 1 else ids[i]), []).append(i)
            terms = [value(rest, members) for members in cells.values()]
        return sum(terms) / (len(terms) if reduction == "mean" else 1)

    return value(steps, tokens)


KEYS = {
    "token": None,
    "trajectory": None,
    "group": "uid",
    "domain": "data_source",
    "campus": "campus",
    "turn": "turn_cell",
    "expert": "expert_id",
}


@pytest.mark.parametrize(
    ("levels", "reduce"),
    [
        ("two", "mean over token"),
        ("two", "sum over token"),
        ("two", "mean over trajectory, sum over token"),
        ("two", "sum over trajectory, mean over token"),
        ("three", "mean over group, mean over token"),
        ("three", "mean over group, mean over trajectory, mean over token"),
        ("four", "mean over domain, mean over trajectory, mean over token"),
        ("four", "mean over domain, mean over token"),
        ("four", "sum over domain, mean over group, sum over trajectory, mean over token"),
        ("six", "mean over campus, mean over group, mean over turn, mean over token"),
        ("six", "mean over domain, mean over turn, sum over token"),
        ("turn", "mean over trajectory, mean over turn, mean over token"),
        ("turn", "mean over turn, mean over token"),
        ("only_turn", "mean over trajectory, mean over token"),
        ("expert", "mean over expert, mean over token"),
        ("expert", "sum over trajectory, mean over token"),
        ("expert", "sum over token"),
    ],
)
def test_reductions(levels: str, reduce: str) -> None:
    objective = chain(CHAINS[levels], 0.02, reduce)
    steps = [step.split(" over ") for step in reduce.split(", ")]
    for batch in batches(Pair(objective, PAIRS[f"chain_{levels}"].closed_form)):
        G, _ = PAIRS[f"chain_{levels}"].closed_form(batch)
        expected = -reduced(batch, G, [(reduction, KEYS[level]) for reduction, level in steps])
        evaluation = objective.evaluate(**vars(batch))
        assert evaluation.loss == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


def test_parts_of_a_batch_divided_by_the_counts_of_the_whole() -> None:
    pair = PAIRS["fiberpo"]
    batch = random_batch(np.random.default_rng(0), 9, 6, empty_rows=2, trajectory_drift=0.2)
    _, loss = pair.closed_form(batch)
    parts = [slice(0, 3), slice(3, 4), slice(4, 9)]
    found = 0.0
    for part in parts:
        rows = {k: v[part] for k, v in vars(batch).items() if k != "keys"}
        found += pair.objective.evaluate(**rows, normalizers={"trajectory": 7.0}).loss
    assert found == pytest.approx(loss, rel=1e-13)
