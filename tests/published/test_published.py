"""Every shipped spec says what its paper prints: loss, gradient, and the compiled module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import fibdsl
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests.closed_forms import Batch, Floats, random_batch
from tests.compiled.cases import LAYOUTS, Case, compiled
from tests.meaning.batches import tensors_of
from tests.meaning.forms import SHIPPED
from tests.published.forms import FORMS, Form

LOSS, PRINTED, DIFFERENCES = 1e-12, 1e-10, 1e-6
STEP = 1e-6

# What varies from batch to batch beside its random numbers; rows and width.
KINDS: tuple[tuple[int, int, dict[str, Any]], ...] = (
    (6, 5, {}),
    (9, 7, {"exact_one": 0.3, "empty_rows": 2, "advantages": "token", "zero_advantages": 0.3}),
    (8, 9, {"holes": 0.6, "empty_rows": 1, "n_groups": 3, "zero_advantages": 0.3}),
    (4, 4, {"n_groups": 1, "exact_one": 0.8, "advantages": "token"}),
    (5, 6, {"trajectory_drift": 0.0, "nan_under_mask": False, "exact_one": 0.1}),
    (10, 8, {"advantages": "token", "exact_one": 0.1}),
    (1, 1, {"holes": 0.0, "n_groups": 1}),
)

NAMES = list(FORMS)


def batches(form: Form, kinds: range = range(len(KINDS))) -> Iterator[Batch]:
    for seed in kinds:
        rows, width, kind = KINDS[seed]
        rng = np.random.default_rng(seed)
        drift = {"drift": form.drift, "trajectory_drift": form.drift / 2}
        made = random_batch(rng, rows, width, **drift | kind)
        yield Batch(**tensors_of(made, rng))


def at_parameters(name: str) -> Iterator[tuple[Objective, dict[str, float]]]:
    """The spec with its own defaults, and what the form is given: nothing, so that a default which
    is not the paper's shows; then both with other values."""
    # Promises are of a spec's own values: at others the range of G is another one.
    objective = fibdsl.load(name, promises=False)
    yield objective, {}
    others = dict(FORMS[name].others)
    assert set(others) == {p.name for p in objective.declared}
    if others:
        yield objective.with_params(**others), others


def test_every_shipped_spec_has_a_closed_form() -> None:
    """Those of ppo, grpo, dapo, gspo, apc, fiberpo and fiberpo_domain are in tests/closed_forms.py,
    where more than their losses is looked at (tests/meaning/forms.py)."""
    older = {"ppo", "grpo", "dapo", "gspo", "apc", "fiberpo", "fiberpo_domain"}
    assert set(SHIPPED) == older
    assert older.isdisjoint(FORMS)
    assert set(shipped_specs()) == older | set(FORMS)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_matters_on_these_batches(name: str) -> None:
    form = FORMS[name]
    for parameter, value in form.others.items():
        changed = [
            form.loss(batch, **{parameter: value}) != form.loss(batch) for batch in batches(form)
        ]
        assert sum(changed) >= 2, parameter


@pytest.mark.parametrize("name", NAMES)
def test_loss_of_the_reference(name: str) -> None:
    form = FORMS[name]
    for objective, params in at_parameters(name):
        for batch in batches(form):
            expected = form.loss(batch, **params)
            found = objective.evaluate(**vars(batch)).loss
            assert found == pytest.approx(expected, rel=LOSS, abs=1e-14)


@pytest.mark.parametrize("name", [name for name in NAMES if FORMS[name].gradient])
def test_gradient_as_printed(name: str) -> None:
    form = FORMS[name]
    assert form.gradient is not None
    for objective, params in at_parameters(name):
        for batch in batches(form):
            expected = form.gradient(batch, **params)
            found = objective.evaluate(**vars(batch)).gradient
            np.testing.assert_allclose(found, expected, rtol=PRINTED, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_by_differences(name: str) -> None:
    form = FORMS[name]
    compared = skipped = 0
    for objective, params in at_parameters(name):
        for batch in batches(form, range(4)):
            gradient = objective.evaluate(**vars(batch)).gradient
            assert not gradient[~batch.mask].any()
            right, left = differences(form, batch, params)
            scale = np.abs(gradient).max()
            # Two slopes: a kink within one step, r = 1 among them.
            smooth = batch.mask & (np.abs(right - left) < 1e-3 * scale)
            middle = (right + left)[smooth] / 2
            np.testing.assert_allclose(
                gradient[smooth], middle, rtol=DIFFERENCES, atol=DIFFERENCES * scale
            )
            compared += int(smooth.sum())
            skipped += int((batch.mask & ~smooth).sum())
    assert compared >= 60
    assert skipped <= compared / 3


def differences(form: Form, batch: Batch, params: dict[str, float]) -> tuple[Floats, Floats]:
    """The slopes of the closed form at each token to the right and to the left."""
    loss = form.held(batch, **params)
    at_rest = loss(batch)
    slopes = np.zeros((2, *batch.mask.shape))
    for i in map(tuple, np.argwhere(batch.mask)):
        for side, step in enumerate((STEP, -STEP)):
            logp = batch.logp.copy()
            logp[i] += step
            slopes[side][i] = (loss(replace(batch, logp=logp)) - at_rest) / step
    return slopes[0], slopes[1]


@pytest.mark.parametrize("name", NAMES)
def test_compiled(name: str) -> None:
    objective = fibdsl.load(name, promises=False)
    loss_fn = objective.compile(backend=None)
    for at, params in at_parameters(name):
        loss_fn.set_params(**params)
        for batch in batches(FORMS[name]):
            expected = at.evaluate(**vars(batch))
            scale = max(1.0, float(np.abs(expected.gradient).max()))
            for layout in LAYOUTS:
                found = compiled(loss_fn, case_of(batch), layout)
                assert found.loss == pytest.approx(expected.loss, rel=LOSS, abs=1e-14)
                assert np.abs(found.gradient - expected.gradient).max() <= LOSS * scale
                assert found.metrics == pytest.approx(expected.metrics, rel=LOSS, abs=LOSS)


def case_of(batch: Batch) -> Case:
    fields = (batch.logp, batch.old_logp, batch.advantages, batch.mask)
    logp, old_logp, advantages, mask = map(torch.from_numpy, fields)
    keys = {name: torch.from_numpy(ids) for name, ids in batch.keys.items()}
    return Case(logp, old_logp, advantages, mask, keys)
