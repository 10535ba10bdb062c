"""SARIF: valid by the published schema, and what code scanning makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.report import Report
from fibdsl.diagnostics.render.sarif import document
from fibdsl.source import Source, Span
from tests.render.cases import FINDINGS, LINT, NAME, report

SCHEMA = Path(__file__).with_name("sarif-2.1.0-rtm.5.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(made: Report) -> dict[str, Any]:
    text = document(made)
    assert text.isascii()
    [run] = json.loads(text)["runs"]
    assert isinstance(run, dict)
    return run


def regions(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "region":
                yield inner
            yield from regions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from regions(inner)


@pytest.mark.parametrize("case", ["all", "none", "witness", "outside"])
def test_the_schema(folder: Path, case: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    made = {
        "all": report(folder),
        "none": Report(("specs/clean.fib",), (), folder),
        "witness": report(folder, witness_file="shown/a b.safetensors"),
        "outside": report(folder / "elsewhere"),
    }[case]
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    checker = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
    content = json.loads(document(made))
    assert [error.message for error in checker.iter_errors(content)] == []
    # Errata 01 asks this of every region.
    assert all("startLine" in region for region in regions(content))
    content["runs"][0]["columnKind"] = "bytes"
    assert list(checker.iter_errors(content))


def test_results(folder: Path) -> None:
    run = run_of(report(folder))
    first, second = run["results"][:2]
    assert (first["ruleId"], first["level"]) == ("FIB201", "error")
    assert first["message"]["text"] == "unknown level `trajectori`\nhelp: did you mean it?"
    # `  at trajectori { base rollback(+c_plsu, -0.1) }`: characters 6-15 and 34-39 of line 2.
    [place] = first["locations"]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "specs/two.fib", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 2, "startColumn": 6, "endLine": 2, "endColumn": 16},
    }
    region = second["locations"][0]["physicalLocation"]["region"]
    assert (region["startColumn"], region["endColumn"]) == (34, 40)
    assert [r["level"] for r in run["results"]].count("warning") == 1
    assert run["columnKind"] == "unicodeCodePoints"


def test_columns_count_code_points(folder: Path) -> None:
    source = Source("a.fib", "𝛆 x")  # one code point, two UTF-16 units, four bytes
    run = run_of(report(folder, Diagnostic(NAME, "wrong", source, Span(2, 3))))
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert (region["startColumn"], region["endColumn"]) == (3, 4)


def test_labels_are_related_locations(folder: Path) -> None:
    related = run_of(report(folder))["results"][2]["relatedLocations"]
    # `  at trajectory { base rollback(+0.2, -0.1) }`, line 2 of labels.fib
    assert [(r["id"], r["message"]["text"]) for r in related] == [
        (1, "couples the tokens of a trajectory"),
        (2, "up"),
        (3, "down"),
    ]
    places = [r["physicalLocation"]["region"] for r in related]
    assert [(p["startLine"], p["startColumn"], p["endColumn"]) for p in places] == [
        (2, 24, 44),
        (2, 33, 37),
        (2, 39, 43),
    ]


def test_rules(folder: Path) -> None:
    run = run_of(report(folder))
    rules = run["tool"]["driver"]["rules"]
    codes = ["FIB001", "FIB004", "FIB101", "FIB201", "FIB501", "FIB601"]
    assert [rule["id"] for rule in rules] == codes
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    lint = rules[-1]
    assert lint["shortDescription"]["text"] == LINT.summary
    assert lint["fullDescription"]["text"] == LINT.why
    assert lint["defaultConfiguration"] == {"level": "warning"}
    assert lint["help"]["markdown"] == (
        "FIB601 unused-param: a parameter that no gate uses.\n\n"
        "Setting it does nothing, 100% of the time.\n\n"
        "Found in:\n\n```fib\nobjective o { param a : log = 1 }\n```\n\n"
        "Mended:\n\n```fib\nobjective o { }\n```"
    )
    # A rule whose reasons are not written yet still has help.
    assert (
        rules[0]["help"]["text"] == f"FIB001 syntax-error: {rules[0]['fullDescription']['text']}."
    )


def test_uris(folder: Path) -> None:
    run = run_of(report(folder))
    uris = [artifact["location"]["uri"] for artifact in run["artifacts"]]
    assert uris[3] == "specs/a%2C%20b%3A%20100%25.fib"
    assert uris[5] == "specs/%CE%B5.fib"
    # A file outside the root is whole, and has no base.
    outside = run_of(report(folder / "elsewhere"))["artifacts"][0]["location"]
    assert outside == {"uri": (folder / "specs/clean.fib").as_uri()}
    # From a folder below the root, as `fib check` in a part of a repository.
    above = run_of(report(folder.parent))["artifacts"][0]["location"]["uri"]
    assert above == f"{folder.name}/specs/clean.fib"


def prints(made: Report) -> list[str]:
    return [r["partialFingerprints"]["fibFinding/v1"] for r in run_of(made)["results"]]


def test_fingerprints(folder: Path) -> None:
    assert len(set(prints(report(folder)))) == len(FINDINGS)

    def moved(text: str, at: int) -> list[str]:
        source = Source("a.fib", text)
        return prints(report(folder, Diagnostic(NAME, "m", source, Span(at, at + 1))))

    # Lines added above, another indent: the same finding. Another line: another one.
    assert moved("x = y\n", 4) == moved("# more\n\n    x = y\n", 16)
    assert moved("x = y\n", 4) != moved("x = z\n", 4)
    # Twice on one line: two findings.
    source = Source("a.fib", "y y\n")
    twice = [Diagnostic(NAME, "m", source, Span(at, at + 1)) for at in (0, 2)]
    assert len(set(prints(report(folder, *twice)))) == 2


def test_witness(folder: Path) -> None:
    result = run_of(report(folder, witness_file="shown/a b.safetensors"))["results"][2]
    assert result["properties"]["witness"] == {
        "name": "labels.block_diagonal",
        "shows": "d G[0, 0] / d logp[0, 1] is 0.5",
    }
    [attachment] = result["attachments"]
    assert attachment["artifactLocation"]["uri"] == "shown/a%20b.safetensors"
    assert "attachments" not in run_of(report(folder))["results"][2]
