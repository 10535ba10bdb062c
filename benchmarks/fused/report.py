"""A run as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.fused.document import Document, Verdict
from benchmarks.fused.neighbours import TOO_MUCH
from benchmarks.fused.startup import Ahead, FirstCall
from benchmarks.fused.tables import Table

_WIDTH = 42


def text(document: Document) -> str:
    """All tables, the goals last."""
    return "\n".join(_lines(document))


def _lines(document: Document) -> Iterator[str]:
    machine = document["machine"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['device']}; torch {machine['torch']}; commit {machine['commit']}"
    )
    yield f"allocator: GLIBC_TUNABLES={machine['glibc_tunables'] or '(not set)'}"
    for size, table in document.get("padded", {}).items():
        yield from _table(f"padded {size}", table)
    if "packed" in document:
        yield from _table("rows packed, and padded", document["packed"])
    if "from_logits" in document:
        yield from _table("from logits on", document["from_logits"])
    if "memory" in document:
        yield ""
        yield f"{'bytes a place above the inputs':<{_WIDTH}}{'saved':>9}{'peak':>9}"
        for name, memory in document["memory"].items():
            yield f"{name:<{_WIDTH}}{_number(memory['saved'])}{_number(memory['peak'])}"
    if "graphs" in document:
        yield ""
        yield f"{'graphs over many sizes':<{_WIDTH}}{'B, T > 1':>9}{'all':>9}{'breaks':>9}"
        for name, graphs in document["graphs"].items():
            counts = (graphs["several_rows"], graphs["one_row_too"], graphs["breaks"])
            yield f"{name:<{_WIDTH}}" + "".join(f"{count:>9}" for count in counts)
    if "accuracy" in document:
        yield ""
        yield (
            f"{'float32 against float64, relative error':<{_WIDTH}}{'loss':>9}{'gradient':>9}"
            "  tokens beyond a kink"
        )
        for name, found in document["accuracy"].items():
            yield (
                f"{name:<{_WIDTH}}{found['loss']:>9.1e}{found['gradient']:>9.1e}"
                f"  {found['other_side']} of {found['tokens']:,}"
            )
    yield from _first_calls("first call in a new process, s", document.get("first_call", {}))
    yield from _ahead(document.get("ahead_of_time", {}))
    if "check" in document:
        yield ""
        check = document["check"]
        yield (
            f"`fib check` of one spec: {check['seconds']:.3f} s, "
            f"{check['over_imports']:.2f} x its imports"
        )
    tables = {**document.get("padded", {})}
    if "packed" in document:
        tables["packed"] = document["packed"]
    disturbed = [name for name, table in tables.items() if (table["others"] or 0.0) > TOO_MUCH]
    yield from _goals(document["goals"], disturbed)


def _table(title: str, table: Table) -> Iterator[str]:
    padding = 1 - table["tokens"] / table["padded_places"]
    yield ""
    yield (
        f"{title}: {table['rows']} rows, {table['padded_places']:,} places, {padding:.0%} padding; "
        "forward and gradient"
    )
    if table["others"] is not None and table["others"] > TOO_MUCH:
        yield f"CAUTION: other processes kept {table['others']:.1f} cores busy; do not judge by it"
    yield (
        f"{'':<{_WIDTH}}{'median ms':>10}{'p20 ms':>10}{'/ floor':>9}{'/ PPO':>9}{'GB/s':>8}"
        f"{'rounds':>8}"
    )
    for name, case in table["cases"].items():
        yield (
            f"{name:<{_WIDTH}}{case['median_ms']:>10.3f}{case['p20_ms']:>10.3f}"
            f"{_number(case['over_floor'])}{_number(case['over_ppo'])}{case['gb_s']:>8.2f}"
            f"{len(case['ms']):>8}"
        )


def _first_calls(title: str, calls: Mapping[str, FirstCall]) -> Iterator[str]:
    if not calls:
        return
    yield ""
    columns = ("cold", "process", "warm", "process")
    yield f"{title:<{_WIDTH}}" + "".join(f"{column:>9}" for column in columns)
    for name, call in calls.items():
        values = (call["cold"], call["cold_process"], call["warm"], call["warm_process"])
        yield f"{name:<{_WIDTH}}" + "".join(_number(value) for value in values)


def _ahead(calls: Mapping[str, Ahead]) -> Iterator[str]:
    if not calls:
        return
    yield ""
    columns = ("build", "first", "process")
    title = "the same, compiled ahead of time"
    yield f"{title:<{_WIDTH}}" + "".join(f"{column:>9}" for column in columns)
    for name, call in calls.items():
        values = (call["build"], call["first"], call["process"])
        yield f"{name:<{_WIDTH}}" + "".join(_number(value) for value in values)


def _goals(verdicts: Sequence[Verdict], disturbed: Sequence[str]) -> Iterator[str]:
    width = max(len(verdict["goal"]) for verdict in verdicts) + 2
    yield ""
    if disturbed:
        yield f"CAUTION: other processes ran during {', '.join(disturbed)}"
    yield f"{'goals':<{width}}{'measured':>16}{'first':>8}{'then':>8}  verdict"
    for verdict in verdicts:
        value, later = verdict["measured"], verdict["measured_then"]
        shown = "-" if value is None else f"{value:.2f}"
        if later is not None:
            shown += f" ({later:.2f})"
        yield (
            f"{verdict['goal']:<{width}}{shown:>16}{verdict['first']:>8g}{verdict['then']:>8g}"
            f"  {verdict['verdict']}"
        )


def _number(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:>9.2f}"
