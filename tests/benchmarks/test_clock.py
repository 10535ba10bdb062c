"""The clock: medians, rounds, rotation of buffers; with clocks that no machine influences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from benchmarks.fused import batches, tables
from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case
from benchmarks.fused.clock import (
    FEWEST,
    WARM_UP,
    DeviceClock,
    HostClock,
    Times,
    interleaved,
    warm_up,
)


def quiet(_: str) -> None:
    pass


def test_median_and_p20() -> None:
    times = Times((5.0, 1.0, 4.0, 2.0, 3.0))
    assert times.median == 3.0
    assert times.p20 == 2.0
    assert Times((7.0,)).p20 == 7.0


def test_a_ratio_is_the_median_of_ratios_within_rounds() -> None:
    one, other = Times((2.0, 9.0, 30.0)), Times((1.0, 3.0, 10.0, 77.0))
    assert one.over(other) == 3.0  # of 2, 3 and 3; the last round has no partner


class Scripted:
    """A clock that says what each case takes, and counts the calls."""

    def __init__(self, seconds: dict[str, float], names: list[str]) -> None:
        self.seconds = seconds
        self.names = names

    def __call__(self, run: Callable[[Batch], object], given: Iterator[Batch]) -> float:
        run(next(given))
        return self.seconds[self.names[-1]]


def recording(name: str, names: list[str]) -> Case:
    return Case(name, lambda _: names.append(name))


def test_every_case_once_a_round_and_slow_ones_leave() -> None:
    names: list[str] = []
    cases = [recording(name, names) for name in ("quick", "slow")]
    batch = batches.padded(2, 4)
    warm_up(cases, [batch], quiet)
    assert names == ["quick"] * WARM_UP + ["slow"] * WARM_UP
    names.clear()
    times = interleaved(
        cases,
        [batch],
        rounds=12,
        budget=FEWEST + 1.5,
        clock=Scripted({"quick": 0.001, "slow": 1.0}, names),
        progress=quiet,
    )
    assert len(times["quick"].seconds) == 12
    assert len(times["slow"].seconds) == FEWEST + 2
    for at in range(0, 2 * FEWEST, 2):
        assert sorted(names[at : at + 2]) == ["quick", "slow"]
    orders = {tuple(names[at : at + 2]) for at in range(0, 2 * FEWEST, 2)}
    assert len(orders) == 2  # another order in other rounds


def test_the_host_clock_runs_once_on_the_next_batch() -> None:
    seen: list[Batch] = []
    given = [batches.padded(1, 2), batches.padded(1, 3)]
    turn = iter(given)
    clock = HostClock()
    assert clock(seen.append, turn) >= 0
    assert clock(seen.append, turn) >= 0
    assert seen == given


class FakeCuda:
    """Events that read a clock of the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.synchronised = 0

    def synchronize(self) -> None:
        self.synchronised += 1

    def Event(self, enable_timing: bool) -> FakeEvent:  # noqa: N802
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.at = 0.0

    def record(self) -> None:
        self.at = self.cuda.now

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.at - self.at


def test_the_device_clock_divides_by_its_calls_and_rotates_batches() -> None:
    cuda = FakeCuda()
    given = [batches.padded(1, 2), batches.padded(1, 3), batches.padded(1, 4)]
    seen: list[int] = []

    def run(batch: Batch) -> None:
        cuda.now += 2.0  # milliseconds
        seen.append(batch.places)

    clock = DeviceClock(calls=5, cuda=cuda)
    turn = itertools.cycle(given)
    assert clock(run, turn) == pytest.approx(2e-3)
    assert seen == [2, 3, 4, 2, 3]
    assert cuda.synchronised == 2
    clock(run, turn)
    assert seen[5:] == [4, 2, 3, 4, 2]  # it goes on where it stopped


def test_a_table_has_ratios_and_traffic() -> None:
    names: list[str] = []
    cases = [recording(name, names) for name in ("floor", "plain PPO, compiled", "spec")]
    seconds = {"floor": 0.001, "plain PPO, compiled": 0.002, "spec": 0.008}
    runs = tables.Runs(FEWEST, 1.0, Scripted(seconds, names), quiet)
    table = tables.padded(cases, [batches.padded(2, 10)], runs)
    spec = table["cases"]["spec"]
    assert spec["median_ms"] == pytest.approx(8)
    assert spec["over_floor"] == pytest.approx(8)
    assert spec["over_ppo"] == pytest.approx(4)
    assert spec["gb_s"] == pytest.approx(20 * 20 / 0.008 / 1e9)
    assert tables.over(table, "spec", "floor") == pytest.approx(8)
    assert tables.over(table, "spec", "no such case") is None
    assert tables.over(None, "spec", "floor") is None


def test_packed_and_padded_cases_run_on_their_own_batches() -> None:
    seen: list[int] = []
    case = Case("spec", lambda batch: seen.append(batch.places))
    dense, twin = batches.packed(3, 2, 8)
    runs = tables.Runs(FEWEST, 1.0, HostClock(), quiet)
    table = tables.packed([case], [case], [dense], [twin], runs)
    assert set(table["cases"]) == {"spec, packed", "spec, padded"}
    assert set(seen) == {dense.places, twin.places}
    assert table["places"] == dense.places
    assert table["padded_places"] == twin.places
