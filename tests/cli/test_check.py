"""`fib check`: findings and exit codes, through the command's own entry."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import fibc
import fibdsl
from fibc import driver
from fibc.analysis.witnesses.witness import Witness
from fibdsl.cli.main import main
from fibdsl.cli.output import with_progress
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.formats import FORMATS
from fibdsl.diagnostics.rules import RULES
from fibdsl.files import read_tensors
from fibdsl.source import Source, Span

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


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may themselves run in a workflow, or where colours are forced."""
    for variable in ("NO_COLOR", "FORCE_COLOR", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(variable, raising=False)


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


# --- output formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_standard_output_is_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Two mistakes in one file, a clean one beside it; all formats find the same."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bad.fib", BAD)
    write(tmp_path, "good.fib", GOOD)
    assert main(["check", "bad.fib", "good.fib", "--output-format", name]) == 1
    out, err = capsys.readouterr()
    assert err == "2 files checked, 2 findings\n"
    codes: list[str | None] = ["FIB101", "FIB201"]
    if name == "json":
        assert [finding["code"] for finding in json.loads(out)["findings"]] == codes
    elif name == "sarif":
        results = json.loads(out)["runs"][0]["results"]
        assert [result["ruleId"] for result in results] == codes
    elif name == "junit":
        failures = ElementTree.fromstring(out).iter("failure")
        assert [failure.get("type") for failure in failures] == ["FIB101 FIB201"]
    else:
        assert re.findall(r"FIB\d\d\d", out) == codes
    assert main(["check", "good.fib", "--output-format", name]) == 0
    out, err = capsys.readouterr()
    assert err == "1 file checked, no findings\n"
    assert bool(out) is (name in ("json", "sarif", "junit"))


def test_github_summary_is_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    good = write(tmp_path, "good.fib", GOOD)
    assert main(["check", good]) == 0  # not in this format
    assert page.read_text(encoding="utf-8") == "before\n"
    for _ in range(2):
        assert main(["check", good, "--output-format", "github"]) == 0
    said = "### fib check: 1 file, no findings\n"
    assert page.read_text(encoding="utf-8") == f"before\n{said}{said}"


def test_github_paths_are_from_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "part/bad.fib", BAD)
    monkeypatch.chdir(tmp_path / "part")
    arguments = ["check", "bad.fib", "--output-format", "github"]
    assert main(arguments) == 1
    assert capsys.readouterr().out.startswith("::error file=bad.fib,line=5,col=24,endLine=5,")
    (tmp_path / ".git").mkdir()
    assert main(arguments) == 1
    assert capsys.readouterr().out.startswith("::error file=part/bad.fib,")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path.parent))
    assert main(arguments) == 1
    assert capsys.readouterr().out.startswith(f"::error file={tmp_path.name}/part/bad.fib,")


def test_output_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = write(tmp_path, "bad.fib", BAD), write(tmp_path, "good.fib", GOOD)
    report = tmp_path / "report"
    assert main(["check", bad, "--output-file", str(report)]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "1 file checked, 2 findings\n")
    text = report.read_text(encoding="utf-8")
    assert text.startswith("error[FIB101]: unknown name `ab`\n")
    assert text.endswith("\n")
    # Nothing of the run before stays.
    assert main(["check", good, "--output-file", str(report)]) == 0
    assert report.read_text(encoding="utf-8") == ""
    assert main(["check", good, "--output-file", str(report), "--output-format", "json"]) == 0
    assert json.loads(report.read_text(encoding="utf-8"))["findings"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.fib", "good.fib", "report"]


@pytest.mark.parametrize("name", ["grpoo", "grpo.fib"])
def test_a_misspelt_shipped_spec(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = f"{name}: no such file or directory"
    assert main(["check", name]) == 2
    assert capsys.readouterr().err == (
        f"fib check: {missing}; the nearest shipped spec is `grpo`\n"
    )
    # A path is meant for a file.
    assert main(["check", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err == f"fib check: {tmp_path / missing}\n"


def test_output_file_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write(tmp_path, "bad.fib", BAD)
    missing = str(tmp_path / "missing" / "report")
    assert main(["check", bad, "--output-file", missing]) == 2
    assert capsys.readouterr() == ("", f"fib check: {missing}: no such file or directory\n")
    assert main(["check", str(tmp_path), "--output-file", bad]) == 2
    assert "would overwrite a spec" in capsys.readouterr().err
    assert Path(bad).read_text(encoding="utf-8") == BAD


def test_each_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path, "good.fib", GOOD)
    assert main(["check", good, str(tmp_path), good]) == 0
    assert capsys.readouterr().err == "1 file checked, no findings\n"


# --- which findings count -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "of_warning", "of_error"),
    [
        ([], 1, 1),
        (["--fail-on", "warning"], 1, 1),
        (["--fail-on", "error"], 0, 1),
        (["--fail-on", "never"], 0, 0),
        (["--exit-zero"], 0, 0),
    ],
)
def test_fail_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    of_warning: int,
    of_error: int,
) -> None:
    unused = write(tmp_path, "unused.fib", UNUSED)
    assert main(["check", unused, *options]) == of_warning
    assert "warning[FIB601]" in capsys.readouterr().out  # said in any case
    assert main(["check", write(tmp_path, "bad.fib", BAD), *options]) == of_error
    assert main(["check", write(tmp_path, "good.fib", GOOD), *options]) == 0
    assert main(["check", str(tmp_path / "missing.fib"), *options]) == 2


def test_ignore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unused = write(tmp_path, "unused.fib", UNUSED)
    assert main(["check", unused, "--ignore", "FIB601"]) == 0
    assert capsys.readouterr() == ("", "1 file checked, no findings, 1 ignored\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--exit-zero", "--fail-on", "error"], "not allowed with argument"),
        (["--fail-on", "eror"], "invalid"),
        (["--ignore", "FIB101"], "FIB101 (unknown-name) is an error; only lints can be ignored"),
        (["--color", "perhaps"], "invalid choice"),
    ],
)
def test_usage_of_options(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", "fiberpo", *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stdin-filename", "a.fib"], "--stdin-filename names standard input, which `-` asks"),
        (["-", "-"], "standard input can be read only once"),
        (["--color", "always", "--output-format", "json"], "only `full` on standard output has"),
        (["--color", "always", "--output-file", "x"], "only `full` on standard output has"),
    ],
)
def test_options_without_effect(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "fiberpo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fib check: {said}" if said.startswith("-") else "fib check: ")
    assert said in err
    assert list(tmp_path.iterdir()) == []


# --- standard input -----------------------------------------------------------------------------


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def test_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stdin(monkeypatch, GOOD.encode())
    assert main(["check", "-"]) == 0
    assert capsys.readouterr() == ("", "1 file checked, no findings\n")
    stdin(monkeypatch, BAD.replace("\n", "\r\n").encode())
    assert main(["check", "-", "--output-format", "concise"]) == 1
    assert capsys.readouterr().out.startswith("<stdin>:5:24: FIB101 ")
    stdin(monkeypatch, f"# é\n{BAD}".encode())
    good = write(tmp_path, "good.fib", GOOD)
    named = ["--stdin-filename", "specs/mine.fib", "--output-format", "json"]
    assert main(["check", good, "-", *named]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["files"] == [good, "specs/mine.fib"]
    found = content["findings"][0]
    assert (found["file"], found["start"]["line"]) == ("specs/mine.fib", 6)


def test_standard_input_that_is_no_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(monkeypatch, b"# caf\xe9")
    assert main(["check", "-"]) == 2
    assert capsys.readouterr() == ("", "fib check: <stdin> is not UTF-8 text (byte 5)\n")


# --- the terminal -------------------------------------------------------------------------------


def process(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> str | int:
    """`fib check` as a process: what it prints, or its exit code if that goes elsewhere."""
    roots = [str(Path(package.__path__[0]).parent) for package in (fibdsl, fibc)]
    done = subprocess.run(
        [sys.executable, "-m", "fibdsl", "check", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(roots),
            "PYTHONSAFEPATH": "1",
            "PYTHONIOENCODING": "utf-8",
            **environment,
        },
        timeout=60,
    )
    return done.stdout if stdout == subprocess.PIPE else done.returncode


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX terminal")
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_on_a_terminal(tmp_path: Path, environment: dict[str, str], coloured: bool) -> None:
    bad = write(tmp_path, "bad.fib", BAD)
    ours, theirs = os.openpty()
    assert process(bad, stdout=theirs, **environment) == 1
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert ("\x1b[1;31merror[FIB101]\x1b[0m" in text) is coloured
    assert "FIB101" in text


def test_colours_in_a_pipe(tmp_path: Path) -> None:
    bad = write(tmp_path, "bad.fib", BAD)
    assert "\x1b" not in str(process(bad))
    assert "\x1b" in str(process(bad, FORCE_COLOR="1"))
    assert "\x1b" in str(process(bad, "--color", "always", NO_COLOR="1"))
    assert "\x1b" not in str(process(bad, "--color", "never", FORCE_COLOR="1"))
    assert "\x1b" not in str(process(bad, "--output-format", "junit", FORCE_COLOR="1"))
    report = tmp_path / "report"
    process(bad, "--output-file", str(report), FORCE_COLOR="1")
    assert "\x1b" not in report.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently")
def test_a_reader_that_stops_early_does_not_hide_findings(tmp_path: Path) -> None:
    for name, text, code in (("bad.fib", BAD * 500, 1), ("good.fib", GOOD, 0)):
        reading, writing = os.pipe()
        os.close(reading)
        path = write(tmp_path, name, text)
        assert process(path, "--output-format", "json", stdout=writing) == code
        os.close(writing)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress() -> None:
    terminal, file = Terminal(), io.StringIO()
    assert list(with_progress(range(201), "checking", terminal)) == list(range(201))
    assert terminal.getvalue().startswith("\rchecking 1/201")
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert list(with_progress(range(201), "checking", file)) == list(range(201))
    assert file.getvalue() == ""
    few = Terminal()
    assert list(with_progress(range(200), "checking", few)) == list(range(200))
    assert few.getvalue() == ""
    assert list(with_progress(range(201), "checking", None)) == list(range(201))


def test_what_is_imported(tmp_path: Path) -> None:
    """Formats and settings that are not asked for cost no time."""
    good = write(tmp_path, "good.fib", GOOD)
    code = (
        f"from fibdsl.cli.main import main; assert main(['check', {good!r}]) == 0; "
        "import sys; print(*sys.modules)"
    )
    roots = [str(Path(package.__path__[0]).parent) for package in (fibdsl, fibc)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert "fibdsl.cli.check" in modules
    assert not modules & {"pydantic", "tomllib", "xml.etree.ElementTree", "torch"}


# --- witnesses ----------------------------------------------------------------------------------


def refute(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes the checker refute a promise of each of these names, in every file."""

    def check(source: Source) -> driver.Checked:
        found = tuple(
            Diagnostic(
                RULES["FIB501"],
                "it does not hold",
                source,
                Span(0, 1),
                witness=Witness(name, {"logp": np.full((1, 2), 0.5)}, "G is 2"),
            )
            for name in names
        )
        return driver.Checked(source, 2026, (), found)

    monkeypatch.setattr(driver, "check", check)


def test_witnesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine.fib", GOOD)
    write(tmp_path, "other/mine.fib", GOOD)
    refute(monkeypatch, "small.gated_ratio", "small.block_diagonal", "small.gated_ratio")
    assert main(["check", "mine.fib", "other", "--witnesses", "shown/here"]) == 1
    out, err = capsys.readouterr()
    names = [
        "mine.small.gated_ratio.safetensors",
        "mine.small.block_diagonal.safetensors",
        "mine.small.gated_ratio-2.safetensors",
        "mine.small.gated_ratio-3.safetensors",
        "mine.small.block_diagonal-2.safetensors",
        "mine.small.gated_ratio-4.safetensors",
    ]
    paths = [str(Path("shown/here", name)) for name in names]
    assert re.findall(r"  note: a batch that shows it: (.*)", out) == paths
    assert err == "2 files checked, 6 findings, 6 witness files written\n"
    assert sorted(path.name for path in Path("shown/here").iterdir()) == sorted(names)
    np.testing.assert_array_equal(read_tensors(paths[0])["logp"], [[0.5, 0.5]])


def test_witnesses_of_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refute(monkeypatch, "small.gated_ratio")
    stdin(monkeypatch, GOOD.encode())
    assert main(["check", "-", "--witnesses", ".", "--output-format", "json"]) == 1
    [found] = json.loads(capsys.readouterr().out)["findings"]
    assert found["witness"] == {
        "name": "small.gated_ratio",
        "shows": "G is 2",
        "file": "stdin.small.gated_ratio.safetensors",
    }
    assert Path(found["witness"]["file"]).exists()


def test_no_witness_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path, "good.fib", GOOD)
    folder = tmp_path / "shown"
    assert main(["check", good, "--witnesses", str(folder)]) == 0
    assert not folder.exists()
    refute(monkeypatch, "small.gated_ratio")
    assert main(["check", good]) == 1  # nothing is written unasked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.fib"]
    capsys.readouterr()
    folder.write_text("a file")
    assert main(["check", good, "--witnesses", str(folder)]) == 2
    assert capsys.readouterr().err.startswith(f"fib check: {folder}: ")
