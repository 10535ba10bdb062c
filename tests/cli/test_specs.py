"""`fib specs`: the list, one spec's text, and names that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

import fibdsl
from fibdsl.cli.main import main
from fibdsl.objectives_page import page
from fibdsl.resources import folder, shipped_specs
from fibdsl.shipped import Family, shipped

EXPECTED = {"apc", "dapo", "fiberpo", "fiberpo_domain", "grpo", "gspo", "ppo"}


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["specs"]) == 0
    families = [part.splitlines() for part in capsys.readouterr().out.split("\n\n")]
    assert [heading for heading, *_ in families] == list(Family)
    lines = [line for _, *members in families for line in members]
    listed = dict(line.split(maxsplit=1) for line in lines)
    assert set(listed) == set(shipped_specs())
    assert len(lines) == len(listed)
    for _, *members in families:
        assert members == sorted(members)
    for name, doc in listed.items():
        assert doc == fibdsl.load(name).doc
        assert "arXiv" in doc
    columns = {line.index(doc) for line, doc in zip(lines, listed.values(), strict=True)}
    assert len(columns) == 1
    assert max(map(len, lines)) <= 110


def test_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["specs", "--markdown"]) == 0
    assert capsys.readouterr().out == page(shipped())
    file = tmp_path / "results.json"
    file.write_text('{"versions": {"verl": "0.9.1"}, "cases": []}', encoding="utf-8")
    assert main(["specs", "--markdown", "--parity", str(file)]) == 0
    assert "0 cases, with verl 0.9.1." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ppo", "--markdown"], "--markdown is about all of them; leave out the name"),
        (["--parity", "x.json"], "--parity goes with --markdown"),
        (["--markdown", "--parity", "none.json"], "none.json: no such file or directory"),
        (["--markdown", "--parity", "broken.json"], "broken.json: Expecting value"),
        (["--markdown", "--parity", "other.json"], "other.json: no record of parity"),
    ],
)
def test_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("nothing", encoding="utf-8")
    (tmp_path / "other.json").write_text('{"cases": []}', encoding="utf-8")
    assert main(["specs", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fib specs: {said}")


def test_list_beside_files_of_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ppo").mkdir()
    (tmp_path / "grpo").write_text("a file of the user's, not a spec")
    assert main(["specs"]) == 0
    listed = capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert main(["specs"]) == 0
    assert capsys.readouterr().out == listed


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_print(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["specs", name]) == 0
    text = capsys.readouterr().out
    assert text == shipped_specs()[name].read_text(encoding="utf-8")
    # What is printed is a spec to start from.
    mine = tmp_path / "mine.fib"
    mine.write_text(text, encoding="utf-8")
    assert main(["check", str(mine)]) == 0


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("fibrepo", "did you mean `fiberpo`?"),
        ("ggrpo", "did you mean `grpo`?"),
        ("zzzzzz", "known here: `apc`, "),
    ],
)
def test_unknown(capsys: pytest.CaptureFixture[str], name: str, help: str) -> None:
    assert main(["specs", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fib specs: no shipped spec '{name}'; ")
    assert help in err


def test_the_data_travels_with_the_package() -> None:
    assert (folder("grammar") / "fib.lark").is_file()
    with pytest.raises(FileNotFoundError, match="'no_such' folder is missing"):
        folder("no_such")
