"""Values and gradients of our objectives are those of the trainers' own losses."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

from tests.trainers import parity, record, trl_cases, verl_cases
from tests.trainers.case import Case
from tests.trainers.parity import CASES

PINNED = {"verl": "0.9.1", "trl": "1.16.0"}

MISSING = [name for name in PINNED if importlib.util.find_spec(name) is None]
needs_trainers: Any = [
    pytest.mark.trainers,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}; make trainers-test"),
]
each = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


def test_cases_have_names() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@each
def test_every_regime_is_reached(case: Case) -> None:
    batch = case.batch
    assert case.acts
    assert [missing for acts in case.acts for missing in acts.missing(batch)] == []
    x, advantages = (batch.logp - batch.old_logp)[batch.mask], batch.advantages[batch.mask]
    assert (x == 0).any()
    assert (advantages == 0).any()
    assert not batch.mask.any(-1).all()
    assert len(np.unique(batch.mask.sum(-1))) > 3
    assert (batch.logp < 0).all()
    assert (batch.old_logp < 0).all()


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id, marks=needs_trainers) for c in CASES])
def test_parity(case: Case) -> None:
    error = parity.errors(case)
    assert error.loss < case.tolerance
    assert error.gradient < case.tolerance


@pytest.mark.trainers
@pytest.mark.skipif(bool(MISSING), reason="not installed")
def test_every_loss_is_covered() -> None:
    from trl import GRPOConfig

    from tests.trainers import verl

    modes = {(case.loss, case.setting) for case in verl_cases.CASES}
    losses = verl.REGISTERED - verl_cases.NOT_COVERED
    assert modes == {(loss, mode) for loss in losses for mode in verl_cases.AGGREGATIONS}

    help_text = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    listed = set(re.findall(r"'(\w+)'", help_text.partition("'grpo':")[0]))
    levels = {(case.loss, case.setting) for case in trl_cases.CASES if case.loss != "gmpo"}
    assert levels == {(loss, level) for loss in listed for level in trl_cases.LEVELS}


@pytest.mark.trainers
@pytest.mark.skipif(bool(MISSING), reason="not installed")
def test_record(pytestconfig: pytest.Config) -> None:
    versions = {name: version(name) for name in (*PINNED, "torch")}
    assert {name: versions[name] for name in PINNED} == PINNED
    if pytestconfig.getoption("--update-goldens"):
        record.write(
            versions,
            [record.entry(case) | record.measured(parity.errors(case)) for case in CASES],
        )


def test_record_has_these_cases() -> None:
    found = record.read()
    assert {name: found["versions"][name] for name in PINNED} == PINNED
    for case, entry in zip(CASES, found["cases"], strict=True):
        assert {name: entry[name] for name in record.entry(case)} == record.entry(case)
        assert entry["loss_error"] < case.tolerance
        assert entry["gradient_error"] < case.tolerance
