"""What docs/scaling.md says of the cost: a call exchanges so much, the tables are the model's."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "scaling.py"
DOCUMENT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_scaling", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_call_exchanges_what_the_cost_model_says() -> None:
    """The script asserts it, in two processes."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--count"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, inside = (len(RESULTS["counted"][part]) for part in ("prelude", "graph"))
    assert f"{before} exchanges before the graph, {inside} in it" in done.stdout
    assert f"| `fiberpo_domain` | group, domain | {before} | {inside} |" in DOCUMENT


def test_exchanges_of_one_rank_take_no_time(scaling: ModuleType) -> None:
    numbering = scaling.numbering(1, 12, (8, 4))
    collectives = [*scaling.prelude(1), *numbering, *scaling.sums(8, 10)]
    assert sum(scaling.seconds(c, 1, 5e-6, 25e9, True) for c in collectives) == 0


def test_a_tree_has_the_shorter_latency_and_the_same_traffic(scaling: ModuleType) -> None:
    [group, *_] = scaling.sums(1000, 10)
    ring = scaling.seconds(group, 1024, 5e-6, 25e9, False)
    tree = scaling.seconds(group, 1024, 5e-6, 25e9, True)
    assert ring - tree == pytest.approx(5e-6 * (2 * 1023 - 2 * 10))


def test_the_documented_measurements_are_those_recorded() -> None:
    parts = ("alone prelude", "group prelude", "alone graph", "group graph", "all_reduce")
    for line in RESULTS["measured"]:
        cells = [f"{line['rows']} × {line['length']}", str(line["ranks"])]
        cells += [f"{line['ms'][part]:.2f}" for part in parts]
        assert f"| {' | '.join(cells)} |" in DOCUMENT


def test_the_documented_computation_is_that_of_the_model(scaling: ModuleType) -> None:
    setting = RESULTS["computed"]
    metrics = RESULTS["counted"]["metrics"]
    lines = scaling.computed(metrics, setting["hop_us"] * 1e-6, setting["GB_s"] * 1e9)
    assert f"{setting['hop_us']:g} µs a hop and {setting['GB_s']:g} GB/s" in DOCUMENT
    for line in lines:
        cells = [f"{line[name]:,}" for name in ("rows", "ranks")]
        cells += [f"{line[name]:.2f}" for name in ("ids MB", "sums MB")]
        for way in ("ring", "tree"):
            cells += [f"{line[f'{part} ms, {way}']:.1f}" for part in ("ids", "sums")]
        assert f"| {' | '.join(cells)} |" in DOCUMENT


def test_the_documented_extra_pass_is_the_one_measured() -> None:
    path = ROOT / "benchmarks" / "results" / "two_passes.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    ratios = found["over_undivided"]
    assert f"takes {ratios['two passes']:.2f} of an undivided one" in DOCUMENT
    assert f"pass, {ratios['first step']:.2f}." in DOCUMENT
    assert f"{found['rows']} rows of {found['length']} tokens" in DOCUMENT
    assert found["gradients_apart"] < 1e-5
