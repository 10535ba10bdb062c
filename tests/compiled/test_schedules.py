"""Schedules of loss modules: values step by step, one graph, and what travels in the state."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import fibdsl
from fibdsl import FibError
from fibdsl.runtime.loss import FusedLoss
from fibdsl.schedules import cosine, linear, piecewise
from tests.compiled.cases import compiled, random_case, reference

FIBERPO = fibdsl.load("fiberpo")
START = dict(FIBERPO.params)


def module(objective: fibdsl.Objective) -> types.ModuleType:
    """The generated module, as a file of its own would be."""
    made = types.ModuleType("generated_with_schedules")
    sys.modules[made.__name__] = made
    exec(compile(objective.source(), "<generated>", "exec"), made.__dict__)
    return made


def test_a_step_changes_the_loss_and_never_recompiles() -> None:
    counter = CompileCounterWithBackend("eager")
    objective = FIBERPO.with_params(
        epsilon=linear(0.03, 0.01, 100), c_plus=piecewise({0: 0.2, 60: 0.05})
    )
    loss_fn = objective.compile(backend=counter)
    case = random_case(8, 12, seed=0)
    losses = set()
    for step, epsilon, c_plus in (
        (0, 0.03, 0.2),
        (50, 0.02, 0.2),
        (60, 0.018, 0.05),
        (900, 0.01, 0.05),
    ):
        loss_fn.set_step(step)
        assert loss_fn.step == step
        assert loss_fn.params == pytest.approx(START | {"epsilon": epsilon, "c_plus": c_plus})
        assert loss_fn.params == objective.at_step(step).params
        result = compiled(loss_fn, case, "padded")
        expected = reference(FIBERPO.with_params(**loss_fn.params), case)
        assert result.loss == pytest.approx(expected.loss, rel=1e-12)
        losses.add(result.loss)
    assert len(losses) == 4
    assert counter.frame_count == 1


def test_it_starts_at_step_0() -> None:
    loss_fn = FIBERPO.with_params(epsilon=cosine(0.03, 0.01, 100)).compile(backend=None)
    assert (loss_fn.step, loss_fn.params) == (0, START | {"epsilon": 0.03})
    [(name, schedule)] = loss_fn.schedules.items()
    assert (name, str(schedule)) == ("epsilon", "cosine {0: 0.03, 100: 0.01}")
    assert "step=0" in repr(loss_fn)
    assert "step" not in repr(FIBERPO.compile(backend=None))


def test_a_schedule_set_in_a_run_goes_on_from_its_step() -> None:
    loss_fn = FIBERPO.compile(backend=None)
    loss_fn.set_params(epsilon=linear(0.03, 0.01, 100))
    assert loss_fn.params["epsilon"] == 0.03
    loss_fn.set_step(50)
    assert loss_fn.params["epsilon"] == pytest.approx(0.02)
    loss_fn.set_params(c_plus=linear(0.2, 0.1, 100), c_minus=0.05)
    assert loss_fn.params == pytest.approx({"epsilon": 0.02, "c_plus": 0.15, "c_minus": 0.05})
    # A number takes its place.
    loss_fn.set_params(c_plus=0.2)
    loss_fn.set_step(100)
    assert loss_fn.params == {"epsilon": 0.01, "c_plus": 0.2, "c_minus": 0.05}


def test_a_step_without_schedules_is_refused() -> None:
    loss_fn = FIBERPO.compile(backend=None)
    for _ in range(2):
        with pytest.raises(
            ValueError, match="no parameter of 'fiberpo' has a schedule, so set_step"
        ):
            loss_fn.set_step(3)
        loss_fn.set_params(epsilon=linear(0.03, 0.01, 100))
        loss_fn.set_params(epsilon=0.01)
    loss_fn.set_params(epsilon=linear(0.03, 0.01, 100))
    for step in (-1, 1.5, "3", True, None):
        with pytest.raises(ValueError, match="whole numbers, 0 or more"):
            loss_fn.set_step(step)  # type: ignore[arg-type]
    assert (loss_fn.step, loss_fn.params["epsilon"]) == (0, 0.03)
    loss_fn.set_step(torch.tensor(100))  # type: ignore[arg-type]
    assert (loss_fn.step, loss_fn.params["epsilon"]) == (100, 0.01)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"epsilon": 0.01, "c_plus": linear(0.1, 1.0, 10)}, ValueError,
         r"c_plus = linear \{0: 0.1, 10: 1\} is outside its range \(0, 1\)"),
        ({"epsilon": 0.01, "budget": linear(0.1, 0.2, 10)}, ValueError, "no parameter 'budget'"),
        # exp(0.9 + 0.02 + 0.02) is above 1.4.
        ({"epsilon": 0.02, "c_plus": piecewise({0: 0.2, 5: 0.9, 6: 0.2})}, FibError, "at step 5"),
    ],
)  # fmt: skip
def test_all_or_nothing(values: dict[str, Any], error: type[Exception], message: str) -> None:
    loss_fn = FIBERPO.compile(backend=None)
    loss_fn.set_params(c_minus=linear(0.1, 0.05, 10))
    loss_fn.set_step(10)
    before = loss_fn.params, loss_fn.schedules, loss_fn.step
    with pytest.raises(error, match=message):
        loss_fn.set_params(**values)
    assert (loss_fn.params, loss_fn.schedules, loss_fn.step) == before


def test_a_step_that_breaks_a_promise_is_refused() -> None:
    """0.3 - 0.1 (1 - sqrt(1/2)) = 0.271 is more than 0.25 + 0.01."""
    objective = fibdsl.load_text(
        """\
objective close {
  param a : deviation = 0.15 in (0, 1)
  param b : deviation = 0.15 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(+a, -b) }
  reduce mean over token
  require trust_region tv <= a + 0.01
}
"""
    )
    loss_fn = objective.compile(backend=None)
    loss_fn.set_params(a=linear(0.1, 0.3, 100), b=cosine(0.1, 0.3, 100))
    loss_fn.set_step(50)
    with pytest.raises(FibError, match="FIB501"):
        loss_fn.set_step(75)
    assert loss_fn.step == 50
    assert loss_fn.params["a"] == pytest.approx(0.2)
    loss_fn.set_step(100)


def test_a_generated_module_brings_its_schedules() -> None:
    """It needs nothing of fibdsl, and its own copies are as good as fibdsl's."""
    generated = module(FIBERPO.with_params(epsilon=linear(0.03, 0.01, 100)))
    loss_fn = generated.Loss(None)
    assert loss_fn.params == START | {"epsilon": 0.03}
    loss_fn.set_step(50)
    assert loss_fn.params["epsilon"] == pytest.approx(0.02)
    for home in (generated, fibdsl.schedules):
        loss_fn.set_params(c_plus=home.piecewise({0: 0.1, 40: 0.25}))
        assert loss_fn.params["c_plus"] == 0.25
    # What is given at the start wins.
    assert generated.Loss(None, epsilon=0.01).schedules == {}
    assert (
        generated.Loss(None, epsilon=fibdsl.schedules.linear(0.01, 0.02, 5)).params["epsilon"]
        == 0.01
    )
    assert FusedLoss.starting == {}
    assert module(FIBERPO).Loss.starting == {}


def test_schedules_and_their_step_travel_in_the_state() -> None:
    scheduled = FIBERPO.with_params(epsilon=linear(0.03, 0.01, 100), c_plus=0.15)
    loss_fn = scheduled.compile(backend=None)
    loss_fn.set_step(50)
    file = io.BytesIO()
    torch.save(loss_fn.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    for other in (
        FIBERPO.compile(backend=None),
        scheduled.compile(backend=None),
        module(FIBERPO.with_params(c_plus=cosine(0.1, 0.2, 7))).Loss(None),
    ):
        assert other.load_state_dict(state).missing_keys == []
        assert (other.params, other.step) == (loss_fn.params, 50)
        assert other.schedules.keys() == {"epsilon"}
        other.set_step(100)
        assert other.params["epsilon"] == 0.01
    # A state without schedules, as all were before there were any.
    plain = FIBERPO.compile(backend=None).state_dict()
    assert plain["_extra_state"] == START
    loss_fn.load_state_dict(plain)
    assert (loss_fn.params, loss_fn.schedules, loss_fn.step) == (START, {}, 0)
    # One that breaks a promise is refused as a whole.
    key, values = "_extra_state", state["_extra_state"]
    other = FIBERPO.compile(backend=None)
    with pytest.raises((FibError, RuntimeError)):
        other.load_state_dict({key: values | {"c_plus": 0.9}})
    assert (other.params, other.step) == (START, 0)


def test_values_that_stay_are_not_uploaded_again() -> None:
    loss_fn = FIBERPO.compile(backend=None)
    loss_fn.set_params(epsilon=piecewise({0: 0.02, 10: 0.01}))
    case = random_case(2, 3, seed=0)
    loss_fn(*case.tokens)
    vectors = dict(loss_fn._params._vectors)
    loss_fn.set_step(9)
    assert loss_fn._params._vectors == vectors
    loss_fn.set_step(10)
    assert loss_fn._params._vectors == {}
