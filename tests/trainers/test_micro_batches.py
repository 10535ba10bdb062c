"""Parts of a batch: verl's sizes of the whole mini-batch are our normalizers."""

from __future__ import annotations

import importlib.util

import pytest

from tests.trainers import parity, verl_cases
from tests.trainers.case import Case
from tests.trainers.results import Result, relative_error

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.skipif(importlib.util.find_spec("verl") is None, reason="verl is not installed"),
]

PARTS = (slice(0, 4), slice(4, 9), slice(9, 15))
CLIPPED = [case for case in verl_cases.CASES if case.id.endswith("dapo") and not case.about]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", CLIPPED, ids=[case.id for case in CLIPPED])
def test_parts(case: Case, ranks: int) -> None:
    from tests.trainers import verl

    whole = case.batch
    objective = parity.objective(case)
    counts = {"token": float(whole.mask.sum()), "trajectory": float(len(whole.mask))}
    outermost = objective.program.outermost
    normalizers = {outermost: counts[outermost]} if outermost else None
    for part in map(whole.rows, PARTS):
        found = verl.policy_loss(
            part, case.loss, case.setting, case.options, whole=whole, ranks=ranks
        )
        ours = objective.evaluate(
            part.logp, part.old_logp, part.advantages, part.mask, normalizers=normalizers
        )
        # FSDP averages the gradients of the ranks, so each has its part times their number.
        expected = Result(ours.loss * ranks, ours.gradient * ranks)
        assert max(relative_error(found, expected)) < case.tolerance


@pytest.mark.parametrize("mode", verl_cases.AGGREGATIONS)
def test_counting_by_itself(mode: str) -> None:
    """Without sizes of the whole verl counts rows with a valid token only, as we do."""
    from tests.trainers import verl

    [case] = (case for case in CLIPPED if case.setting == mode)
    found = verl.policy_loss(case.batch, case.loss, mode, case.options, normalize=False)
    batch = case.batch
    ours = parity.objective(case).evaluate(batch.logp, batch.old_logp, batch.advantages, batch.mask)
    assert max(relative_error(found, Result(ours.loss, ours.gradient))) < case.tolerance
