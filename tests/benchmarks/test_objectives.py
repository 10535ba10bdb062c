"""Which losses of the language are measured, and what is measured of them besides time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fibdsl
from benchmarks.fused import accuracy, batches, first_call, objectives, startup


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Loss modules run eagerly, so that nothing is compiled; each one made is noted."""
    made: list[tuple[str, bool]] = []

    def compiled(name: str, *, metrics: bool = True) -> Any:
        made.append((name, metrics))
        return objectives.load(name).compile(backend=None)

    monkeypatch.setattr(objectives, "compiled", compiled)
    return made


def test_every_objective_is_called_as_users_call_it(asked: list[tuple[str, bool]]) -> None:
    padded = batches.padded(16, 12)
    dense, _ = batches.packed(16, 3, 12)
    cases = objectives.cases(objectives.names())
    assert {"apc", "fiberpo, bool mask", "fiberpo_6"} <= {case.name for case in cases}
    for case in cases:
        for batch in [padded] if case.name == "apc" else [padded, dense]:
            assert case.loss is not None
            (gradient,) = torch.autograd.grad(case.loss(batch), batch.logp)
            assert gradient.abs().sum() > 0
            case.run(batch)
            assert batch.logp.grad is None


def test_fiberpo_is_measured_without_metrics_too(asked: list[tuple[str, bool]]) -> None:
    cases = objectives.cases(["ppo", "fiberpo_domain"])
    assert "fiberpo_domain, no metrics" in {case.name for case in cases}
    assert ("fiberpo_domain", False) in asked
    assert ("ppo", False) not in asked


def test_the_float32_error_is_small_and_kinks_are_counted(
    asked: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = accuracy.accuracy("fiberpo_domain", 8, 64, "cpu")
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-5
    assert found["other_side"] == 0

    def other(name: str, **_: Any) -> Any:
        return fibdsl.load(name, epsilon=0.021).compile(backend=None)

    monkeypatch.setattr(objectives, "compiled", other)
    moved = accuracy.accuracy("fiberpo_domain", 8, 64, "cpu")
    assert 0 < moved["other_side"] < moved["tokens"]


def test_the_first_call_prints_its_seconds(
    asked: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    first_call.main("fiberpo", "2", "4", str(torch.get_num_threads()), "cpu")
    assert asked == [("fiberpo", True)]
    assert 0 < float(capsys.readouterr().out) < 60


@pytest.mark.slow
def test_a_first_call_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="the first call of nothing failed in a new process"):
        startup.first_call("nothing", 1, "cpu", 1, lambda _: None)
