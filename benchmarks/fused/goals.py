"""The goals, first ones and then ones, and whether a run meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.fused.document import Document, Verdict
from benchmarks.fused.objectives import FOUR, NO_METRICS, SIX, TWO
from benchmarks.fused.tables import FLOOR, PACKED, PADDED, PPO, over

TRAINER = "trainer-style PPO, eager"
SMALL, MIDDLE, LARGE = "64x512", "512x2048", "1024x8192"
"""32k, 1M and 8M tokens, padding included."""


@dataclass(frozen=True)
class Goal:
    """What is to be reached.

    Attributes:
        first, then: bounds; upper ones unless `at_least`.
        measured: the value of a run, None if it was not measured.
        measured_then: the value that `then` is about, where it is another one.
    """

    name: str
    first: float
    then: float
    measured: Callable[[Document], float | None]
    measured_then: Callable[[Document], float | None] | None = None
    at_least: bool = False

    def judged(self, document: Document) -> Verdict:
        value = self.measured(document)
        later = value if self.measured_then is None else self.measured_then(document)
        return {
            "goal": self.name,
            "measured": value,
            "measured_then": None if self.measured_then is None else later,
            "first": self.first,
            "then": self.then,
            "verdict": self._verdict(value, later),
        }

    def _verdict(self, value: float | None, later: float | None) -> str:
        if value is None or later is None:
            return "not measured"
        met = self._meets(value, self.first)
        if met and self._meets(later, self.then):
            return "then met"
        return "first met" if met else "missed"

    def _meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound


def judged(document: Document) -> list[Verdict]:
    """Every goal, in the order they are printed; those without metrics only where measured so."""
    every = (goal.judged(document) for goal in GOALS)
    without = NO_METRICS.strip(", ")
    return [v for v in every if v["measured"] is not None or without not in v["goal"]]


def _ratio(size: str, name: str, other: str) -> Callable[[Document], float | None]:
    return lambda document: over(document.get("padded", {}).get(size), name, other)


def _goals() -> Iterator[Goal]:
    # With all metrics a loss reads more than with none: both are shown, and judged alike.
    for suffix, words in (("", ""), (NO_METRICS, NO_METRICS)):
        four, two, six = FOUR + suffix, TWO + suffix, SIX + suffix
        for size, first in ((MIDDLE, 6.5), (LARGE, 5.5)):
            name = f"four levels / floor, {size}{words}"
            yield Goal(name, first, 2.5, _ratio(size, four, FLOOR))
        for size, first, then in ((SMALL, 0.75, 0.6), (MIDDLE, 1.3, 0.8), (LARGE, 2.0, 1.0)):
            name = f"four levels / compiled plain PPO, {size}{words}"
            yield Goal(name, first, then, _ratio(size, four, PPO))
        for size in (MIDDLE, LARGE):
            name = f"trainer-style eager / four levels, {size}{words}"
            yield Goal(name, 10, 20, _ratio(size, TRAINER, four), at_least=True)
        for size in (MIDDLE, LARGE):
            yield Goal(f"four / two levels, {size}{words}", 1.2, 1.05, _ratio(size, four, two))
            yield Goal(f"six / two levels, {size}{words}", 1.25, 1.05, _ratio(size, six, two))
        yield Goal(f"bytes a place above the inputs, four levels{words}", 7, 4.5, _peak(four))
        for spec, levels in ((two, "two"), (four, "four")):
            name = f"packed / padded at 80 % padding, {levels} levels{words}"
            yield Goal(name, 0.35, 0.2, _packed(spec))
    yield Goal(
        "graphs for all sizes (then: one row or token too)",
        1,
        1,
        lambda document: (
            document["graphs"][FOUR]["several_rows"] if _has_graphs(document) else None
        ),
        lambda document: document["graphs"][FOUR]["one_row_too"] if _has_graphs(document) else None,
    )
    yield Goal(
        "graph breaks",
        0,
        0,
        lambda document: document["graphs"][FOUR]["breaks"] if _has_graphs(document) else None,
    )
    yield Goal("first call, cold, four levels, s", 18, 10, _first_call("cold"))
    yield Goal("first call, warm, four levels, s", 6, 1, _first_call("warm"))
    yield Goal(
        "`fib check` of one spec, s (then: / its imports)",
        0.35,
        2.5,
        lambda document: document["check"]["seconds"] if "check" in document else None,
        lambda document: document["check"]["over_imports"] if "check" in document else None,
    )


def _peak(name: str) -> Callable[[Document], float | None]:
    def value(document: Document) -> float | None:
        found = document.get("memory", {}).get(name)
        return None if found is None else found["peak"]

    return value


def _packed(name: str) -> Callable[[Document], float | None]:
    return lambda document: over(document.get("packed"), name + PACKED, name + PADDED)


def _has_graphs(document: Document) -> bool:
    return FOUR in document.get("graphs", {})


def _first_call(state: str) -> Callable[[Document], float | None]:
    def value(document: Document) -> float | None:
        found = document.get("first_call", {}).get(FOUR)
        if found is None:
            return None
        return found["cold"] if state == "cold" else found["warm"]

    return value


GOALS = tuple(_goals())
