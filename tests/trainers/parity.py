"""A case evaluated: by the trainer, by our reference, by our compiled module."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from fibdsl.objective import Objective
from tests.trainers import trl_cases, verl_cases
from tests.trainers.case import Case
from tests.trainers.results import Error, Result, relative_error
from tests.trainers.specs import variant

CASES = (*verl_cases.CASES, *trl_cases.CASES)


def theirs(case: Case) -> Result:
    if case.trainer == "verl":
        from tests.trainers import verl

        return verl.policy_loss(case.batch, case.loss, case.setting, case.options)
    from tests.trainers import trl

    return trl.policy_loss(case.batch, case.loss, case.setting, case.options)


def reference(case: Case) -> Result:
    found = objective(case).evaluate(**_arguments(case))
    return Result(found.loss, found.gradient)


def compiled(case: Case) -> Result:
    """By the generated code, in float64."""
    arguments = _arguments(case)
    tensors = {name: _tensor(argument) for name, argument in arguments.items()}
    logp = tensors.pop("logp").requires_grad_()
    loss = objective(case).compile(backend=None)(logp, **tensors).loss
    loss.backward()
    assert loss.dtype == torch.float64
    assert logp.grad is not None
    return Result(loss.item(), logp.grad.numpy())


def errors(case: Case) -> Error:
    """The larger of the reference's and the compiled module's."""
    expected = theirs(case)
    if case.empty_rows:
        batch = case.batch
        extra = batch.advantages[~batch.mask.any(-1), 0].sum() / len(batch.mask)
        assert extra != 0
        expected = expected._replace(loss=expected.loss + extra)
    floor = 1.0 if case.of_largest else 1e-6
    of = [relative_error(found, expected, floor) for found in (reference(case), compiled(case))]
    return Error(max(e.loss for e in of), max(e.gradient for e in of))


def objective(case: Case) -> Objective:
    return _objective(case.spec, case.statements, tuple(case.params.items()))


@cache
def _objective(
    spec: str, statements: tuple[str, ...], params: tuple[tuple[str, float], ...]
) -> Objective:
    return variant(spec, statements, dict(params))


def _arguments(case: Case) -> dict[str, Any]:
    batch = case.batch
    names = ("logp", "old_logp", "advantages", "mask", *case.extra_tensors)
    found: dict[str, Any] = {name: getattr(batch, name) for name in names}
    if objective(case).program.outermost == "trajectory":
        # Both trainers count the rows, those without a valid token too.
        found["normalizers"] = {"trajectory": float(len(batch.mask))}
    return found


def _tensor(argument: Any) -> Any:
    return argument if isinstance(argument, dict) else torch.tensor(argument)
