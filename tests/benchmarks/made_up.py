"""A results document with invented numbers."""

from __future__ import annotations

from benchmarks.fused.document import Document
from benchmarks.fused.machine import describe
from benchmarks.fused.tables import Measured, Table


def document() -> Document:
    return {
        "machine": describe(2, "cpu"),
        "options": {"sizes": ["4x8"], "rounds": 3, "quick": True},
        "padded": {"4x8": _table()},
        "packed": _table(),
        "memory": {"fiberpo": {"saved": 4.0, "peak": 8.0}},
        "graphs": {"fiberpo": {"several_rows": 1, "one_row_too": 1, "breaks": 0}},
        "accuracy": {
            "fiberpo": {"loss": 1e-7, "gradient": 2e-7, "other_side": 0, "tokens": 1_000_000}
        },
        "first_call": {
            "fiberpo": {"cold": 14.0, "cold_process": 16.5, "warm": 5.0, "warm_process": 7.5}
        },
        "ahead_of_time": {"fiberpo_domain": {"build": 20.0, "first": 0.2, "process": 1.5}},
        "check": {"seconds": 0.2, "over_imports": 2.4},
    }


def _table() -> Table:
    cases = {"floor": _case(1.0), "plain PPO, compiled": _case(4.0), "fiberpo": _case(8.0)}
    return {
        "rows": 4,
        "places": 32,
        "padded_places": 32,
        "tokens": 24,
        "others": 0.0,
        "cases": cases,
    }


def _case(ms: float) -> Measured:
    return {
        "median_ms": ms,
        "p20_ms": ms,
        "over_floor": ms,
        "over_ppo": ms / 4,
        "gb_s": 1 / ms,
        "ms": [ms, ms, ms],
    }
