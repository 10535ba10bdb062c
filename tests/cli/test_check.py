"""`fib check`: findings and exit codes, through the command's own entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from fibdsl.cli.main import main

GOOD = """\
objective small {
  param a : log = 0.1 in (0, 1)
  signal log_ratio
  levels token < trajectory
  at token { base clip(a) pessimistic }
  reduce mean over token
}
"""
# An unknown name, an unknown level: two mistakes in one file.
BAD = GOOD.replace("clip(a)", "clip(ab)").replace("over token", "over tokn")
UNUSED = GOOD.replace("signal", "param spare : log = 0.1 in (0, 1)\n  signal")


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(tmp_path, "good.fib", GOOD)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "1 file checked, no findings\n"


def test_every_finding_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "bad.fib", BAD)
    assert main(["check", path]) == 1
    out, err = capsys.readouterr()
    assert "error[FIB101]: unknown name `ab`" in out
    assert "error[FIB201]: unknown level `tokn`" in out
    assert f"--> {path}:5:24" in out
    assert f"--> {path}:6:20" in out
    assert "^^ unknown-name" in out
    assert "did you mean `token`?" in out
    assert err == "1 file checked, 2 findings\n"


def test_concise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "bad.fib", BAD)
    assert main(["check", path, "--output-format", "concise"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}:5:24: FIB101 ")
    assert second.startswith(f"{path}:6:20: FIB201 ")


def test_a_warning_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(tmp_path, "unused.fib", UNUSED)]) == 1
    out, err = capsys.readouterr()
    assert "warning[FIB601]" in out
    assert "`spare`" in out
    assert err == "1 file checked, 1 finding\n"


def test_folder_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "specs/b/good.fib", GOOD)
    bad = write(tmp_path, "specs/a/bad.fib", BAD)
    write(tmp_path, "specs/notes.txt", "not a spec")
    (tmp_path / "specs" / "folder.fib").mkdir()
    other = write(tmp_path, "other.fib", UNUSED)
    assert main(["check", str(tmp_path / "specs"), other, "--output-format=concise"]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == [bad, bad, other]
    assert err == "3 files checked, 3 findings\n"


def test_shipped_specs(capsys: pytest.CaptureFixture[str]) -> None:
    from fibdsl.resources import shipped_specs

    assert "fiberpo" in shipped_specs()
    assert main(["check", *shipped_specs()]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{len(shipped_specs())} files checked, no findings\n"


def test_a_file_goes_before_a_shipped_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "fiberpo", BAD)
    assert main(["check", "fiberpo"]) == 1
    assert "--> fiberpo:5:24" in capsys.readouterr().out


def test_unreadable_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(path: Path) -> str:
        assert main(["check", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert err.startswith(f"fib check: {path}")
        return err

    assert "no such file" in refused(tmp_path / "missing.fib")
    assert "no .fib file in this folder" in refused(tmp_path)
    latin = tmp_path / "latin.fib"
    latin.write_bytes(GOOD.encode() + b'# caf\xe9\n"')
    assert f"is not UTF-8 text (byte {len(GOOD) + 5})" in refused(latin)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "edition 2026\n"])
def test_no_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["check", write(tmp_path, "empty.fib", text)]) == 1
    assert "error[FIB004]: no objective in this file" in capsys.readouterr().out


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check"], ["check", "fiberpo", "--output-format", "xml"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "usage: fib check" in capsys.readouterr().err
