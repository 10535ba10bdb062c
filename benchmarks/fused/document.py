"""The results file: what one run has measured. Parts that were not asked for are missing."""

from __future__ import annotations

from typing import Any, TypedDict

from benchmarks.fused.accuracy import Accuracy
from benchmarks.fused.check import CheckTime
from benchmarks.fused.graphs import Graphs
from benchmarks.fused.startup import Ahead, FirstCall
from benchmarks.fused.tables import Table


class Memory(TypedDict):
    """Bytes a place above the inputs: kept for the backward, and at most at any time."""

    saved: float | None
    peak: float


class Verdict(TypedDict):
    """One line of the goals table, as it was judged."""

    goal: str
    measured: float | None
    measured_then: float | None
    first: float
    then: float
    verdict: str


class Document(TypedDict, total=False):
    """Keys of `padded` are sizes such as `512x2048`; the others' are names of cases or specs."""

    machine: dict[str, Any]
    options: dict[str, Any]
    padded: dict[str, Table]
    packed: Table
    from_logits: Table
    memory: dict[str, Memory]
    graphs: dict[str, Graphs]
    accuracy: dict[str, Accuracy]
    first_call: dict[str, FirstCall]
    ahead_of_time: dict[str, Ahead]
    check: CheckTime
    goals: list[Verdict]
