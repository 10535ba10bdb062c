"""Verdicts, by documents written by hand."""

from __future__ import annotations

import pytest

from benchmarks.fused import goals
from benchmarks.fused.document import Document
from benchmarks.fused.goals import Goal
from benchmarks.fused.objectives import FOUR, NO_METRICS, TWO
from benchmarks.fused.tables import Measured, Table


def case(*ms: float) -> Measured:
    return {
        "median_ms": sorted(ms)[len(ms) // 2],
        "p20_ms": min(ms),
        "over_floor": None,
        "over_ppo": None,
        "gb_s": 1.0,
        "ms": list(ms),
    }


def table(**cases: Measured) -> Table:
    return {"rows": 1, "places": 1, "padded_places": 1, "tokens": 1, "others": 0.0, "cases": cases}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (2.5, "then met"),
        (2.6, "first met"),
        (6.5, "first met"),
        (6.6, "missed"),
        (None, "not measured"),
    ],
)
def test_upper_bounds(value: float | None, verdict: str) -> None:
    assert Goal("a ratio", 6.5, 2.5, lambda _: value).judged({})["verdict"] == verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(20, "then met"), (19, "first met"), (9.9, "missed")]
)
def test_lower_bounds(value: float, verdict: str) -> None:
    goal = Goal("a speed-up", 10, 20, lambda _: value, at_least=True)
    assert goal.judged({})["verdict"] == verdict


@pytest.mark.parametrize(
    ("value", "later", "verdict"),
    [
        (0.3, 2.4, "then met"),
        (0.3, 2.6, "first met"),
        (0.4, 2.4, "missed"),
        (0.3, None, "not measured"),
    ],
)
def test_the_later_goal_may_be_of_another_value(
    value: float, later: float | None, verdict: str
) -> None:
    goal = Goal("seconds, then a ratio", 0.35, 2.5, lambda _: value, lambda _: later)
    assert goal.judged({})["verdict"] == verdict


def test_nothing_measured_is_nothing_met() -> None:
    verdicts = goals.judged({})
    assert {verdict["verdict"] for verdict in verdicts} == {"not measured"}
    assert not any("no metrics" in verdict["goal"] for verdict in verdicts)


def test_a_whole_document() -> None:
    middle = table(
        **{
            "floor": case(1, 1, 1),
            "plain PPO, compiled": case(4, 4, 4),
            "trainer-style PPO, eager": case(60, 60, 60),
            TWO: case(4, 4, 4),
            FOUR: case(5, 5, 50),
            FOUR + NO_METRICS: case(2, 2, 2),
        }
    )
    document: Document = {
        "padded": {"512x2048": middle},
        "packed": table(**{f"{FOUR}, packed": case(1), f"{FOUR}, padded": case(4)}),
        "memory": {FOUR: {"saved": 4.0, "peak": 8.0}},
        "graphs": {FOUR: {"several_rows": 1, "one_row_too": 2, "breaks": 0}},
        "first_call": {
            FOUR: {"cold": 20.0, "cold_process": 23.0, "warm": 0.9, "warm_process": 3.0}
        },
        "check": {"seconds": 0.2, "over_imports": 2.4},
    }
    verdicts = {v["goal"]: (v["measured"], v["verdict"]) for v in goals.judged(document)}
    assert verdicts["four levels / floor, 512x2048"] == (5.0, "first met")
    assert verdicts["four levels / floor, 512x2048, no metrics"] == (2.0, "then met")
    assert verdicts["four levels / floor, 1024x8192"] == (None, "not measured")
    assert verdicts["four levels / compiled plain PPO, 512x2048"] == (1.25, "first met")
    assert verdicts["trainer-style eager / four levels, 512x2048"] == (12.0, "first met")
    assert verdicts["four / two levels, 512x2048"] == (1.25, "missed")
    assert verdicts["bytes a place above the inputs, four levels"] == (8.0, "missed")
    assert verdicts["packed / padded at 80 % padding, four levels"] == (0.25, "first met")
    assert verdicts["graphs for all sizes (then: one row or token too)"] == (1, "first met")
    assert verdicts["graph breaks"] == (0, "then met")
    assert verdicts["first call, cold, four levels, s"] == (20.0, "missed")
    assert verdicts["first call, warm, four levels, s"] == (0.9, "then met")
    assert verdicts["`fib check` of one spec, s (then: / its imports)"] == (0.2, "then met")
