"""`--set`, `--params` and `--step`, on every command that has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fibdsl
from fibdsl.cli.main import main
from fibdsl.schedules import linear

BATCH = str(Path(__file__).resolve().parents[2] / "examples" / "data" / "rollouts_far.safetensors")
ONE = """\
objective %s {
  param  epsilon : deviation = %s in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(epsilon) }
  reduce mean over token
  require gated_ratio in [0.5, 1.5]
}
"""
VALUES = """\
# of a run
epsilon: 3e-1
"""
SCHEDULE = "epsilon: { linear: { from: 0.5, to: 0.1, over: 100 }, space: deviation }\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "mine.fib": ONE % ("mine", "0.2"),
        "other.fib": ONE % ("other", "0.4"),
        "wrong.fib": ONE % ("wrong", "0.6"),
        "two.fib": ONE % ("first", "0.2") + ONE % ("second", "0.2"),
        "values.yaml": VALUES,
        "schedule.yaml": SCHEDULE,
        "both.yaml": "mine: { epsilon: 0.3 }\nother: { epsilon: 0.7 }\n",
    }.items():
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = ran(capsys, "eval", "mine.fib", "--batch", BATCH, "--json", *arguments)
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


# --- eval ---------------------------------------------------------------------------------------


def test_values_of_a_file_and_those_that_win(capsys: pytest.CaptureFixture[str]) -> None:
    plain = evaluated(capsys)
    from_file = evaluated(capsys, "--params", "values.yaml")
    one_by_one = evaluated(capsys, "--set", "epsilon=0.3")
    assert (plain["params"], plain["step"]) == ({"epsilon": 0.2}, None)
    assert from_file == one_by_one != plain
    both = evaluated(capsys, "--params", "values.yaml", "--set", "epsilon=0.2")
    assert both == plain


def test_two_values_of_one_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        ran(capsys, "check", "mine.fib", "--set", "epsilon=0.3", "--set", "epsilon=0.4")
    assert stopped.value.code == 2
    assert "--set gives epsilon twice: 0.3 and 0.4" in capsys.readouterr().err


def test_a_step_of_a_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    for given, step, epsilon in (
        ([], 0, 0.5),
        (["--step", "50"], 50, 0.3),
        (["--step", "200"], 200, 0.1),
    ):
        found = evaluated(capsys, "--params", "schedule.yaml", *given)
        assert (found["params"], found["step"]) == (pytest.approx({"epsilon": epsilon}), step)
        there = evaluated(capsys, "--set", f"epsilon={found['params']['epsilon']!r}")
        assert found["loss"] == there["loss"]
    _, out, _ = ran(capsys, "eval", "mine.fib", "--batch", BATCH, "--params", "schedule.yaml")
    assert "  params         epsilon = 0.5, at step 0\n" in out


@pytest.mark.parametrize(
    "given",
    [[], ["--params", "values.yaml"], ["--params", "schedule.yaml", "--set", "epsilon=0.3"]],
)
@pytest.mark.parametrize(
    "command", [["eval", "--batch", BATCH], ["explain"], ["diff", "other.fib"]]
)
def test_a_step_without_schedules(
    command: list[str], given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ran(capsys, *command, "mine.fib", *given, "--step", "3")
    assert (code, out) == (2, "")
    assert "no effect" in err


@pytest.mark.parametrize("step", ["-1", "1.5", "x", "", "²"])
def test_what_is_no_step(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "mine.fib", "--batch", BATCH, "--params", "schedule.yaml", f"--step={step}"])
    assert stop.value.code == 2
    assert "is not a whole number, 0 or more" in capsys.readouterr().err


def test_a_broken_promise_of_another_step_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    Path("late.yaml").write_text("epsilon: { piecewise: { 0: 0.1, 9: 0.6 } }\n", encoding="utf-8")
    for given, status in (([], 1), (["--step", "8"], 0), (["--step", "9"], 1)):
        code, out, err = ran(
            capsys, "eval", "mine.fib", "--batch", BATCH, "--params", "late.yaml", *given
        )
        assert code == status
        assert out
        assert ("FIB501" in err) == (status == 1)


# --- explain ------------------------------------------------------------------------------------


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    for given, step, high in (
        (["--params", "values.yaml"], None, 1.3),
        (["--params", "schedule.yaml", "--step", "75"], 75, 1.2),
        (["--params", "schedule.yaml"], 0, 1.5),
    ):
        code, out, _ = ran(capsys, "explain", "mine.fib", "--json", *given)
        found = json.loads(out)
        assert (code, found["step"]) == (0, step)
        assert found["gated_ratio"][0]["high"] == pytest.approx(high)
    _, out, _ = ran(capsys, "explain", "mine.fib", "--params", "schedule.yaml", "--step", "75")
    assert "  params    epsilon = 0.2, at step 75\n" in out


# --- check --------------------------------------------------------------------------------------


def test_promises_are_decided_at_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "check", "mine.fib")[0] == 0
    code, out, err = ran(capsys, "check", "mine.fib", "--set", "epsilon=0.6")
    assert code == 1
    assert "error[FIB501]: `gated_ratio` does not hold" in out
    assert "note: with epsilon = 0.6\n" in out
    assert err == "1 file checked, 1 finding\n"
    # And not at the defaults, which are wrong here.
    assert ran(capsys, "check", "wrong.fib")[0] == 1
    assert ran(capsys, "check", "wrong.fib", "--set", "epsilon=0.3") == (
        0,
        "",
        "1 file checked, no findings\n",
    )
    code, out, err = ran(capsys, "check", "wrong.fib", "--params", "schedule.yaml")
    assert (code, out, err) == (0, "", "2 files checked, no findings\n")


def test_several_files(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(
        capsys, "check", "mine.fib", "other.fib", "--params", "both.yaml", "--output-format", "json"
    )
    found = json.loads(out)["findings"]
    assert (code, [(f["code"], Path(f["file"]).name) for f in found]) == (
        1,
        [("FIB501", "other.fib")],
    )
    code, out, _ = ran(capsys, "check", "mine.fib", "two.fib", "--set", "epsilon=0.7")
    assert (code, out.count("error[FIB501]")) == (1, 3)
    code, out, _ = ran(capsys, "check", "mine.fib", "two.fib", "--set", "epsilom=0.7")
    assert (code, out.count("error[")) == (1, 1)
    assert "error[FIB107]: no objective here has a parameter `epsilom`" in out
    assert "did you mean `epsilon`?" in out


@pytest.mark.parametrize("form", ["full", "concise", "json", "sarif", "github", "junit"])
def test_every_format_has_findings_about_values(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("typo.yaml").write_text("\nepsilom: 0.1\n", encoding="utf-8")
    code, out, err = ran(
        capsys, "check", "mine.fib", "--params", "typo.yaml", "--output-format", form
    )
    assert code == 1
    assert "typo.yaml" in out
    assert "FIB107" in out
    assert err.endswith("2 files checked, 1 finding\n")


def test_errors_of_a_spec_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("mine.fib").read_text(encoding="utf-8")
    Path("mine.fib").write_text(text.replace("clip(epsilon)", "clip(epsilom)"), encoding="utf-8")
    code, out, _ = ran(capsys, "check", "mine.fib", "wrong.fib", "--set", "epsilon=5")
    assert (code, out.count("error[")) == (1, 1)
    assert "error[FIB101]" in out


def test_lints_stay_at_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("mine.fib").read_text(encoding="utf-8")
    Path("mine.fib").write_text(
        text.replace("signal", "param spare : deviation = 0.1 in (0, 1)\n  signal"),
        encoding="utf-8",
    )
    code, out, _ = ran(capsys, "check", "mine.fib", "--set", "epsilon=0.6", "--ignore", "FIB601")
    assert (code, out.count("[FIB501]")) == (1, 1)
    _, out, _ = ran(capsys, "check", "mine.fib", "--set", "epsilon=0.6")
    assert out.index("[FIB601]") < out.index("[FIB501]")


# --- diff ---------------------------------------------------------------------------------------


def test_both_specs_have_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "diff", "mine.fib", "other.fib")[1].startswith("VALUE")
    code, out, err = ran(capsys, "diff", "mine.fib", "other.fib", "--set", "epsilon=0.3")
    assert (code, err) == (1, "")
    assert out.startswith("INTERFACE  mine -> other: the loss is the same at the given values\n")
    assert "  with     epsilon = 0.3\n" in out
    given = ["--params", "schedule.yaml", "--step", "25", "--json"]
    _, out, _ = ran(capsys, "diff", "mine.fib", "other.fib", *given)
    [found] = json.loads(out)
    assert (found["change"], found["values"]) == ("INTERFACE", pytest.approx({"epsilon": 0.4}))
    _, out, _ = ran(capsys, "diff", "mine.fib", "other.fib", "--params", "both.yaml")
    assert out.startswith("VALUE")
    code, out, err = ran(capsys, "diff", "mine.fib", "other.fib", "--set", "epsilom=0.3")
    assert (code, out) == (1, "")
    assert "no objective here has a parameter `epsilom`" in err


# --- compile ------------------------------------------------------------------------------------


def test_compile(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, "compile", "mine.fib", "--params", "values.yaml")
    assert (code, err) == (0, "")
    assert out == fibdsl.load("mine.fib", epsilon=0.3).source()
    code, out, err = ran(capsys, "compile", "mine.fib", "--params", "schedule.yaml")
    assert (code, err) == (0, "")
    assert out == fibdsl.load("mine.fib", epsilon=linear(0.5, 0.1, 100)).source()
    assert out.endswith(
        "\n\nLoss.starting = {'epsilon': Schedule((0, 100), (0.5, 0.1), 'linear')}\n"
    )
    Path("loss.py").write_text("kept", encoding="utf-8")
    Path("late.yaml").write_text("epsilon: { piecewise: { 0: 0.1, 9: 0.6 } }\n", encoding="utf-8")
    code, out, err = ran(capsys, "compile", "mine.fib", "--params", "late.yaml", "-o", "loss.py")
    assert (code, out) == (1, "")
    assert "error[FIB501]" in err
    assert Path("loss.py").read_text(encoding="utf-8") == "kept"


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["check"], ["eval", "--batch", BATCH], ["explain"], ["compile"]]
)
def test_a_file_that_cannot_be_read(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, *command, "mine.fib", "--params", "none.yaml")
    assert (code, out) == (2, "")
    assert err == f"fib {command[0]}: none.yaml: no such file or directory\n"
    Path("latin.yaml").write_bytes(b"# \xe9")
    code, out, err = ran(capsys, *command, "mine.fib", "--params", "latin.yaml")
    assert (code, out) == (2, "")
    assert err == f"fib {command[0]}: latin.yaml is not UTF-8 text (byte 2)\n"


@pytest.mark.parametrize("command", [["eval", "--batch", BATCH], ["explain"], ["compile"]])
def test_a_wrong_value_has_its_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("high.yaml").write_text("# high\n\nepsilon: 1.5\n", encoding="utf-8")
    code, out, err = ran(capsys, *command, "mine.fib", "--params", "high.yaml")
    assert (code, out) == (1, "")
    assert "error[FIB403]: epsilon = 1.5 is not in (0, 1)\n  --> high.yaml:3:10\n" in err
    assert "note: declared in mine.fib:2\n" in err
