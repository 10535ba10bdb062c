"""`fib compile`: the text of a module, written whole or not at all."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path

import pytest

import fibdsl
from fibdsl.cli.main import main

ONE = """\
objective %s {
  param a : log = %s in (0, 1)
  signal log_ratio
  levels token < trajectory
  at token { base clip(a) pessimistic }
  reduce mean over token
}
"""
GOOD = ONE % ("small", "0.1")
BAD = GOOD.replace("clip(a)", "clip(b)")
TWO = ONE % ("first", "0.1") + ONE % ("second", "0.2")


def spec(folder: Path, text: str) -> str:
    path = folder / "spec.fib"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "fiberpo"]) == 0
    out, err = capsys.readouterr()
    assert out == fibdsl.load("fiberpo").source()
    assert err == ""
    classes = {s.name for s in ast.parse(out).body if isinstance(s, ast.ClassDef)}
    assert "Loss" in classes


def test_findings_are_those_of_the_objective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unused = TWO.replace("  signal", "  param unused : pure = 1 in (0, 2)\n  signal", 1)
    path = spec(tmp_path, unused)
    assert main(["compile", path, "--objective", "first"]) == 0
    assert "`unused`" in capsys.readouterr().err
    assert main(["compile", path, "--objective", "second"]) == 0
    assert capsys.readouterr().err == ""


def test_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "loss.py"
    assert main(["compile", "fiberpo", "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{target}: class Loss of objective fiberpo\n"
    assert target.read_text(encoding="utf-8") == fibdsl.load("fiberpo").source()
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert os.listdir(tmp_path) == ["loss.py"]


def test_replaces_a_file_and_keeps_its_mode_and_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.py", tmp_path / "link.py"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    assert main(["compile", "ppo", "-o", str(link)]) == 0
    assert link.is_symlink()
    assert real.read_text().startswith('"""ppo: ')
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.py", "real.py"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert main(["compile", "ppo", "-o", str(pipe)]) == 0
    reader.join(timeout=10)
    assert read == [fibdsl.load("ppo").source()]
    assert pipe.is_fifo()


def test_a_target_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    file = tmp_path / "file"
    file.write_text("kept")
    before = sorted(os.listdir(tmp_path))
    for target in (tmp_path / "missing" / "loss.py", inside, file / "loss.py"):
        assert main(["compile", "ppo", "-o", str(target)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"fib compile: {target}: ")
        assert len(err.splitlines()) == 1
        assert sorted(os.listdir(tmp_path)) == before
        assert os.listdir(inside) == []
    assert file.read_text() == "kept"


def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write anywhere")
    try:
        assert main(["compile", "ppo", "-o", str(folder / "loss.py")]) == 2
        assert os.listdir(folder) == []
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("broken", ["fdopen", "chmod", "replace"])
def test_a_failure_half_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    target = tmp_path / "loss.py"
    target.write_text("old")

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        assert main(["compile", "ppo", "-o", str(target)]) == 2
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["loss.py"]


def test_an_error_in_the_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "loss.py"
    assert main(["compile", spec(tmp_path, BAD), "-o", str(target)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[FIB101]: unknown name `b`" in err
    assert not target.exists()


def test_a_warning_is_told_and_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("signal", "param spare : log = 0.1 in (0, 1)\n  signal")
    assert main(["compile", spec(tmp_path, text)]) == 0
    out, err = capsys.readouterr()
    assert "class Loss" in out
    assert "warning[FIB601]" in err


def test_set_outside_the_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "loss.py"
    for value in ("1", "-0.5", "nan", "inf", "1e400"):
        assert main(["compile", "fiberpo", f"--set=epsilon={value}", "-o", str(target)]) == 1
        err = capsys.readouterr().err
        assert f"error[FIB403]: epsilon = {float(value):g} is not in (0, 1)" in err
        assert not target.exists()


def test_set_of_an_unknown_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "fiberpo", "--set", "epsilom=0.1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[FIB107]: objective `fiberpo` has no parameter `epsilom`" in err
    assert "did you mean `epsilon`?" in err


def test_set_that_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "fiberpo", "--set", "c_plus=0.9"]) == 1
    err = capsys.readouterr().err
    assert "error[FIB501]: `gated_ratio` does not hold" in err
    assert "require gated_ratio in [0.70, 1.40]" in err


@pytest.mark.parametrize(
    "text", ["epsilon", "epsilon=", "=0.1", "epsilon=small", "epsilon:0.1", ""]
)
def test_set_that_is_no_assignment(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compile", "fiberpo", "--set", text])
    assert stop.value.code == 2
    assert "PARAM=NUMBER, as in --set epsilon=0.03" in capsys.readouterr().err


def test_set_is_in_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "fiberpo", "--set", "epsilon=0.03125", "--set", "c_plus = 0.25"]) == 0
    out = capsys.readouterr().out
    assert "'epsilon': Parameter(0.03125, 'log'" in out
    assert "'c_plus': Parameter(0.25, 'log'" in out
    assert "'c_minus': Parameter(0.1, 'log'" in out


def test_one_of_several_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec(tmp_path, TWO)
    assert main(["compile", path, "--objective", "second"]) == 0
    assert capsys.readouterr().out == fibdsl.load(path, objective="second").source()
    assert main(["compile", path]) == 1
    err = capsys.readouterr().err
    assert "error[FIB004]" in err
    assert "several objectives" in err
    assert "`first`, `second`" in err
    assert main(["compile", path, "--objective", "secnd"]) == 1
    assert "did you mean `second`?" in capsys.readouterr().err


def test_a_missing_spec(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "no_such_spec"]) == 2
    assert "fib compile: no_such_spec: no such file" in capsys.readouterr().err
