"""`fib explain`: the text, the JSON, parameter values, witnesses, what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fibdsl.cli.main import main
from fibdsl.explanation import Explanation
from fibdsl.resources import shipped_specs

SPEC = """
objective mine {
  param  c : log = 0.25 in (0, 1)
  signal log_ratio
  levels token < trajectory
  at trajectory { base  rollback(+c, -0.125, k = 4) }
  at token      { fiber clip(0.03125) }
  reduce mean over trajectory, mean over token
}
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.fib"
    path.write_text(SPEC, encoding="utf-8")
    return str(path)


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> Explanation:
    assert main(["explain", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return Explanation.model_validate_json(out)


def test_json(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    e = explained(capsys, mine)
    assert (e.objective, e.spec, e.params) == ("mine", mine, {"c": 0.25})
    assert (e.levels, e.keys) == (["token", "trajectory"], [])
    assert e.formula == [
        "S    = mean(log r over trajectory)",
        "y    = rollback(S; +c, −0.125, k = 4) + clip(log r − S, −0.03125, 0.03125)",
        "term = exp(y) A",
        "J    = mean over trajectory of mean over token of term",
    ]
    regimes = {
        (r.level, r.sign, r.regime): (r.inputs, r.slope, r.restorative, r.reach) for r in e.regimes
    }
    # k = 4: zero from (1 + 1/4) C on.
    assert regimes == {
        ("trajectory", "+", "pass"): ("|x| <= 0.25", "1", False, "reachable"),
        ("trajectory", "+", "rollback"): ("0.25 < |x| <= 0.3125", "-4", True, "reachable"),
        ("trajectory", "+", "zeroed"): ("0.3125 < |x|", "0", False, "reachable"),
        ("trajectory", "-", "pass"): ("|x| <= 0.125", "1", False, "reachable"),
        ("trajectory", "-", "rollback"): ("0.125 < |x| <= 0.15625", "-4", True, "reachable"),
        ("trajectory", "-", "zeroed"): ("0.15625 < |x|", "0", False, "reachable"),
        ("token", "+", "pass"): ("|x| <= 0.03125", "1", False, "reachable"),
        ("token", "+", "clipped"): ("0.03125 < |x|", "0", False, "reachable"),
        ("token", "-", "pass"): ("|x| <= 0.03125", "1", False, "reachable"),
        ("token", "-", "clipped"): ("0.03125 < |x|", "0", False, "reachable"),
    }
    for side in e.gated_ratio:
        assert side.low == pytest.approx(math.exp(-0.125 - 0.03125), rel=1e-12)
        assert side.high == pytest.approx(math.exp(0.25 + 0.03125), rel=1e-12)
        assert side.exact
    verdicts = {p.property: (p.status, p.status_over_ranges) for p in e.properties}
    assert verdicts["odd"] == ("refuted", "refuted")
    assert verdicts["restorative at trajectory"] == ("proved", "proved")
    assert verdicts["block_diagonal over token"] == ("refuted", "refuted")
    for p in e.properties:
        assert (p.witness is not None) == (p.status == "refuted")
        assert p.reason
        assert p.witness_file is None


def test_other_values(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With c = 0.125 the budgets are the same for both signs: odd here, not over the range."""
    e = explained(capsys, mine, "--set", "c=0.125")
    assert e.params == {"c": 0.125}
    verdicts = {p.property: (p.status, p.status_over_ranges) for p in e.properties}
    assert verdicts["odd"] == ("proved", "refuted")
    for side in e.gated_ratio:
        assert side.high == pytest.approx(math.exp(0.125 + 0.03125), rel=1e-12)


def test_infinity_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    favoured, other = explained(capsys, "ppo").gated_ratio
    assert (favoured.advantage, favoured.low, favoured.exact) == (">= 0", 0.0, True)
    assert favoured.high == pytest.approx(1.2, rel=1e-12)
    assert (other.advantage, other.high, other.exact) == ("< 0", None, True)
    assert other.low == pytest.approx(0.8, rel=1e-12)


def test_the_text(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", mine]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"mine  ({mine})\n")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "params c = 0.25" in lines
    assert "levels token < trajectory" in lines
    assert "S = mean(log r over trajectory)" in lines
    assert "J = mean over trajectory of mean over token of term" in lines
    assert "trajectory x >= 0 rollback 0.25 < |x| <= 0.3125 slope -4 pulls back" in lines
    assert "token x < 0 clipped 0.03125 < |x| slope 0" in lines
    assert "where A >= 0 in [0.855345, 1.32478] exact" in lines
    assert any(line.startswith("continuous proved proved ") for line in lines)
    assert any(line.startswith("odd refuted refuted tokens ") for line in lines)


def test_unreachable_regimes_are_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    e = explained(capsys, "ppo")
    unreachable = {(r.sign, r.advantage, r.regime) for r in e.regimes if r.reach == "unreachable"}
    # A pessimistic gate never acts where it would raise the objective.
    assert unreachable == {("-", ">= 0", "clipped"), ("+", "< 0", "clipped")}


@pytest.mark.parametrize("name", shipped_specs())
def test_every_shipped_spec(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{name}  (")


def test_witnesses(mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shown"
    e = explained(capsys, mine, "--witnesses", str(folder))
    files = {p.property: p.witness_file for p in e.properties if p.witness_file}
    assert files.keys() == {p.property for p in e.properties if p.status == "refuted"}
    assert sorted(map(str, folder.iterdir())) == sorted(files.values())
    assert files["odd"] == str(folder / "mine.odd.safetensors")
    for file in files.values():
        assert main(["eval", mine, "--batch", file]) == 0
    capsys.readouterr()


def test_a_broken_promise_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.fib"
    path.write_text(SPEC.replace("over token\n}", "over token\n  require odd\n}"), encoding="utf-8")
    e = explained(capsys, str(path))
    assert {p.property: p.status for p in e.properties}["odd"] == "refuted"


def test_a_wrong_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.fib"
    path.write_text(SPEC.replace("clip", "clap"), encoding="utf-8")
    assert main(["explain", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "FIB102" in out + err


def test_a_value_out_of_range(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", mine, "--set", "c=2"]) == 1
    out, err = capsys.readouterr()
    assert "FIB403" in out + err


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(tmp_path / "none.fib")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "none.fib" in err


def test_a_folder_that_cannot_be_made(
    mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file", encoding="utf-8")
    assert main(["explain", mine, "--witnesses", str(taken)]) == 2
    assert "taken" in capsys.readouterr().err


def test_one_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.fib"
    path.write_text(SPEC + SPEC.replace("objective mine", "objective other"), encoding="utf-8")
    assert main(["explain", str(path)]) == 1
    assert "FIB004" in "".join(capsys.readouterr())
    assert explained(capsys, str(path), "--objective", "other").objective == "other"
