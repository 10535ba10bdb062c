"""The formatter: pairs of input and output, the shipped specs, and what it must keep of any text.

What is kept is found here by `words_of`, `comments_of` and `tree_of`, not by the means of the
formatter.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fibc import driver
from fibc.parse import parse
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.diagnostics.errors import FibError, InternalError
from fibdsl.resources import shipped_specs
from fibdsl.source import Source
from fibdsl.syntax.layout import laid_out
from fibdsl.syntax.printer import format_source
from fibdsl.syntax.words import Word

ROOT = Path(__file__).resolve().parents[2]
PAIRS = Path(__file__).parent / "fmt"
SHIPPED = {name: path.read_text(encoding="utf-8") for name, path in shipped_specs().items()}

TOKEN = re.compile(
    r'(?P<comment>#[^\n]*)|"[^"\n]*"|[A-Za-z_]\w*|(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[<>]=|\S'
)


def formatted(text: str) -> str:
    return format_source(Source("spec.fib", text))


def words_of(text: str) -> list[str]:
    return [m.group() for m in TOKEN.finditer(text) if not m["comment"]]


def comments_of(text: str) -> list[tuple[int, bool, str]]:
    """Each comment: how many words are before it, whether none of them is on its line, its text
    without white space at the end."""
    comments = []
    words = 0
    for match in TOKEN.finditer(text):
        if match["comment"]:
            alone = not text[: match.start()].rpartition("\n")[2].strip()
            comments.append((words, alone, match.group().rstrip()))
        else:
            words += 1
    return comments


def tree_of(text: str) -> str:
    """The syntax tree, without the places; empty for a text that does not parse."""
    source = Source("spec.fib", text)
    tree = parse(source, Diagnostics(source))
    if tree is None:
        return ""
    return re.sub(r"Span\(start=\d+, end=\d+\)", "", repr(tree).replace(repr(source), ""))


def is_kept(text: str) -> str:
    """Asserts that formatting keeps what has to be kept, once and again; the formatted text."""
    result = formatted(text)
    assert words_of(result) == words_of(text)
    assert comments_of(result) == comments_of(text)
    assert tree_of(result) == tree_of(text) != ""
    assert formatted(result) == result
    assert result.endswith("\n")
    assert not result.endswith("\n\n")
    assert not re.search(r"[ \t\r]\n", result)
    assert "\n\n\n" not in result
    return result


# --- pairs of input and output ------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in PAIRS.glob("*.fib")))
def test_pair(name: str, request: pytest.FixtureRequest) -> None:
    text = (PAIRS / f"{name}.fib").read_text(encoding="utf-8")
    golden = PAIRS / f"{name}.out"
    if request.config.getoption("--update-goldens"):
        golden.write_text(formatted(text), encoding="utf-8")
    assert is_kept(text) == golden.read_text(encoding="utf-8")


def test_every_output_has_its_input() -> None:
    names = [sorted(p.stem for p in PAIRS.glob(f"*.{ending}")) for ending in ("fib", "out")]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n\t\n", ""),
        ("# only this", "# only this\n"),
        ("\n\n# one\n\n\n\n# two  \n\n", "# one\n\n# two\n"),
        ("edition 2026", "edition 2026\n"),
        ("objective o{}", "objective o {}\n"),
        ("objective o{# c\n}", "objective o {  # c\n}\n"),
        ("objective o {\r\n  signal ratio\r\n}\r\n", "objective o {\n  signal ratio\n}\n"),
        ("objective o {\n\tdoc\t\"a\tb\"\n}", 'objective o {\n  doc    "a\tb"\n}\n'),
        ("# c \r\nobjective o {}", "# c\nobjective o {}\n"),
        ("gate g(x){x}gate h(x){x}", "gate g(x) { x }\n\ngate h(x) { x }\n"),
        ("gate g(x){# c\nx}", "gate g(x) {  # c\n  x\n}\n"),
        ("gate g(x){0 otherwise;}", "gate g(x) {\n  0 otherwise;\n}\n"),
        ('edition 2026 use"a"use"b"', 'edition 2026\nuse "a"\nuse "b"\n'),
        ('objective o{}use"a"', 'objective o {}\n\nuse "a"\n'),
        # Line ends to Python, and not to the language.
        ("# a\x0bb\u2028c\nobjective o {}", "# a\x0bb\u2028c\nobjective o {}\n"),
        ("edition 2026\n# of the objective\nobjective o {}",
         "edition 2026\n\n# of the objective\nobjective o {}\n"),
        ("edition 2026\n# of the edition\n\nobjective o {}",
         "edition 2026\n# of the edition\n\nobjective o {}\n"),
    ],
)  # fmt: skip
def test_small(text: str, expected: str) -> None:
    assert formatted(text) == expected
    assert formatted(expected) == expected


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_shipped_specs_are_canonical(name: str) -> None:
    assert is_kept(SHIPPED[name]) == SHIPPED[name]


def test_the_reference_shows_the_format() -> None:
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n(gate .*?)^```$", page, re.MULTILINE | re.DOTALL)
    whole = [text for text in shown if "NAME" not in text]
    assert whole
    for text in whole:
        assert is_kept(text) == text


def test_there_are_seven_shipped_specs() -> None:
    assert len(SHIPPED) >= 7


# --- every text there is ------------------------------------------------------------------------


def _blocks() -> dict[str, str]:
    fence = re.compile(r"^```fib\b[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
    return {
        f"{path.name}:{number}": match["text"]
        for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md")
        for number, match in enumerate(fence.finditer(path.read_text(encoding="utf-8")), 1)
    }


TEXTS = {
    **{p.name: p.read_text(encoding="utf-8") for p in sorted((ROOT / "tests/bad").glob("*.fib"))},
    **_blocks(),
}


@pytest.mark.parametrize("name", TEXTS)
def test_specs_and_documentation(name: str) -> None:
    if tree_of(TEXTS[name]):
        is_kept(TEXTS[name])
    else:
        with pytest.raises(FibError):
            formatted(TEXTS[name])


@pytest.mark.parametrize("name", [*TEXTS, *SHIPPED])
def test_findings_stay(name: str) -> None:
    """Formatting changes nothing the checker says, comments that allow a finding included."""

    def findings(text: str) -> list[tuple[str, str]]:
        found = driver.check(Source("spec.fib", text)).diagnostics
        return sorted((d.code, d.message) for d in found)

    text = {**TEXTS, **SHIPPED}[name]
    if tree_of(text):
        assert findings(formatted(text)) == findings(text)


def test_most_of_the_texts_parse() -> None:
    assert sum(bool(tree_of(text)) for text in TEXTS.values()) > len(TEXTS) / 2 > 50


# --- any spacing, any comments ------------------------------------------------------------------

SPACES = st.text(" \t", max_size=3)
BLANK_LINES = st.from_regex(r"[ \t]{0,2}(\n[ \t]{0,2}){2,4}", fullmatch=True)
COMMENTS = st.text("#\"{} at,0", max_size=5).map(lambda text: f"#{text}\n")  # fmt: skip
GAPS = st.lists(st.one_of(SPACES, st.just("\n"), COMMENTS), max_size=4).map(lambda p: "".join(p))


def _joins(before: str, after: str) -> bool:
    """Whether two words would become another word without a space between them."""
    ends = all(character.isalnum() or character in "_." for character in (before[-1], after[0]))
    return ends or before + after in ("<=", ">=")


def respaced(data: st.DataObject, words: list[str]) -> str:
    """The words with any white space and comments between them."""
    text = data.draw(GAPS)
    for before, word in zip(["", *words], words, strict=False):
        if before and text.endswith(before) and _joins(before, word):
            text += " "
        text += word + data.draw(GAPS)
    return text


# The words of the shipped specs, and of what they do not have.
WORDS = {name: words_of(text) for name, text in SHIPPED.items()}
for _name in ("promises", "at_blocks", "spaces", "long_lines", "gates", "of_tokens", "cells"):
    WORDS[_name] = words_of((PAIRS / f"{_name}.fib").read_text(encoding="utf-8"))


@settings(deadline=None)
@given(st.data())
def test_any_spacing_and_any_comments(data: st.DataObject) -> None:
    words = WORDS[data.draw(st.sampled_from(sorted(WORDS)))]
    text = respaced(data, words)
    assert words_of(text) == words
    is_kept(text)


@settings(deadline=None)
@given(st.data())
def test_spaces_and_line_ends_do_not_matter(data: st.DataObject) -> None:
    """A shipped spec, blank lines and comments where they were and any spacing else, comes out as
    it is shipped."""
    spec = SHIPPED[data.draw(st.sampled_from(sorted(SHIPPED)))]
    text, end, after_comment = "", 0, False
    for match in TOKEN.finditer(spec):
        gap = spec[end : match.start()]
        newlines = gap.count("\n")
        if newlines > 1:
            text += data.draw(BLANK_LINES)
        elif match["comment"] or after_comment:
            text += "\n" * newlines
        elif gap:
            text += data.draw(st.sampled_from([" ", "\n", "\t", " \n ", "  "]))
        text += data.draw(SPACES) + match.group()
        end, after_comment = match.end(), bool(match["comment"])
    assert formatted(text) == spec


# --- what it refuses, and the proof -------------------------------------------------------------


def test_a_syntax_error() -> None:
    with pytest.raises(FibError) as caught:
        formatted("objective o {\n  signal\n  levels token <\n}")
    assert [(d.code, d.line) for d in caught.value.diagnostics] == [("FIB001", 2), ("FIB001", 3)]


def test_a_byte_order_mark_is_a_character_like_another() -> None:
    with pytest.raises(FibError) as caught:
        formatted("\ufeffobjective o {}")
    assert [(d.code, d.line, d.column) for d in caught.value.diagnostics] == [("FIB002", 1, 1)]


def test_deep_nesting() -> None:
    deep = "objective o {{ param a : log = {}1{} }}"
    assert "((((1))))" in formatted(deep.format("(" * 4, ")" * 4))
    nested = deep.format("-(" * 5000, ")" * 5000)
    with pytest.raises(FibError, match="nested too deeply"):
        formatted(nested)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.20", "0.2 0", "does not parse"),
        ("0.20", "0.21", "another syntax tree"),
        ("0.20", "0.200", "other comments or words"),
        ("# token clip", "", "other comments or words"),
        ("# token clip", "# token", "other comments or words"),
        ("     # token clip", "\n# token clip", "other comments or words"),
        (" < ", "<", "canonical"),
    ],
)
def test_a_wrong_layout_is_a_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    calls: list[tuple[Word, ...]] = []

    def wrong(words: tuple[Word, ...]) -> str:
        calls.append(words)
        # Wrong the first time only, as a layout is that is not stable.
        return laid_out(words).replace(old, new, 1) if len(calls) == 1 else laid_out(words)

    monkeypatch.setattr("fibdsl.syntax.printer.laid_out", wrong)
    with pytest.raises(InternalError, match=message):
        formatted(SHIPPED["fiberpo"])
