"""The command line, the restart, and a whole run with everything slow replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jsonschema
import pytest
import torch

from benchmarks.fused import goals, machine, objectives, options, plot, report, run
from benchmarks.fused.document import Document
from tests.benchmarks.made_up import document

ROOT = Path(__file__).resolve().parents[2]


def test_help_teaches_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from benchmarks.fused.__main__ import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in ("--sizes", "--quick", "--no-startup", "examples", "floor", "p20"):
        assert word in done.stdout


def test_sizes_are_rows_times_length() -> None:
    assert options.parsed(["--sizes", "2x3,40x500"]).sizes == ((2, 3), (40, 500))
    assert options.parsed([]).sizes == ((64, 512), (512, 2048), (1024, 8192))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "2by3"], "'2by3' is not rows x length"),
        (["--sizes", "0x3"], "'0x3' is not rows x length"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_wrong_values_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options.parsed(arguments)
    assert message in capsys.readouterr().err


def test_the_allocator_is_set_once_and_only_for_glibc() -> None:
    found = machine.restart_command(["--quick"], {"HOME": "/home/me"}, "glibc")
    assert found is not None
    command, environment = found
    assert command == [sys.executable, "-m", "benchmarks.fused", "--quick"]
    assert environment == {"HOME": "/home/me", "GLIBC_TUNABLES": machine.TUNABLES}
    assert machine.restart_command(["--quick"], environment, "glibc") is None
    assert machine.restart_command([], {"GLIBC_TUNABLES": "my own"}, "glibc") is None
    assert machine.restart_command([], {}, "") is None


def test_the_machine_is_described() -> None:
    said = machine.describe(2, "cpu")
    assert said["cores"] == os.cpu_count()
    assert {"cpu", "threads", "torch", "date", "commit", "glibc_tunables"} <= said.keys()
    json.dumps(said)


def test_generated_specs_have_their_levels() -> None:
    import fibdsl

    text = objectives.many_levels("deep", 4)
    assert fibdsl.load_text(text).keys == ("uid", "data_source", "corpus", "mixture")
    assert set(objectives.names()) > {"apc", "fiberpo", "fiberpo_domain", "fiberpo_6"}
    assert objectives.budgets("fiberpo_domain").pairs == ((0.15, 0.09), (0.08, 0.05), (0.05, 0.03))


CASE = {
    "type": "object",
    "required": ["median_ms", "p20_ms", "over_floor", "over_ppo", "gb_s", "ms"],
    "properties": {
        "median_ms": {"type": "number"},
        "p20_ms": {"type": "number"},
        "ms": {"type": "array", "items": {"type": "number"}, "minItems": 1},
    },
    "additionalProperties": {"type": ["number", "null"]},
}
TABLE = {
    "type": "object",
    "required": ["rows", "places", "padded_places", "tokens", "others", "cases"],
    "properties": {"cases": {"type": "object", "additionalProperties": CASE}},
}
VERDICT = {
    "type": "object",
    "required": ["goal", "measured", "measured_then", "first", "then", "verdict"],
    "properties": {"verdict": {"enum": ["then met", "first met", "missed", "not measured"]}},
}
SCHEMA = {
    "type": "object",
    "required": [
        *("machine", "options", "padded", "packed", "memory", "graphs", "accuracy", "check"),
        "goals",
    ],
    "properties": {
        "machine": {
            "type": "object",
            "required": [
                *("cpu", "cores", "threads", "device", "torch", "date", "glibc_tunables"),
                "commit",
            ],
        },
        "padded": {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]+x[0-9]+$"},
            "additionalProperties": TABLE,
        },
        "packed": TABLE,
        "goals": {"type": "array", "items": VERDICT, "minItems": 15},
    },
}


def test_results_have_their_schema_and_are_printed_and_drawn() -> None:
    said: Document = document()
    said["goals"] = goals.judged(said)
    jsonschema.validate(json.loads(json.dumps(said)), SCHEMA)

    text = report.text(said)
    for words in ("padded 4x8: 4 rows, 32 places, 25% padding", "goals", "not measured", "floor"):
        assert words in text
    assert max(map(len, text.splitlines()[2:])) <= 110

    assert "CAUTION" not in text
    said["packed"]["others"] = 0.9
    disturbed = report.text(said)
    assert "CAUTION: other processes kept 0.9 cores busy" in disturbed
    assert "CAUTION: other processes ran during packed" in disturbed

    picture = ElementTree.fromstring(plot.svg(said))
    shown = {element.text for element in picture.iter() if element.tag.endswith("text")}
    assert {"4x8", "fiberpo", "a spec, compiled", "8.0"} <= shown


def test_a_run_writes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "measured", lambda *_: document())
    out = tmp_path / "new"
    assert run.run(options.parsed(["--out", str(out), "--device", "cpu"])) == 0
    written = (out / "fused.json").read_text(encoding="utf-8")
    jsonschema.validate(json.loads(written), SCHEMA)
    assert '"ms": [ 8.0, 8.0, 8.0 ]' in written
    assert (out / "fused.svg").is_file()
    assert "goals" in capsys.readouterr().out

    without = tmp_path / "without"
    assert run.run(options.parsed(["--out", str(without), "--device", "cpu", "--no-plot"])) == 0
    assert not (without / "fused.svg").exists()


def test_a_gpu_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.run(options.parsed(["--device", "cuda"])) == 2
    assert "--device cuda: torch finds no GPU here" in capsys.readouterr().err


def test_an_unknown_objective_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run(options.parsed(["--objectives", "grpo,gpro"])) == 2
    assert "no objective gpro; there are: apc, " in capsys.readouterr().err


def test_results_in_the_repository_have_the_schema() -> None:
    path = ROOT / "benchmarks" / "results" / "fused.json"
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), SCHEMA)
