"""Values and gradients of our objectives are those of the trainers' own losses."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fibdsl.api import Objective
from tests.trainers.batches import Batch
from tests.trainers.cases import AGGREGATIONS, CASES, LOSS_TYPES, NOT_COVERED, Case
from tests.trainers.results import Error, Result, relative_error
from tests.trainers.specs import NotShipped, variant

TOLERANCE = 1e-9  # float64 throughout; 1e-6 is what is promised
RECORD = Path(__file__).with_name("results.json")

needs_trainers = [
    pytest.mark.trainers,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("verl", "trl")),
        reason="verl and trl are not installed: make trainers-test",
    ),
]


def trainers_loss(case: Case) -> Result:
    if case.trainer == "verl":
        from tests.trainers import verl

        return verl.policy_loss(case.batch, case.loss, case.setting, case.options)
    from tests.trainers import trl

    return trl.policy_loss(case.batch, case.loss, case.setting, case.options)


@cache
def our_objective(case_id: str) -> Objective:
    [case] = (case for case in CASES if case.id == case_id)
    return variant(case.spec, case.statements, dict(case.params))


def arguments(case: Case, objective: Objective) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and normalizers: both trainers count rows without a valid token."""
    batch = case.batch
    names = ("logp", "old_logp", "advantages", "mask", *case.tensors)
    rows = {"trajectory": float(len(batch.mask))}
    counted = rows if objective.program.outermost == "trajectory" else None
    return {name: getattr(batch, name) for name in names}, {"normalizers": counted}


def reference(case: Case) -> Result:
    objective = our_objective(case.id)
    tensors, options = arguments(case, objective)
    found = objective.evaluate(**tensors, **options)
    return Result(found.loss, found.gradient)


def compiled(case: Case) -> Result:
    objective = our_objective(case.id)
    arrays, options = arguments(case, objective)
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    logp = tensors.pop("logp").requires_grad_()
    loss = objective.compile(backend=None)(logp, **tensors, **options).loss
    loss.backward()
    assert loss.dtype == torch.float64
    assert logp.grad is not None
    return Result(loss.item(), logp.grad.numpy())


def errors(case: Case) -> Error:
    """The larger of the reference's and the compiled module's."""
    expected = trainers_loss(case)
    found = [relative_error(ours(case), expected) for ours in (reference, compiled)]
    return Error(*(max(column) for column in zip(*found, strict=True)))


IDS = [case.id for case in CASES]


def test_names_are_different() -> None:
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_regime_is_reached(case: Case) -> None:
    batch = case.batch
    assert case.acts
    assert [missing for acts in case.acts for missing in acts.missing(batch)] == []
    x = (batch.logp - batch.old_logp)[batch.mask]
    assert (x == 0).any()
    assert (batch.advantages[batch.mask] == 0).any()
    assert not batch.mask.any(-1).all()
    assert len(np.unique(batch.mask.sum(-1))) > 3


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id, marks=needs_trainers) for c in CASES])
def test_parity(case: Case) -> None:
    try:
        our_objective(case.id)
    except NotShipped as missing:
        pytest.skip(f"not there yet: {missing}")
    error = errors(case)
    assert error.loss < TOLERANCE
    assert error.gradient < TOLERANCE
