"""Syntax errors: the labels of grammar/syntax_errors.yaml, recovery, and texts nobody meant."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fibc import driver, syntax_errors
from fibc.grammar import grammar
from fibc.parse import parse
from fibdsl.diagnostics.diagnostic import Diagnostic, Diagnostics
from fibdsl.resources import shipped_specs
from fibdsl.source import Source
from fibdsl.syntax.printer import format_source

FORMS = Path(__file__).parent / "syntax" / "fmt"
EXAMPLES = [(e, example) for e in syntax_errors.entries() for example in e["examples"]]


def findings(text: str) -> tuple[Diagnostic, ...]:
    return driver.check(Source("<string>", text)).diagnostics


@pytest.mark.parametrize(("entry", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_gets_its_label(entry: dict[str, Any], example: str) -> None:
    failed = str([*grammar().lex(example)][-1])
    first = findings(example)[0]
    assert first.message == entry["message"].replace("{token}", failed)
    if "help" in entry:
        assert first.help == entry["help"].replace("{token}", failed)


def test_every_error_is_reported_and_nothing_else() -> None:
    text = """\
objective o {
  param  epsilon deviation = 0.2 in (0, 1)
  signal ratio
  levels token, trajectory
  at token { base clip(+epsilon -0.2) }
  at trajectory base clip(0.1) }
  reduce mean token
}
objective p {
  doc 'one
  at token { budget per cell { math 0.1, else: 0.2 } base clip(0.1 }
}
"""
    assert [(d.line, d.column, d.message) for d in findings(text)] == [
        (2, 17, "a `:` is missing"),
        (4, 15, "a `<` is missing between two levels"),
        (
            5,
            33,
            "this `-` reads as arithmetic, but a signed budget ends at the next `,` or `)`",
        ),
        (6, 16, "a `{` is missing"),
        (7, 14, "`over` is missing"),
        (10, 7, "the language does not use `'`"),
        (11, 36, "a `:` is missing behind the cell"),
        (11, 67, "a `,` or a `)` is missing"),
    ]


@pytest.mark.parametrize("text", ["} objective o", "} gate g(x) odd", "} objective o { weight"])
def test_a_block_that_is_never_opened_at_the_end_of_the_file(text: str) -> None:
    assert [d.column for d in findings(text)] == [1, len(text) + 1]


@pytest.mark.parametrize(
    ("text", "column", "help"),
    [
        (
            "objective o { weight { 1 when ratio \N{LESS-THAN OR EQUAL TO} 1; 2 otherwise; } }",
            37,
            "`<=`",
        ),
        ("objective o { weight 1 \N{MINUS SIGN} ratio }", 24, "`-`"),
        ("objective o { doc \N{LEFT DOUBLE QUOTATION MARK}x }", 19, "double quotes"),
        ("objective o { param c : log = 20% }", 33, "0.2 for 20 %"),
        ("objective o { weight\N{NO-BREAK SPACE}2 }", 21, "a plain one"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}objective o { weight 2 }", 1, "byte order mark"),
    ],
)
def test_what_is_meant_by_a_character_the_language_does_not_use(
    text: str, column: int, help: str
) -> None:
    first = findings(text)[0]
    assert (first.code, first.column) == ("FIB002", column)
    assert help in (first.help or "")


def test_a_second_error_in_one_block_is_found() -> None:
    text = 'objective o {\n  at token {\n    base clip(\n    fiber clip(,)\n  }\n  doc "x\n}\n'
    assert [(d.line, d.column) for d in findings(text)] == [(3, 15), (4, 16), (6, 7)]


def test_prose_after_an_open_quote_is_not_parsed() -> None:
    text = 'objective o {\n  doc "at the base { of\n  signal\n}\n'
    assert [d.line for d in findings(text)] == [2, 3]


def test_a_keyword_is_not_a_name() -> None:
    (finding,) = findings("objective o {\n  param base : log = 1\n}\n")
    assert finding.message == "`base` is a word of the language and cannot be a name"
    assert (finding.line, finding.column) == (2, 9)


def test_a_misspelt_keyword_gets_the_nearest() -> None:
    (finding,) = findings("objective o {\n  levles token\n}\n")
    assert finding.help == "did you mean `levels`?"


def mutants(texts: list[str], count: int) -> Iterator[str]:
    """Texts of which up to three words were left out, doubled, added or replaced."""
    chance = random.Random(20260414)
    tokens = [list(map(str, grammar().lex(text))) for text in texts]
    vocabulary = [
        *sorted({word for spec in tokens for word in spec}),
        *'?ε\n;)]}"&',
        "1e999",
        "assume",
    ]
    for _ in range(count):
        words = list(chance.choice(tokens))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(words))
            match chance.randrange(4):
                case 0:
                    del words[place]
                case 1:
                    words.insert(place, words[place])
                case 2:
                    words.insert(place, chance.choice(vocabulary))
                case _:
                    words[place] = chance.choice(vocabulary)
        yield chance.choice(" \n").join(words)


def is_reported(found: Sequence[Diagnostic], text: str) -> None:
    for finding in found:
        span = finding.span
        assert span is None or 0 <= span.start <= span.end <= len(text), text
        assert finding.message, text
        assert finding.help, text
        assert "__" not in finding.help, text  # a name of the grammar's own


def test_any_text_gets_findings_and_never_an_exception() -> None:
    specs = [path.read_text(encoding="utf-8") for path in shipped_specs().values()]
    for text in mutants(specs, 3000):
        is_reported(findings(text), text)


def test_any_text_is_read_or_reported() -> None:
    """Of every form the language has, the names and spaces in them unchecked; what can be read can
    be formatted, which proves itself."""
    forms = [path.read_text(encoding="utf-8") for path in sorted(FORMS.glob("*.fib"))]
    read = 0
    for text in mutants(forms, 2000):
        source = Source("<string>", text)
        diagnostics = Diagnostics(source)
        tree = parse(source, diagnostics)
        is_reported(diagnostics.found, text)
        assert (tree is None) == bool(diagnostics.found), text
        if tree is not None:
            read += 1
            format_source(source)
    assert read > 50


@pytest.mark.parametrize(
    "budget",
    [
        "+".join(["0.001"] * 3000),
        "0.001" + "* 1" * 3000,
        "0.1 * (-" * 400 + "0.1" + ")" * 400,
    ],
    ids=["sum", "product", "parentheses"],
)
def test_expressions_too_deep_to_read_are_findings(budget: str) -> None:
    gate = f"at token {{ base clip({budget}) }}"
    text = f"objective deep {{ signal ratio levels token {gate} reduce mean over token }}"
    (finding,) = findings(text)
    assert finding.code == "FIB001"
    assert "nested too deeply" in finding.message
    assert "hundreds of terms, factors or cases" in (finding.help or "")
