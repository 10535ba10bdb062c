"""The format for people: where the marks stand, counted by hand; colours."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fibdsl.diagnostics.diagnostic import Diagnostic, Label
from fibdsl.diagnostics.errors import FibError
from fibdsl.diagnostics.render.colour import wanted
from fibdsl.diagnostics.render.full import document, render, render_one
from fibdsl.diagnostics.render.text import safe, shown
from fibdsl.source import Source, Span
from tests.render.cases import FINDINGS, NAME, report, span

LINE = "at token { fiber clip(+c_plus, -c_minus) }"


def excerpt(source: Source, place: str, *labels: tuple[str, str]) -> list[str]:
    """What stands right of the gutter, without the head."""
    found = Diagnostic(
        NAME,
        "wrong",
        source,
        span(source, place),
        labels=tuple(Label(span(source, at), text) for at, text in labels),
    )
    _, _, first, *lines = render_one(found).split("\n")
    assert first.strip() == "|"
    return [re.sub(r"^[ \d]+[|:] ?", "", line) for line in lines]


def test_two_labels_and_the_place_on_one_line() -> None:
    assert excerpt(Source("a", LINE), "-c_minus", ("clip", "a clip"), ("+c_plus", "up")) == [
        "at token { fiber clip(+c_plus, -c_minus) }",
        "                 ---- -------  ^^^^^^^^ unknown-name",
        "                 |    up",
        "                 a clip",
    ]


def test_labels_on_both_sides_of_the_place() -> None:
    assert excerpt(Source("a", LINE), "+c_plus", ("clip", "a clip"), ("-c_minus", "down")) == [
        "at token { fiber clip(+c_plus, -c_minus) }",
        "                 ---- ^^^^^^^  -------- down",
        "                 |    unknown-name",
        "                 a clip",
    ]


def test_a_label_around_the_place() -> None:
    assert excerpt(Source("a", LINE), "+c_plus", ("clip(+c_plus, -c_minus)", "this gate")) == [
        "at token { fiber clip(+c_plus, -c_minus) }",
        "                 -----^^^^^^^----------- this gate",
        "                      unknown-name",
    ]


def test_a_place_of_three_lines() -> None:
    source = Source("a", "objective o {\n  require a\n    over b\n    in [0, 1]   \n}\n")
    assert excerpt(source, "require a\n    over b\n    in [0, 1]   \n") == [
        "  require a",
        "  ^^^^^^^^^",
        "",
        "    in [0, 1]   ",
        "    ^^^^^^^^^ unknown-name",
    ]


def test_gaps_and_line_numbers_of_two_digits() -> None:
    text = "".join(f"line{number}\n" for number in range(1, 13))
    source = Source("a", text)
    found = Diagnostic(
        NAME,
        "wrong",
        source,
        span(source, "line11"),
        labels=(Label(span(source, "line9"), "before"), Label(span(source, "line12"), "behind")),
    )
    assert render_one(found) == (
        "error[FIB101]: wrong\n"
        "  --> a:11:1\n"
        "    |\n"
        "  9 | line9\n"
        "    | ----- before\n"
        "    :\n"
        " 11 | line11\n"
        "    | ^^^^^^ unknown-name\n"
        " 12 | line12\n"
        "    | ------ behind"
    )


@pytest.mark.parametrize(
    ("line", "place", "before"),
    [
        ("\tx", "x", 4),
        ("a\tb\tx", "x", 1 + 4 + 1 + 4),
        ("漢字 x", "x", 2 + 2 + 1),  # each two columns wide
        ("e\u0301 x", "x", 1 + 1),  # an accent of its own has none
        ("\x1b[31mx", "x", 1 + 4),  # its picture has one
        ("εx", "x", 1),
        ("\ufeffx", "x", 1),  # shown, though it takes no room
    ],
)
def test_the_mark_stands_below_its_place(line: str, place: str, before: int) -> None:
    _, marks = excerpt(Source("a", line), place)
    assert marks == " " * before + "^ unknown-name"


def test_the_mark_is_as_wide_as_its_place() -> None:
    _, marks = excerpt(Source("a", '"漢\t字" y'), '"漢\t字"')
    assert marks == "^" * (1 + 2 + 4 + 2 + 1) + " unknown-name"


@pytest.mark.parametrize(("text", "offset"), [("ab", 2), ("", 0), ("ab\n", 3), ("a\n\nb", 2)])
def test_a_place_without_width_has_a_mark(text: str, offset: int) -> None:
    source = Source("a", text)
    found = Diagnostic(NAME, "wrong", source, Span(offset, offset))
    line, column = source.position(offset)
    assert render_one(found).split("\n")[-1] == f"   | {' ' * (column - 1)}^ unknown-name"
    assert f"a:{line}:{column}" in render_one(found)


@given(st.text(st.characters(codec="utf-8")))
def test_nothing_acts_on_a_terminal(text: str) -> None:
    printed, columns = shown(text.replace("\n", ""))
    assert all(char.isprintable() or ord(char) >= 0xA0 for char in safe(text) + printed)
    assert not set("\x1b\r\n\x07\u202e\u2028") & set(safe(text) + printed)
    assert all(0 <= after - before <= 4 for before, after in pairwise(columns))


# --- colours ------------------------------------------------------------------------------------


def test_colours_change_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain, coloured = document(report(tmp_path)), document(report(tmp_path, colour=True))
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert "\x1b" not in plain
    assert coloured.count("\x1b[0m") * 2 == coloured.count("\x1b[")


def test_the_colours() -> None:
    # Bold red of an error, bold yellow of a warning: of the head, the mark and its text.
    error, warning = (render_one(FINDINGS[n], colour=True) for n in (0, 4))
    assert error.startswith("\x1b[1;31merror[FIB201]\x1b[0m\x1b[1m: unknown level `trajectori`\x1b")
    assert "\x1b[1;31m^^^^^^^^^^\x1b[0m \x1b[1;31munknown-level\x1b[0m\n" in error
    assert "\x1b[1;36mhelp:\x1b[0m did you mean it?" in error
    assert warning.startswith("\x1b[1;33mwarning[FIB601]\x1b[0m")
    assert "\x1b[1;33m^^^^^\x1b[0m" in warning


def test_exceptions_have_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert str(FibError(FINDINGS[:1])) == "\n" + render(FINDINGS[:1])


class Terminal:
    def __init__(self, is_one: bool) -> None:
        self.is_one = is_one

    def isatty(self) -> bool:
        return self.is_one


@pytest.mark.parametrize(
    ("terminal", "environment", "choice", "colour"),
    [
        (True, {}, "auto", True),
        (False, {}, "auto", False),
        (True, {"NO_COLOR": "1"}, "auto", False),
        (True, {"NO_COLOR": ""}, "auto", True),  # no-color.org: not an empty string
        (True, {"TERM": "dumb"}, "auto", False),
        (False, {"FORCE_COLOR": "1"}, "auto", True),
        (False, {"FORCE_COLOR": "0"}, "auto", False),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False),
        (True, {"NO_COLOR": "1"}, "always", True),
        (False, {}, "always", True),
        (True, {"FORCE_COLOR": "1"}, "never", False),
    ],
)
def test_when_to_colour(
    terminal: bool, environment: dict[str, str], choice: str, colour: bool
) -> None:
    assert wanted(Terminal(terminal), environment, choice) is colour  # type: ignore[arg-type]


def test_no_output_no_colour() -> None:
    assert wanted(None, {}) is False
