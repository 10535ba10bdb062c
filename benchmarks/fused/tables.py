"""Times of all cases on one batch, and what follows from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case
from benchmarks.fused.clock import Clock, Times, interleaved, warm_up
from benchmarks.fused.neighbours import Neighbours

FLOOR = "floor"
PPO = "plain PPO, compiled"
PACKED, PADDED = ", packed", ", padded"
TRAFFIC = 5 * 4
"""Bytes a place that a loss has to move at least: four float32 arrays in, one out."""


class Measured(TypedDict):
    """One case: its time, over the floor and over compiled plain PPO, and the least traffic over
    its time."""

    median_ms: float
    p20_ms: float
    over_floor: float | None
    over_ppo: float | None
    gb_s: float
    ms: list[float]


class Table(TypedDict):
    """All cases on one batch. `padded_places`: of the same rows padded; `others`: how many cores
    other processes used meanwhile."""

    rows: int
    places: int
    padded_places: int
    tokens: int
    others: float | None
    cases: dict[str, Measured]


@dataclass(frozen=True)
class Runs:
    """How to measure; see `interleaved`."""

    rounds: int
    budget: float
    clock: Clock
    progress: Callable[[str], None]


def padded(cases: Sequence[Case], batches: Sequence[Batch], runs: Runs) -> Table:
    """Every case on equal padded batches."""
    batch = batches[0]
    return _table(cases, batches, runs, {case.name: batch.places for case in cases})


def packed(
    on_packed: Sequence[Case],
    on_padded: Sequence[Case],
    batches: Sequence[Batch],
    twins: Sequence[Batch],
    runs: Runs,
) -> Table:
    """Cases on packed rows beside cases on the same rows padded, in the same rounds."""
    cases = [_bound(case, batches, PACKED) for case in on_packed]
    cases += [_bound(case, twins, PADDED) for case in on_padded]
    places = {
        case.name: (batches if case.name.endswith(PACKED) else twins)[0].places for case in cases
    }
    return _table(cases, batches, runs, places)


def over(table: Table | None, name: str, other: str) -> float | None:
    """How many times as long `name` takes as `other`; None where one was not measured."""
    if table is None or name not in table["cases"] or other not in table["cases"]:
        return None
    one, two = (Times(tuple(table["cases"][case]["ms"])) for case in (name, other))
    return one.over(two)


def _bound(case: Case, batches: Sequence[Batch], suffix: str) -> Case:
    turn = itertools.cycle(batches)
    return Case(case.name + suffix, lambda _: case.run(next(turn)))


def _table(
    cases: Sequence[Case], batches: Sequence[Batch], runs: Runs, places: Mapping[str, int]
) -> Table:
    warm_up(cases, batches, runs.progress)
    neighbours = Neighbours()
    times = interleaved(
        cases,
        batches,
        rounds=runs.rounds,
        budget=runs.budget,
        clock=runs.clock,
        progress=runs.progress,
    )
    others = neighbours.cores()
    batch = batches[0]
    measured: dict[str, Measured] = {}
    for name, time in times.items():
        # Of a packed batch and its padded twin each has its own floor.
        suffix = next((end for end in (PACKED, PADDED) if name.endswith(end)), "")
        bases = [times.get(base + suffix) for base in (FLOOR, PPO)]
        over_floor, over_ppo = (None if base is None else time.over(base) for base in bases)
        measured[name] = {
            "median_ms": 1e3 * time.median,
            "p20_ms": 1e3 * time.p20,
            "over_floor": over_floor,
            "over_ppo": over_ppo,
            "gb_s": TRAFFIC * places[name] / time.median / 1e9,
            "ms": [round(1e3 * seconds, 6) for seconds in time.seconds],
        }
    return {
        "rows": batch.rows,
        "places": batch.places,
        "padded_places": max(places.values()),
        "tokens": batch.tokens,
        "others": others,
        "cases": measured,
    }
