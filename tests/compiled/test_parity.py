"""The compiled loss against the reference interpreter: every shipped spec, layout, number type.

Each test compiles one module with Inductor and runs it on batches of several shapes, random and
real, so it also shows that one graph serves them all.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._inductor.compile_fx import compile_fx

import fibdsl
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests import deep
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


DTYPES = (torch.float64, torch.float32, torch.bfloat16)
WAYS = tuple(itertools.product(LAYOUTS, DTYPES))
ALL = [(spec, *way) for spec in shipped_specs() for way in WAYS]
# Four levels, and one that sorts its tokens.
THOROUGH = ("fiberpo_domain", "apc")
# Others have the same statements as these, with other numbers or gates, or another `reduce`.
ALIKE = (
    *("cfpo", "cispo_trl", "dapo", "dppo_tv", "dr_grpo", "dro"),
    *("grpo", "gspo_token", "luspo", "reinforce"),
)


def often(index: int, case: tuple[str, str, torch.dtype]) -> bool:
    """What goes through Inductor each time: half the ways of some, one of others."""
    spec, way = divmod(index, len(WAYS))
    if case[0] in THOROUGH:
        return way % 2 == spec % 2
    return case[0] not in ALIKE and way == spec % len(WAYS)


@pytest.mark.parametrize(
    ("spec", "dtype"),
    deep.cases(
        itertools.product(shipped_specs(), DTYPES),
        lambda index, case: case[1] == torch.float64 or index // 3 % 2 == index % 2,
    ),
    ids=str,
)
def test_generated_code_equals_interpreter(spec: str, dtype: torch.dtype) -> None:
    for layout in LAYOUTS:
        compare_all(spec, layout, dtype, None)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "layout", "dtype"), deep.cases(ALL, often), ids=str)
def test_compiled_equals_interpreter(spec: str, layout: str, dtype: torch.dtype) -> None:
    inductor = CountingInductor()
    compare_all(spec, layout, dtype, inductor)
    assert inductor.graphs == 1


def compare_all(spec: str, layout: str, dtype: torch.dtype, backend: Any) -> None:
    objective = fibdsl.load(spec)
    loss_fn = objective.compile(backend=backend)
    compared = 0
    for case, expected, rows, scale in answers(spec, dtype):
        compare(compiled(loss_fn, case, layout), expected, rows, scale, dtype)
        compared += int(rows.sum())
    assert compared >= 60, "too few rows away from kinks: the comparison shows nothing"


@cache
def answers(spec: str, dtype: torch.dtype) -> list[tuple[Case, Result, Bools, Floats]]:
    """Cases, what the interpreter says of them, which rows are compared, and the scale of each."""
    objective = fibdsl.load(spec)
    out = []
    for full in cases():
        case = full.to(dtype)
        every = np.ones(case.mask.shape[0], bool)
        rows = every if dtype == torch.float64 else smooth_rows(objective, case)
        out.append((case, reference(objective, case), rows, row_scale(objective, case)))
    return out


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
