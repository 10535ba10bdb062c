"""`[tool.fibdsl]`: what is found, what wins, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fibdsl.cli.main import main
from fibdsl.diagnostics.render.report import FailOn
from fibdsl.settings import Settings, lint_code, project_settings

GOOD = """\
objective small {
  param a : log = 0.1 in (0, 1)
  signal log_ratio
  levels token < trajectory
  at token { base clip(a) pessimistic }
  reduce mean over token
}
"""
UNUSED = GOOD.replace("signal", "param spare : log = 0.1 in (0, 1)\n  signal")
BAD = GOOD.replace("clip(a)", "clip(ab)")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, the current folder."""
    for variable in ("NO_COLOR", "FORCE_COLOR", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "specs/good.fib", GOOD)
    write(tmp_path, "specs/unused.fib", UNUSED)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def settle(folder: Path, *lines: str) -> None:
    write(folder, "pyproject.toml", "\n".join(("[tool.fibdsl]", *lines, "")))


# --- what they do -------------------------------------------------------------------------------


def test_fail_on(project: Path) -> None:
    assert main(["check", "specs"]) == 1
    settle(project, 'fail-on = "error"')
    assert main(["check", "specs"]) == 0
    write(project, "specs/bad.fib", BAD)
    assert main(["check", "specs"]) == 1
    settle(project, 'fail-on = "never"')
    assert main(["check", "specs"]) == 0


def test_output_format(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(project, 'output-format = "concise"')
    assert main(["check", "specs"]) == 1
    assert capsys.readouterr().out.startswith("specs/unused.fib:3:9: FIB601 ")


def test_ignore(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(project, 'ignore = ["FIB601"]')
    assert main(["check", "specs"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "2 files checked, no findings, 1 ignored\n")


def test_exclude(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(project, 'exclude = ["specs/unused.fib"]')
    assert main(["check", "specs"]) == 0
    assert capsys.readouterr().err == "1 file checked, no findings\n"
    # A file that is named is meant.
    assert main(["check", "specs/unused.fib"]) == 1
    capsys.readouterr()
    settle(project, 'exclude = ["specs"]')
    assert main(["check", "."]) == 2
    assert "every .fib file in this folder is excluded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("glob", "file", "excluded"),
    [
        ("old.fib", "a/b/old.fib", True),
        ("*_old.fib", "a/x_old.fib", True),
        ("build", "build/a/b.fib", True),
        ("build/", "build/a/b.fib", True),
        ("build", "builds/b.fib", False),
        ("drafts/**", "drafts/a/b.fib", True),
        ("drafts/**", "a/drafts/b.fib", False),
        ("**/drafts/**", "a/drafts/b.fib", True),
        ("**/drafts", "drafts/b.fib", True),
        ("a/*.fib", "a/b.fib", True),
        ("a/*.fib", "a/b/c.fib", False),
        ("a/**/c.fib", "a/c.fib", True),
        ("a/**/c.fib", "a/b/b/c.fib", True),
        ("./a", "a/c.fib", True),
        ("/a", "a/c.fib", True),
        ("/a", "b/a/c.fib", False),
        ("A/c.fib", "a/c.fib", False),
        ("a/c.fib", "../a/c.fib", False),
    ],
)
def test_globs(tmp_path: Path, glob: str, file: str, excluded: bool) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    assert Settings(folder, exclude=(glob,)).excludes(folder / file) is excluded


def test_globs_are_relative_to_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(project, 'exclude = ["specs/unused.fib"]')
    monkeypatch.chdir(project / "specs")
    assert main(["check", "."]) == 0
    assert capsys.readouterr().err == "1 file checked, no findings\n"


# --- where they are found -----------------------------------------------------------------------


def test_the_nearest_file_with_a_table(project: Path) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    assert project_settings(below) == Settings()
    settle(project, 'fail-on = "error"')
    assert project_settings(below) == Settings(project, FailOn.ERROR)
    # One without a table does not count, whatever else is in it, nor if it is no TOML.
    write(project, "a/b/pyproject.toml", '[project]\nname = "fibdsl"\n[tool.fib]\n[broken\n')
    assert project_settings(below) == Settings(project, FailOn.ERROR)
    settle(project / "a", 'output-format = "json"')
    assert project_settings(below) == Settings(project / "a", None, "json")


@pytest.mark.parametrize(
    "text",
    [
        '[tool.fibdsl]\nfail-on = "error"',
        '[ tool . "fibdsl" ]\nfail-on = "error"',
        '[tool]\nfibdsl = { fail-on = "error" }',
        '[tool]\nfibdsl.fail-on = "error"',
        'tool.fibdsl.fail-on = "error"',
        'tool = { fibdsl = { fail-on = "error" } }',
        '["tool"."fibdsl"]\n"fail-on" = "error"',
        '[other]\r\n[tool.fibdsl]\r\nfail-on = "error"\r\n',
    ],
)
def test_every_way_to_write_it(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_bytes(text.encode())
    assert project_settings(project).fail_on is FailOn.ERROR


def test_an_empty_table_ends_the_search(project: Path) -> None:
    settle(project, 'fail-on = "error"')
    settle(project / "a")
    assert project_settings(project / "a") == Settings(project / "a")


# --- the command line wins ----------------------------------------------------------------------


def test_the_command_line_wins(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(project, 'fail-on = "never"', 'output-format = "json"')
    assert main(["check", "specs"]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert main(["check", "specs", "--fail-on", "warning", "--output-format", "concise"]) == 1
    assert capsys.readouterr().out.startswith("specs/unused.fib:3:9: ")
    settle(project, 'fail-on = "warning"')
    assert main(["check", "specs", "--exit-zero"]) == 0


def test_isolated(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(project, 'ignore = ["FIB601"]', "nonsense = 1")
    assert main(["check", "specs", "--isolated"]) == 1
    assert "FIB601" in capsys.readouterr().out


def test_ignore_adds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(project, 'ignore = ["FIB698"]')
    assert main(["check", "specs", "--ignore", "FIB602,FIB601"]) == 0
    assert main(["check", "specs", "--ignore", "FIB602", "--ignore", "FIB601"]) == 0
    settle(project, 'ignore = ["FIB601"]')
    assert main(["check", "specs", "--ignore", "FIB602"]) == 0


# --- mistakes -----------------------------------------------------------------------------------


def test_codes() -> None:
    assert lint_code("FIB601") == "FIB601"
    with pytest.raises(ValueError, match=r"^unknown lint `FIB601x`; did you mean `FIB601`\?$"):
        lint_code("FIB601x")
    with pytest.raises(ValueError, match=r"^FIB101 \(unknown-name\) is an error; only lints can "):
        lint_code("FIB101")


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        (
            ['fail_on = "error"'],
            ["2: unknown setting `fail_on`; did you mean `fail-on`?"],
        ),
        (
            ["", "# fail-on = 3", 'fail-on = "eror"'],
            ["4: fail-on: unknown word `eror`; did you mean `error`?"],
        ),
        (["fail-on = 3"], ["2: fail-on: unknown word `3`; known here: `error`, "]),
        (["ignore = 601"], ["2: ignore: should be a valid list, and is 601"]),
        (
            ["ignore = [", '  "FIB601",', "  601,", "]"],
            ["4: ignore, entry 2: should be a valid string, and is 601"],
        ),
        (
            ["ignore = [", '  "FIB601",', '  "FIB101",', '  "FIB601x", # zero', "]"],
            [
                "4: ignore: FIB101 (unknown-name) is an error; only lints can be ignored",
                "5: ignore: unknown lint `FIB601x`; did you mean `FIB601`?",
            ],
        ),
        (
            ['output-format = "sarf"', "", 'exclude = ["**"]'],
            [
                "2: output-format: unknown format `sarf`; did you mean `sarif`?",
                "4: exclude: `**` would exclude everything",
            ],
        ),
    ],
)
def test_mistakes(
    project: Path, capsys: pytest.CaptureFixture[str], lines: list[str], problems: list[str]
) -> None:
    settle(project, *lines)
    assert main(["check", "specs"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    file = project / "pyproject.toml"
    said = err.removeprefix("fib check: ").splitlines()
    assert len(said) == len(problems)
    for line, problem in zip(said, problems, strict=True):
        assert line.startswith(f"{file}:{problem}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tool]\nother = 1\nfibdsl = 3\n", 3),
        ("[tool]\nfibdsl.fial-on = 1\n", 2),
        ("[tool]\n\nfibdsl = { fial-on = 1 }\n", 3),
        ("[other]\nfial-on = 1\n[tool.fibdsl]\n\nfial-on = 1\n", 5),
        ("tool.other.a = 1\ntool.fibdsl.fial-on = 1\n", 2),
    ],
)
def test_the_line_of_a_mistake(
    project: Path, capsys: pytest.CaptureFixture[str], text: str, line: int
) -> None:
    write(project, "pyproject.toml", text)
    assert main(["check", "specs"]) == 2
    assert capsys.readouterr().err.startswith(f"fib check: {project / 'pyproject.toml'}:{line}: ")


def test_no_toml(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, "pyproject.toml", "[tool.fibdsl]\nignore = [\n")
    assert main(["check", "specs"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fib check: {project / 'pyproject.toml'}: not valid TOML: ")


def test_mistakes_on_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code, said in (("FIB101", "only lints can be ignored"), ("FIB601x", "did you mean")):
        with pytest.raises(SystemExit) as stop:
            main(["check", "specs", "--ignore", code])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
