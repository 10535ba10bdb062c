"""Syntax errors: the labels of grammar/syntax_errors.yaml, recovery, and texts nobody meant."""

import random
from typing import Any

import pytest

from fibc import driver, syntax_errors
from fibc.grammar import grammar
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.resources import shipped_specs
from fibdsl.source import Source

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
  at token { budget per cell { math: 0.1, else: 0.2 } base clip(0.1 }
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
        (11, 14, "`budget per cell` is not in this version"),
        (11, 68, "a `,` or a `)` is missing"),
    ]


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


def test_any_text_gets_findings_and_never_an_exception() -> None:
    chance = random.Random(20260414)
    texts = [path.read_text(encoding="utf-8") for path in shipped_specs().values()]
    tokens = [list(map(str, grammar().lex(text))) for text in texts]
    vocabulary = [
        *sorted({word for spec in tokens for word in spec}),
        *'?ε\n;)]}"',
        "1e999",
        "assume",
    ]
    for _ in range(3000):
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
        text = chance.choice(" \n").join(words)
        for finding in findings(text):
            span = finding.span
            assert span is None or 0 <= span.start <= span.end <= len(text), text
            assert finding.message, text
            assert finding.help, text
            assert "__" not in finding.help, text  # a name of the grammar's own


@pytest.mark.parametrize(
    "budget",
    ["+".join(["0.001"] * 3000), "0.1 * (-" * 400 + "0.1" + ")" * 400],
    ids=["sum", "parentheses"],
)
def test_expressions_too_deep_to_read_are_findings(budget: str) -> None:
    gate = f"at token {{ base clip({budget}) }}"
    text = f"objective deep {{ signal ratio levels token {gate} reduce mean over token }}"
    (finding,) = findings(text)
    assert finding.code == "FIB001"
    assert "nested too deeply" in finding.message
