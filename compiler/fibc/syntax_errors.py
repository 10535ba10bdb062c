"""A hand-written message for each syntax error people make.

grammar/syntax_errors.yaml holds wrong examples with their messages; an example stands for every
text that fails in the same parser state, at the same kind of token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.resources import folder
from fibdsl.source import Source, Span
from lark import Token
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

_SHOWN = {
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "LESSTHAN": "`<`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'a "text"',
    "$END": "the end of the file",
}


@dataclass(frozen=True, slots=True)
class Labelled:
    message: str
    help: str | None


def report(
    parser: InteractiveParser, token: Token, source: Source, diagnostics: Diagnostics
) -> None:
    """Adds the diagnostic for `token`, which `parser` does not accept."""
    span = Span(token.start_pos or 0, token.end_pos or 0)
    if token.type == "UNKNOWN":
        if token == '"':
            diagnostics.add("FIB001", "this text is not closed on its line", span, 'end it with `"`')
        else:
            help = "a spec is plain ASCII: names, numbers, + - * / ( ) [ ] { } , < = : and #"
            diagnostics.add("FIB002", f"the language does not use `{token}`", span, help)
        return
    labelled = _labels().get(_signature(parser, token))
    if labelled is not None:
        diagnostics.add("FIB001", labelled.message.format(token=token), span, labelled.help)
        return
    expected = sorted(_show(name) for name in parser.accepts())
    found = "the file ends here" if token.type == "$END" else f"`{token}` does not belong here"
    diagnostics.add("FIB001", found, span, "expected " + _alternatives(expected))


def _show(terminal: str) -> str:
    return _SHOWN.get(terminal, f"`{terminal.lower()}`")


def _alternatives(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def _signature(parser: InteractiveParser, token: Token) -> tuple[int, str]:
    return parser.parser_state.position, token.type


@cache
def _labels() -> dict[tuple[int, str], Labelled]:
    import yaml

    from fibc.parse import grammar

    text = (folder("grammar") / "syntax_errors.yaml").read_text(encoding="utf-8")
    labels: dict[tuple[int, str], Labelled] = {}
    for entry in yaml.safe_load(text):
        for example in entry["examples"]:
            signature = _failure(grammar(), example)
            labels.setdefault(signature, Labelled(entry["message"], entry.get("help")))
    return labels


def _failure(lark: Any, text: str) -> tuple[int, str]:
    """Where `text` fails."""
    parser = lark.parse_interactive("")
    tokens = [*lark.lex(text), Token("$END", "")]
    for token in tokens:
        try:
            parser.feed_token(token)
        except UnexpectedToken:
            return _signature(parser, token)
    raise AssertionError(f"grammar/syntax_errors.yaml: this example is not wrong:\n{text}")
