"""Random specs with gates of their own and expressions in every statement.

The reference against plain numpy (`model.py`) and its differences; the generated code against the
reference, in every layout and in float32.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import fibdsl
from fibdsl.objective import Objective
from fibdsl.runtime.loss import FusedLoss
from tests import deep
from tests.compiled.cases import LAYOUTS, Case, compiled
from tests.meaning.batches import Tensors, random_tensors
from tests.property.grammar import random_spec
from tests.property.model import World
from tests.property.nodes import Floats
from tests.property.specs import Spec, spec_text
from tests.property.tokens import tokens_of

KEPT = 40
STEP = 1e-6
WORDS = ("logp", "old_logp", "advantages", "rollout_logp", "ref_logp")


@dataclass(frozen=True)
class Drawn:
    """A random spec and batches for it."""

    spec: Spec
    text: str
    objective: Objective
    batches: tuple[Tensors, ...]

    def evaluate(self, tensors: Tensors) -> Any:
        return self.objective.evaluate(**tensors)


@cache
def drawn(seed: int) -> Drawn:
    rng = random.Random(seed)
    spec = random_spec(rng)
    text = spec_text(spec)
    generator = np.random.default_rng(seed)
    # What is promised is not looked at here.
    objective = fibdsl.load_text(text, promises=False)
    return Drawn(spec, text, objective, tuple(batches(generator)))


@cache
def module(seed: int) -> FusedLoss:
    """The generated code, run as it is."""
    return drawn(seed).objective.compile(backend=None)


def batches(rng: np.random.Generator) -> Iterator[Tensors]:
    """Two, one of small and one of larger drift, with the log-probabilities of two more models."""
    for drift in (0.03, 0.3):
        options = {"drift": drift, "trajectory_drift": drift, "zero_advantages": 0.1}
        tensors = random_tensors(rng, rows=5, **options)
        for word in ("rollout_logp", "ref_logp"):
            apart = rng.normal(0.0, 0.2, tensors["mask"].shape)
            tensors[word] = np.minimum(tensors["old_logp"] + apart, -1e-3)
        yield tensors


@pytest.mark.parametrize("seed", range(KEPT))
def test_the_reference_means_what_is_written(seed: int) -> None:
    """Loss, G and metrics by plain numpy; the gradient by differences of that."""
    case = drawn(seed)
    compared = 0
    for tensors in case.batches:
        mask = tensors["mask"]
        found = case.evaluate(tensors)
        tokens = tokens_of(case.spec, tensors)
        world = World(case.spec, tokens, tokens.values["logp"])
        G = world.bypassed[0]
        np.testing.assert_allclose(found.gated_ratio[mask], G, rtol=1e-11, atol=1e-11)
        assert found.loss == pytest.approx(world.loss, rel=1e-11, abs=1e-11), case.text
        some = {name: found.metrics[name] for name in world.metrics}
        assert some == pytest.approx(world.metrics, rel=1e-11, abs=1e-11), case.text
        assert not found.gradient[~mask].any()
        gradient = found.gradient[mask]
        scale = max(1.0, float(np.abs(gradient).max()))
        right, left = differences(world)
        # Else a kink or a jump within one step. At r = 1 there often is one.
        smooth = (np.abs(right - left) <= 4e-6 * scale) & (world.log_ratio != 0)
        error = np.abs(gradient - (right + left) / 2)[smooth]
        assert error.max(initial=0.0) <= 3e-6 * scale, case.text
        compared += int(smooth.sum())
    assert compared >= 10


def differences(world: World) -> tuple[Floats, Floats]:
    """The slopes of the loss at each token to the right and to the left, stop-gradients held."""
    slopes = np.zeros((2, len(world.logp)))
    for i in range(len(world.logp)):
        for side, step in enumerate((STEP, -STEP)):
            logp = world.logp.copy()
            logp[i] += step
            slopes[side, i] = (world.moved(logp).loss - world.loss) / step
    return slopes[0], slopes[1]


def case_of(drawn: Drawn, tensors: Tensors) -> Case:
    logp, old_logp, advantages, mask = (
        torch.from_numpy(tensors[word].copy()) for word in (*WORDS[:3], "mask")
    )
    keys = {name: torch.from_numpy(ids) for name, ids in tensors["keys"].items()}
    others = {name: torch.from_numpy(tensors[name].copy()) for name in drawn.objective.tensors}
    return Case(logp, old_logp, advantages, mask, keys, others)


@pytest.mark.parametrize("seed", range(KEPT))
def test_generated_code_means_what_the_reference_says(seed: int) -> None:
    case = drawn(seed)
    loss_fn = module(seed)
    for tensors in case.batches:
        expected = case.evaluate(tensors)
        scale = max(1.0, abs(expected.loss), float(np.abs(expected.gradient).max()))
        for layout in LAYOUTS:
            result = compiled(loss_fn, case_of(case, tensors), layout)
            assert result.loss == pytest.approx(expected.loss, abs=1e-12 * scale), case.text
            assert np.abs(result.gradient - expected.gradient).max() <= 1e-11 * scale, case.text
            assert result.metrics == pytest.approx(expected.metrics, rel=1e-11, abs=1e-11), (
                case.text
            )


@pytest.mark.parametrize("seed", range(KEPT))
def test_layouts_and_masks(seed: int) -> None:
    """Packed tensors say the same as padded ones; what is under the mask is never read."""
    case = drawn(seed)
    loss_fn = module(seed)
    for tensors in case.batches[1:]:
        mask = tensors["mask"]
        expected = case.evaluate(tensors)
        assert np.isfinite(expected.loss)
        assert np.isfinite(expected.gradient).all()
        plain = compiled(loss_fn, case_of(case, tensors), "padded")
        for junk in (np.nan, np.inf, -np.inf, 1e30):
            spoiled = {**tensors, **{w: np.where(mask, tensors[w], junk) for w in WORDS}}
            found = case.evaluate(spoiled)
            assert (found.loss, found.metrics) == (expected.loss, expected.metrics)
            assert np.array_equal(found.gradient, expected.gradient)
            again = compiled(loss_fn, case_of(case, spoiled), "padded")
            assert again.loss == plain.loss
            assert np.array_equal(again.gradient, plain.gradient)
        keep = mask | (np.random.default_rng(seed).random(mask.shape) < 0.4)
        packed: Tensors = {w: tensors[w][keep] for w in (*WORDS, "mask")}
        packed["keys"] = {k: v[keep] if v.ndim == 2 else v for k, v in tensors["keys"].items()}
        other = case.evaluate({**packed, "cu_seqlens": np.cumsum([0, *keep.sum(1)])})
        assert (other.loss, other.metrics) == (expected.loss, expected.metrics)
        assert np.array_equal(other.gradient, expected.gradient[keep])
        assert np.array_equal(other.gated_ratio, expected.gated_ratio[keep])


@pytest.mark.parametrize("seed", range(KEPT))
def test_float32_is_close(seed: int) -> None:
    """Where a shift by more than its rounding changes the exact gradient little."""
    case = drawn(seed)
    loss_fn = module(seed)
    for tensors in case.batches:
        single = case_of(case, tensors).to(torch.float32)
        as_given: Tensors = {
            **{word: getattr(single, word).double().numpy() for word in WORDS[:3]},
            **{word: tensor.double().numpy() for word, tensor in single.others.items()},
            "mask": tensors["mask"],
            "keys": tensors["keys"],
        }
        expected = case.evaluate(as_given)
        scale = max(1.0, abs(expected.loss), float(np.abs(expected.gradient).max()))
        moved = [case.evaluate(shifted(as_given, seed)) for seed in range(6)]
        steady = all(np.abs(m.gradient - expected.gradient).max() < 1e-3 * scale for m in moved)
        if not steady or any(abs(m.loss - expected.loss) > 1e-3 * scale for m in moved):
            continue
        for layout in LAYOUTS:
            result = compiled(loss_fn, single, layout)
            assert result.loss == pytest.approx(expected.loss, abs=3e-5 * scale), case.text
            assert np.abs(result.gradient - expected.gradient).max() <= 1e-4 * scale, case.text


def shifted(tensors: Tensors, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    size = 2e-6 * np.abs(tensors["old_logp"]) + 2e-6
    return {**tensors, "logp": tensors["logp"] + size * rng.uniform(-1, 1, size.shape)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", deep.cases(range(0, KEPT, 14), lambda index, _: index == 2))
def test_inductor(seed: int) -> None:
    case = drawn(seed)
    loss_fn = case.objective.compile()
    for tensors in case.batches:
        expected = case.evaluate(tensors)
        scale = max(1.0, abs(expected.loss), float(np.abs(expected.gradient).max()))
        for layout in LAYOUTS:
            result = compiled(loss_fn, case_of(case, tensors), layout)
            assert result.loss == pytest.approx(expected.loss, abs=1e-12 * scale), case.text
            assert np.abs(result.gradient - expected.gradient).max() <= 1e-11 * scale, case.text
            assert result.metrics == pytest.approx(expected.metrics, rel=1e-11, abs=1e-11), (
                case.text
            )
