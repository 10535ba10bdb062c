"""Padded and packed tensors say the same, and what is under the mask never matters."""

from __future__ import annotations

import numpy as np
import pytest

import fibdsl
from tests.meaning.batches import Tensors, of_log_ratios, random_tensors

NAMES = ("ppo", "grpo", "dapo", "gspo", "apc", "fiberpo", "fiberpo_domain")
TOKENS = ("logp", "old_logp", "advantages", "mask")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=range(4))
def tensors(request: pytest.FixtureRequest) -> Tensors:
    return random_tensors(np.random.default_rng(request.param), rows=7, trajectory_drift=0.2)


def packed(tensors: Tensors, keep: np.ndarray) -> Tensors:
    """The positions in `keep`, (B, T) bool, row after row."""
    keys = {k: v[keep] if v.ndim == 2 else v for k, v in tensors["keys"].items()}
    flat = {t: tensors[t][keep] for t in TOKENS}
    return {**flat, "keys": keys, "cu_seqlens": np.cumsum([0, *keep.sum(1)])}


def test_packed_equals_padded(name: str, tensors: Tensors) -> None:
    objective = fibdsl.load(name)
    padded = objective.evaluate(**tensors)
    mask = tensors["mask"]
    assert 0 in mask.sum(1)
    part = mask | (np.random.default_rng(0).random(mask.shape) < 0.5)
    for keep in (mask, part, np.ones_like(mask)):
        other = objective.evaluate(**packed(tensors, keep))
        assert np.array_equal(other.gated_ratio, padded.gated_ratio[keep])
        assert np.array_equal(other.gradient, padded.gradient[keep])
        assert (other.loss, other.metrics) == (padded.loss, padded.metrics)


def test_as_many_rows_as_tokens() -> None:
    # Both (B,) and (N,) are (2,) here; states are ids of tokens, so the two are apart.
    apc = fibdsl.load("apc", delta=0.1)
    x = np.log([1.25, 1.05])
    tensors = of_log_ratios(x, state_id=np.array([0, 1]))
    G = apc.gated_ratio(**tensors, cu_seqlens=np.array([0, 2, 2]))
    np.testing.assert_allclose(G, [1.1, 1.05], rtol=1e-15)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e300, -7.0])
def test_nothing_under_the_mask_matters(name: str, tensors: Tensors, garbage: float) -> None:
    objective = fibdsl.load(name)
    mask = tensors["mask"]
    expected = objective.evaluate(**tensors)
    assert np.isfinite(expected.loss)
    spoiled: Tensors = {t: np.where(mask, tensors[t], garbage) for t in TOKENS[:3]}
    spoiled["mask"] = mask
    # Ids of masked tokens, and of rows without a token, may contradict the hierarchy.
    rng = np.random.default_rng(1)
    spoiled["keys"] = {
        key: np.where(mask if ids.ndim == 2 else mask.any(1), ids, rng.integers(-9, 9, ids.shape))
        for key, ids in tensors["keys"].items()
    }
    found = objective.evaluate(**spoiled)
    assert np.array_equal(found.gated_ratio, expected.gated_ratio)
    assert np.array_equal(found.gradient, expected.gradient)
    assert (found.loss, found.metrics) == (expected.loss, expected.metrics)
    assert not found.gated_ratio[~mask].any()
    assert not found.gradient[~mask].any()


def test_masked_ids_of_a_key_per_token_may_contradict_the_hierarchy() -> None:
    objective = fibdsl.load("fiberpo_domain")
    tensors = of_log_ratios([[0.1, 0.2, 0.3]], uid=[[4, 4, 9]], data_source=[[1, 1, 2]])
    tensors["mask"] = np.array([[1, 1, 0]])
    whole = of_log_ratios([[0.1, 0.2]], uid=[4], data_source=[1])
    assert np.array_equal(objective.gated_ratio(**tensors)[:, :2], objective.gated_ratio(**whole))


@pytest.mark.parametrize("tensor", TOKENS[:3])
def test_nan_at_a_token_that_counts_is_not_hidden(name: str, tensor: str) -> None:
    tensors = of_log_ratios([[0.01, 0.02]], [[1.0, 1.0]], uid=[1], data_source=[1])
    tensors["keys"]["state_id"] = np.array([[1, 1]])
    tensors[tensor] = np.array([[np.nan, 0.5]])
    assert np.isnan(fibdsl.load(name).evaluate(**tensors).loss)


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.uint8, np.float32])
def test_masks_of_any_kind(name: str, tensors: Tensors, dtype: type) -> None:
    objective = fibdsl.load(name)
    cast = {**tensors, "mask": tensors["mask"].astype(dtype)}
    assert objective.evaluate(**cast).loss == objective.evaluate(**tensors).loss


def test_names_of_cells_do_not_matter(name: str, tensors: Tensors) -> None:
    objective = fibdsl.load(name)
    renamed = {
        key: np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.int32)
        for key, ids in tensors["keys"].items()
    }
    found = objective.evaluate(**{**tensors, "keys": renamed})
    expected = objective.evaluate(**tensors)
    np.testing.assert_allclose(found.gated_ratio, expected.gated_ratio, rtol=1e-14)
    assert found.loss == pytest.approx(expected.loss, rel=1e-13)


def test_a_key_per_trajectory_may_be_given_per_token(tensors: Tensors) -> None:
    objective = fibdsl.load("fiberpo_domain")
    shape = tensors["mask"].shape
    spread = {
        key: np.broadcast_to(ids[:, None], shape) if ids.ndim == 1 else ids
        for key, ids in tensors["keys"].items()
    }
    found, expected = (
        objective.evaluate(**{**tensors, "keys": spread}),
        objective.evaluate(**tensors),
    )
    assert (found.loss, found.metrics) == (expected.loss, expected.metrics)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_batch_without_a_token_is_zero(name: str, rows: int) -> None:
    tensors = of_log_ratios(np.full((rows, 2), np.nan), np.nan)
    tensors["mask"][:] = False
    ids = np.arange(rows)
    tensors["keys"] = {"uid": ids, "data_source": ids, "state_id": np.zeros((rows, 2), np.int64)}
    evaluation = fibdsl.load(name).evaluate(**tensors)
    assert evaluation.loss == 0
    assert not evaluation.gated_ratio.any()
    assert not evaluation.gradient.any()
    assert not any(evaluation.metrics.values())


def test_rows_may_be_permuted(name: str, tensors: Tensors) -> None:
    objective = fibdsl.load(name)
    order = np.random.default_rng(2).permutation(len(tensors["mask"]))
    moved: Tensors = {t: tensors[t][order] for t in TOKENS}
    moved["keys"] = {key: ids[order] for key, ids in tensors["keys"].items()}
    found, expected = objective.evaluate(**moved), objective.evaluate(**tensors)
    np.testing.assert_allclose(found.gated_ratio, expected.gated_ratio[order], rtol=1e-14)
    np.testing.assert_allclose(found.gradient, expected.gradient[order], rtol=1e-12, atol=1e-16)
