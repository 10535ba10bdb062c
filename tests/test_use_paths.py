"""Where the path of a `use` leads, and what is said of one that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from fibc import driver
from fibc.places import Place, Trouble, find
from fibdsl.source import Source

GATE = "edition 2026\n\ngate box(x, C) { clip(x, -C, C) }\n"
OBJECTIVE = """
objective o {
  signal log_ratio
  levels token < trajectory
  at token { base box(0.1) }
  reduce mean over token
}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a spec in one folder and gates in another."""
    root = tmp_path / "project"
    for name in ("specs/main.fib", "gates/box.fib", "gates/wide.fib"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(GATE, encoding="utf-8")
    (root / "pyproject.toml").write_text("", encoding="utf-8")
    (tmp_path / "outside.fib").write_text(GATE, encoding="utf-8")
    (root / "specs" / "link.fib").symlink_to(tmp_path / "outside.fib")
    (root / "specs" / "loop.fib").symlink_to("loop.fib")
    monkeypatch.chdir(root / "specs")
    return root


def test_a_path_is_from_the_file_it_stands_in(project: Path) -> None:
    for here, shown in [
        ("main.fib", "../gates/box.fib"),
        ("../specs/main.fib", "../gates/box.fib"),
        (str(project / "specs" / "main.fib"), str(project / "gates" / "box.fib")),
    ]:
        found = find("../gates/box.fib", Place.of(here))
        assert found == Place(project / "gates" / "box.fib", shown)


def test_a_shipped_spec_is_named_as_it_is_used(project: Path) -> None:
    found = find("fibdsl:topr.fib", Place.of("main.fib"))
    assert isinstance(found, Place)
    assert found.shown == "fibdsl:topr.fib"
    beside = find("ppo.fib", found)
    assert isinstance(beside, Place)
    assert beside.shown == "fibdsl:ppo.fib"
    assert find("fibdsl:topr.fib", Place.of("<string>")) == found  # a text can use these only


@pytest.mark.parametrize(
    ("path", "message", "help"),
    [
        ("../gates/bx.fib", "there is no file", "did you mean `../gates/box.fib`?"),
        ("../gates/box", "there is no file", "did you mean `../gates/box.fib`?"),
        ("../gates", "is a folder", 'name a file in it, as in `use "../gates/box.fib"`'),
        ("..\\gates\\box.fib", "there is no file", "write `/` between folders"),
        ("gates/box.fib", "there is no file", "there is no folder `gates` beside this file"),
        ("zzz.fib", "there is no file", "known here: `link.fib`"),
        ("ppo.fib", "there is no file", 'write `use "fibdsl:ppo.fib"` for the shipped spec'),
        ("fibdls:ppo.fib", "there is no file", "did you mean `fibdsl:ppo.fib`?"),
        ("fibdsl:pppo.fib", "no shipped spec is called", "did you mean `fibdsl:ppo.fib`?"),
        ("../../outside.fib", "lies outside the project", "copy it into the project"),
        ("link.fib", "lies outside the project", "copy it into the project"),
        ("~/box.fib", "is a path of this machine", "write a path from this file"),
        ("", "a path is missing", 'write `use "gates.fib"`'),
        ("loop.fib", "cannot be read", "mend the path"),
        ("a\0b.fib", "cannot be read", "mend the path"),
        ("x" * 300, "cannot be read", "mend the path"),
    ],
)
def test_what_leads_nowhere(project: Path, path: str, message: str, help: str) -> None:
    found = find(path, Place.of("main.fib"))
    assert isinstance(found, Trouble)
    assert message in found.message
    assert found.help.startswith(help)


def test_an_absolute_path_is_named_from_here(project: Path) -> None:
    found = find(str(project / "gates" / "box.fib"), Place.of("main.fib"))
    assert isinstance(found, Trouble)
    assert found.help == 'write `use "../gates/box.fib"`'


def test_without_a_project_nothing_above_is_used(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    found = find("../gates/box.fib", Place.of("main.fib"))
    assert isinstance(found, Trouble)
    assert "outside the project" in found.message


def test_a_text_has_nothing_beside_it() -> None:
    found = find("box.fib", Place.of("<string>"))
    assert isinstance(found, Trouble)
    assert found.message == "this text is not in a file, so nothing is beside it"


def test_a_used_gate_is_known(project: Path) -> None:
    text = f'use "../gates/box.fib"\n{OBJECTIVE}'
    assert driver.check(Source("main.fib", text)).diagnostics == ()
