"""Every output format on the fixed run; `--update-goldens` rewrites them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fibdsl._version import __version__
from fibdsl.diagnostics.render.formats import FORMATS
from fibdsl.diagnostics.render.github import summary
from fibdsl.diagnostics.render.report import Report
from tests.render.cases import report

GOLDENS = Path(__file__).parent / "golden"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.chdir(tmp_path)
    return report(tmp_path, witness_file="shown/labels.block_diagonal.safetensors")


def same(name: str, text: str, request: pytest.FixtureRequest) -> None:
    golden = GOLDENS / f"{name}.golden"
    text = text.replace(f'"{__version__}"', '"VERSION"') + "\n"
    if request.config.getoption("--update-goldens"):
        golden.write_text(text, encoding="utf-8", newline="\n")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FORMATS)
def test_format(name: str, run: Report, request: pytest.FixtureRequest) -> None:
    same(name, FORMATS[name].document(run), request)


def test_summary(run: Report, request: pytest.FixtureRequest) -> None:
    same("github-summary", summary(run), request)


def test_every_golden_has_its_format() -> None:
    assert {path.stem for path in GOLDENS.iterdir()} == {*FORMATS, "github-summary"}
