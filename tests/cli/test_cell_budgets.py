"""`budget per cell` on the command line: `--cell`, what is shown, witnesses, differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibdsl.cli.main import main
from fibdsl.explanation import Explanation
from fibdsl.files import read_tensors, write_tensors
from fibdsl.report import EvalReport
from tests.meaning.test_cell_budgets import DOMAINS

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
FAR = str(DATA / "rollouts_far.safetensors")
CELLS = ["--cell", "data_source.math=0", "--cell", "data_source.code=1"]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "domains.fib"
    path.write_text(DOMAINS)
    return str(path)


def test_eval(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", spec, "--batch", FAR, *CELLS, "--json"]) == 0
    report = EvalReport.model_validate_json(capsys.readouterr().out)
    names = ("logp", "old_logp", "advantages", "mask", "uid", "data_source")
    tensors: dict[str, Any] = read_tensors(FAR, names)
    keys = {key: tensors.pop(key) for key in ("uid", "data_source")}
    cells = {"data_source": {"math": 0, "code": 1}}
    assert report.loss == fibdsl.load(spec).evaluate(**tensors, keys=keys, cells=cells).loss
    budgets = {level.level: level.budgets for level in report.levels}
    assert budgets.pop("domain") == {"math": 0.05, "code": 0.1, "else": 0.02}
    assert set(budgets.values()) == {None}


def test_the_table_shows_the_budgets_at_the_values_set(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", spec, "--batch", FAR, *CELLS, "--set", "math=0.01"]) == 0
    assert "  domain budgets    math 0.01, code 0.02, else 0.02\n" in capsys.readouterr().out


def test_budgets_in_the_batch(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = read_tensors(FAR)
    source = tensors["data_source"]
    tensors["budgets.domain"] = np.where(source == 0, 0.05, np.where(source == 1, 0.1, 0.02))
    file = str(tmp_path / "batch.npz")
    write_tensors(file, tensors)
    assert main(["eval", spec, "--batch", file, "--json"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert main(["eval", spec, "--batch", FAR, *CELLS, "--json"]) == 0
    named = json.loads(capsys.readouterr().out)
    assert given["loss"] == named["loss"]
    assert {level["budgets"] for level in given["levels"]} == {None}
    assert main(["eval", spec, "--batch", file, *CELLS]) == 2
    assert "are given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "fib eval: domains has budgets for cells by name; say which ids they have: "
            "--cell data_source.math=ID --cell data_source.code=ID\n",
        ),
        (CELLS[:2], "cells['data_source'] does not say which id 'code' has"),
        ([*CELLS, *CELLS[:2]], "--cell says twice which id data_source.math has"),
        (["--cell", "data_source.maths=0"], "did you mean 'math'?"),
        (["--cell", "math=0"], "'math=0' is not of the form KEY.NAME=ID"),
        (["--cell", "data_source.math=x"], "is not of the form KEY.NAME=ID"),
    ],
)
def test_what_eval_refuses(
    spec: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["eval", spec, "--batch", FAR, *arguments])
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    assert message in capsys.readouterr().err


def test_a_cell_that_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "fiberpo_domain", "--batch", FAR, *CELLS]) == 2
    assert "cells has no effect: 'fiberpo_domain' names no cell" in capsys.readouterr().err


def test_explain(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", spec, "--json"]) == 0
    explained = Explanation.model_validate_json(capsys.readouterr().out)
    assert explained.budgets == {"domain": {"math": 0.05, "code": 0.1, "else": 0.02}}
    passing = {r.channel: r.inputs for r in explained.regimes if r.level == "domain"
               if r.regime == "pass"}  # fmt: skip
    assert passing == {"+": "|x| <= budget", "-": "|x| <= (0.6 * budget)"}
    status = {p.property: (p.status, p.status_over_ranges) for p in explained.properties}
    for name in ("first_order_agreement", "continuous", "bounded", "restorative at domain"):
        assert status[name] == ("proved", "proved")
    assert main(["explain", spec]) == 0
    assert "  budgets   domain: math 0.05, code 0.1, else 0.02\n" in capsys.readouterr().out


def test_the_range_of_the_gated_ratio_is_that_of_the_largest_budgets(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up .1 + .08 + .15 + .02 of the + channel, .05 + .09 + .02 of the - channel; down .06 more of
    this one, and .1 less of that."""
    assert main(["explain", spec, "--json"]) == 0
    for found in Explanation.model_validate_json(capsys.readouterr().out).gated_ratio:
        assert found.high is not None
        assert found.exact
        assert np.log(found.high) == pytest.approx(0.51, rel=1e-12)
        assert np.log(found.low) == pytest.approx(-0.47, rel=1e-12)


def test_a_promise_that_holds_of_some_cells_only_is_refuted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A + channel may add .08 + .15 + .02 to what the domain lets pass, a - channel .05, .09, .02.
    So G reaches exp(.41 + .1) = 1.67 in the domain `code`, and exp(.41 + .02) = 1.54 elsewhere."""
    path = tmp_path / "promise.fib"
    promise = DOMAINS.rstrip().rstrip("}") + "require gated_ratio in [0.5, 1.6] }"
    path.write_text(promise)
    assert main(["check", str(path)]) == 1
    assert "FIB501" in capsys.readouterr().out
    path.write_text(promise.replace("math: math, code: 2 * math, ", "").replace("param", "#"))
    main(["check", str(path)])
    assert "FIB50" not in capsys.readouterr().out


def test_a_witness_brings_its_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clipped.fib"
    clipped = DOMAINS.replace("base rollback", "base clip").rstrip().rstrip("}")
    path.write_text(clipped + "require restorative at domain }")
    folder = tmp_path / "shown"
    assert main(["check", str(path), "--witnesses", str(folder)]) == 1
    [file] = folder.iterdir()
    assert set(np.unique(read_tensors(file)["budgets.domain"])) == {0.1}  # the largest
    capsys.readouterr()
    assert main(["eval", str(path), "--batch", str(file), "--json"]) == 1
    levels = json.loads(capsys.readouterr().out)["levels"]
    [domain] = [level for level in levels if level["level"] == "domain"]
    assert max(channel["regimes"]["clipped"] for channel in domain["channels"]) == 1.0


def test_diff(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def compared(old: str, new: str) -> dict[str, object]:
        assert old in DOMAINS
        other = tmp_path / "other.fib"
        other.write_text(DOMAINS.replace(old, new))
        main(["diff", spec, str(other), "--json"])
        [found] = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    same = compared("math: math, code: 2 * math", "code: 2*math, math: math")
    assert same["change"] == "SAME"
    one = compared("code: 2 * math", "code: 1.5 * math")
    assert one["change"] == "VALUE"
    assert str(one["witness"]).endswith("where all cells are called code")
    assert one["interface"] == []
    renamed = compared("math: math", "maths: math")
    assert renamed["change"] == "VALUE"
    assert renamed["interface"] == ["- cell data_source.math", "+ cell data_source.maths"]
