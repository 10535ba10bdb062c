"""docs/performance.md says what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "fused.json").read_text(encoding="utf-8"))


def test_every_goal_is_documented_with_its_verdict() -> None:
    for goal in RESULTS["goals"]:
        measured = f"{goal['measured']:.2f}"
        if goal["measured_then"] is not None:
            measured += f" ({goal['measured_then']:.2f})"
        cells = (goal["goal"], measured, f"{goal['first']:g}", f"{goal['then']:g}", goal["verdict"])
        assert f"| {' | '.join(cells)} |" in DOCUMENT


def test_times_are_those_recorded() -> None:
    lines = iter(DOCUMENT.splitlines())
    header = next(line for line in lines if line.startswith("| milliseconds |"))
    sizes = [size.strip().replace("×", "x") for size in header.split("|")[2:-1]]
    assert sizes == list(RESULTS["padded"])
    next(lines)
    names = 0
    for line in lines:
        if not line:
            break
        _, name, *cells, _ = (cell.strip() for cell in line.split("|"))
        cases = [RESULTS["padded"][size]["cases"][name] for size in sizes]
        assert cells == [f"{case['median_ms']:.3g}" for case in cases]
        names += 1
    assert names > 8
