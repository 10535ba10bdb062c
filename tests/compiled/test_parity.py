"""The compiled loss against the reference interpreter: every shipped spec, layout, number type.

Each test compiles one module with Inductor and runs it on batches of several shapes, random and
real, so it also shows that one graph serves them all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._inductor.compile_fx import compile_fx

import fibdsl
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests.compiled.cases import (
    LAYOUTS,
    Case,
    Result,
    compiled,
    random_case,
    real_case,
    reference,
    smooth_rows,
)

EXACT, SINGLE = 1e-12, 1e-5

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class CountingInductor:
    """Inductor, counting the graphs it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return compile_fx(graph, inputs)


def cases() -> list[Case]:
    # Equal sizes (7 x 7), one row, one column, and more tokens than Inductor sums in one float32
    # chunk (4096): none may need a graph of its own.
    return [
        random_case(7, 7, seed=1),
        random_case(20, 33, seed=2),
        random_case(3, 4500, seed=3),
        random_case(1, 30, seed=4),
        random_case(30, 1, seed=5),
        random_case(2, 150, seed=3, drift=0.5),
        real_case("near"),
        real_case("far"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", shipped_specs())
def test_compiled_equals_interpreter(spec: str, layout: str, dtype: torch.dtype) -> None:
    objective = fibdsl.load(spec)
    inductor = CountingInductor()
    loss_fn = objective.compile(backend=inductor)
    compared = 0
    for full in cases():
        case = full.to(dtype)
        rows = (
            np.ones(case.mask.shape[0], bool)
            if dtype == torch.float64
            else smooth_rows(objective, case)
        )
        scale = row_scale(objective, case)
        compare(compiled(loss_fn, case, layout), reference(objective, case), rows, scale, dtype)
        compared += int(rows.sum())
    assert inductor.graphs == 1
    assert compared >= 60, "too few rows away from kinks: the comparison shows nothing"


def row_scale(objective: Objective, case: Case) -> Floats:
    """What errors are relative to, (B, 1): the largest gradient of the row, or what it would be at
    r = 1 if that is larger: rows of one cell can cancel to almost nothing, their rounding cannot.
    """
    on_policy = reference(objective, replace(case, logp=case.old_logp)).gradient
    both = np.maximum(np.abs(reference(objective, case).gradient), np.abs(on_policy))
    return np.asarray(both.max(axis=1, initial=0.0, keepdims=True))


def compare(
    result: Result, expected: Result, rows: Bools, scale: Floats, dtype: torch.dtype
) -> None:
    tolerance = EXACT if dtype == torch.float64 else SINGLE
    got, want = result.gradient[rows], expected.gradient[rows]
    # A bfloat16 gradient is rounded to 8 bits once, after it was accumulated in float32.
    rounding = 2**-8 * np.abs(want) if dtype == torch.bfloat16 else 0.0
    assert (np.abs(got - want) <= tolerance * scale[rows] + rounding + 1e-30).all()
    if rows.all():
        assert result.loss == pytest.approx(expected.loss, rel=tolerance, abs=tolerance * 0.1)
        assert result.metrics == pytest.approx(expected.metrics, rel=tolerance, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("levels", "gates"),
    [
        ("token < turn by turn_id < trajectory < group by uid", "turn"),
        ("token < expert by expert_id", "expert"),
    ],
    ids=["turns", "experts"],
)
def test_levels_with_a_key_per_token(levels: str, gates: str, layout: str) -> None:
    chain = [word.split()[0] for word in levels.split("<")][1:]
    fibers = [
        f"at {level} {{ {'base' if level == chain[-1] else 'fiber'} rollback(+0.1, -0.05) }}"
        for level in chain
    ]
    objective = fibdsl.load_text(
        "objective deep { signal log_ratio split levels "
        + levels
        + " "
        + " ".join(fibers)
        + " at token { fiber clip(0.02) } reduce mean over trajectory, mean over token }"
    )
    inductor = CountingInductor()
    loss_fn = objective.compile(backend=inductor)
    for case in (random_case(7, 7, seed=4), random_case(12, 21, seed=5)):
        rows = np.ones(case.mask.shape[0], bool)
        scale = row_scale(objective, case)
        result = compiled(loss_fn, case, layout)
        compare(result, reference(objective, case), rows, scale, torch.float64)
    assert inductor.graphs == 1
