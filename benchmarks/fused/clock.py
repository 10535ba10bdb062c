"""The clock: every case once a round, so that whatever else the machine does hits all of them.

Ratios are medians of the ratios within a round; they drift less than ratios of medians.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case

WARM_UP = 2
QUIET = 10.0
"""Seconds without a word."""
FEWEST = 5
"""Rounds that even the slowest case gets."""


@dataclass(frozen=True)
class Times:
    """Seconds of one case, round by round from the first on."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p20(self) -> float:
        """A fifth of the rounds was faster."""
        return sorted(self.seconds)[int(0.2 * len(self.seconds))]

    def over(self, other: Times) -> float:
        """How many times as long as `other`: the median over the rounds that both were in."""
        # Not strict: a slow case leaves early.
        pairs = zip(self.seconds, other.seconds, strict=False)
        return statistics.median(own / others for own, others in pairs)


class Clock(Protocol):
    """Seconds of one call; batches are taken from `batches`."""

    def __call__(self, run: Callable[[Batch], object], batches: Iterator[Batch], /) -> float: ...


@dataclass(frozen=True)
class HostClock:
    """For the CPU: wall time of one call."""

    def __call__(self, run: Callable[[Batch], object], batches: Iterator[Batch]) -> float:
        batch = next(batches)
        start = time.perf_counter()
        run(batch)
        return time.perf_counter() - start


@dataclass(frozen=True)
class DeviceClock:
    """For a GPU: events around several calls in a row, each on another batch.

    Calls are queued while earlier ones run, so the host's time is seen only where it is what
    limits the calls, as in training.
    """

    calls: int = 10
    cuda: Any = field(default=torch.cuda)

    def __call__(self, run: Callable[[Batch], object], batches: Iterator[Batch]) -> float:
        start, end = (self.cuda.Event(enable_timing=True) for _ in range(2))
        self.cuda.synchronize()
        start.record()
        for batch in itertools.islice(batches, self.calls):
            run(batch)
        end.record()
        self.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / self.calls


def warm_up(
    cases: Sequence[Case], batches: Sequence[Batch], progress: Callable[[str], None]
) -> None:
    """Compiles what has to be compiled, and lets the allocator find its size."""
    turn = itertools.cycle(batches)
    for case in cases:
        start = time.perf_counter()
        for _ in range(WARM_UP):
            case.run(next(turn))
        spent = time.perf_counter() - start
        if spent > 3:
            progress(f"{case.name}: compiled and warm after {spent:.1f} s")


def interleaved(
    cases: Sequence[Case],
    batches: Sequence[Batch],
    *,
    rounds: int,
    budget: float,
    clock: Clock,
    progress: Callable[[str], None],
) -> dict[str, Times]:
    """Times every case `rounds` times, in another random order each round.

    Args:
        batches: equal ones, used in turn.
        budget: seconds a case may take; a slower one leaves after `FEWEST` rounds or more.
    """
    turn = itertools.cycle(batches)
    dice, said = random.Random(0), time.perf_counter()
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds):
        if time.perf_counter() - said > QUIET:
            progress(f"round {number + 1} of {rounds}")
            said = time.perf_counter()
        order = list(cases)
        dice.shuffle(order)
        for case in order:
            seen = times[case.name]
            if number < FEWEST or (len(seen) == number and sum(seen) < budget):
                seen.append(clock(case.run, turn))
    return {name: Times(tuple(seen)) for name, seen in times.items()}
