"""A hand-written message for each syntax error people make.

grammar/syntax_errors.yaml holds wrong examples with their messages. As the state of an LALR parser
says what may follow, an example stands for every text that fails in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from lark import Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from fibc.grammar import grammar, in_context
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.resources import folder
from fibdsl.source import Span

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
    "LESSEQUAL": "`<=`",
    "MORETHAN": "`>`",
    "MOREEQUAL": "`>=`",
    "VBAR": "`|`",
    "SEMICOLON": "`;`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'a "text"',
    "$END": "the end of the file",
}


_QUOTES = 'a text stands in double quotes, as in `doc "..."`'
_UNKNOWN_HELP = {
    **dict.fromkeys("'\u2018\u2019\u201c\u201d", _QUOTES),
    "\u2264": "write `<=`",
    "\u2265": "write `>=`",
    **dict.fromkeys("\u2212\u2013\u2014", "write `-`"),
    **dict.fromkeys("\u00d7\u00b7", "write `*`"),
    "\u00f7": "write `/`",
    "%": "write percents as a number, 0.2 for 20 %; there is no remainder of a division",
    "^": "powers are not in this version; write a product",
    **dict.fromkeys("\u00a0\u202f\u3000", "this is a special space; write a plain one"),
    "\u200b": "this is a space without width; delete it",
    "\ufeff": "this is a byte order mark; save the file as UTF-8 without one",
}
_PLAIN_ASCII = "a spec is plain ASCII: names, numbers, + - * / ( ) [ ] { } | , ; : = < > and #"

Failure = tuple[int | None, str | None, str | None]
"""Where a text fails: the parser's state, the kind of token, the token; None stands for any. A kind
and a token without a state stand for what follows any expression."""


@dataclass(frozen=True, slots=True)
class Label:
    """What to say. A message that names `{token}` is about the token that failed; any other is
    about something missing before it. Without a help of its own the expected tokens are listed."""

    message: str
    help: str | None

    @property
    def of_missing(self) -> bool:
        return "{token}" not in self.message


def report(
    parser: InteractiveParser, previous: Token | None, token: Token, diagnostics: Diagnostics
) -> None:
    """Adds the diagnostic for `token`, which `parser` does not accept after `previous`."""
    label = _label(parser, previous, token)
    help = label.help.replace("{token}", token) if label.help else _expected(parser, token)
    if previous is not None and label.of_missing:
        span = Span(_end(previous), _end(previous))
    else:
        span = Span(token.start_pos or 0, _end(token))
    code = "FIB002" if token.type == "UNKNOWN" and token != '"' else "FIB001"
    diagnostics.add(code, label.message.replace("{token}", token), span, help)


def _label(parser: InteractiveParser, previous: Token | None, token: Token) -> Label:
    states, labels = (parser.parser_state.position, _ended(parser)), _labels()
    for word in (str(token), None):
        for state in states:
            if (state, token.type, word) in labels:
                return labels[state, token.type, word]
    if (None, token.type, str(token)) in labels and _after_expression(parser):
        return labels[None, token.type, str(token)]
    if token.type == "$END":
        return Label("the file ends too early", None)
    if token == '"':
        return Label(
            "this `{token}` opens a text that is not closed on its line", 'end it with `"`'
        )
    if token.type == "UNKNOWN":
        return Label("the language does not use `{token}`", _UNKNOWN_HELP.get(token, _PLAIN_ASCII))
    same_line = previous is not None and previous.line == token.line
    if same_line and token.type == token.upper() and "NAME" in _accepted(parser):
        return Label("`{token}` is a word of the language and cannot be a name", "choose another")
    for state in states:
        if (state, None, None) in labels:
            return labels[state, None, None]
    return Label("`{token}` does not belong here", None)


_EXPRESSIONS = frozenset(
    {
        *("number", "reference", "magnitude", "call", "negative", "product", "sum_", "signed_sum"),
        *("_factor", "_term", "_sum", "_signed"),
    }
)
"""The rules of the grammar that are expressions."""

_CLOSING = (
    *("RPAR", "RBRACE", "OBJECTIVE", "COMMA", "SEMICOLON", "WHEN", "COLON", "LESSTHAN"),
    # The next case.
    "NUMBER",
)
"""What can stand only behind something complete."""


def _after_expression(parser: InteractiveParser) -> bool:
    """Whether what stands before is an expression. It may be read already, so far that no operator
    can follow any more."""
    stack = parser.parser_state.value_stack
    read = bool(stack) and isinstance(stack[-1], Tree) and stack[-1].data in _EXPRESSIONS
    return read or "STAR" in _accepted(parser)


def _ended(parser: InteractiveParser) -> int:
    """The state the parser gets into when what stands before is complete: the same one after
    every statement of an objective, say. Its own state where it cannot be complete."""
    for closing in _CLOSING:
        closed = fed(parser, Token(closing, ""))
        if closed is not None:
            before, _ = closed.parser_state.state_stack[-2:]
            return int(before)
    return int(parser.parser_state.position)


def branch(parser: InteractiveParser) -> InteractiveParser:
    """A copy with stacks of its own. The values on them are shared: after a syntax error nobody
    looks at them."""
    copy: InteractiveParser = parser.copy(deepcopy_values=False)  # type: ignore[no-untyped-call]
    return copy


def fed(parser: InteractiveParser, *tokens: Token) -> InteractiveParser | None:
    """A copy of the parser after the tokens, or None where it does not accept one."""
    copy = branch(parser)
    try:
        for token in tokens:
            copy.feed_token(token)
    except UnexpectedToken:
        return None
    return copy


def _accepted(parser: InteractiveParser) -> set[str]:
    return set(parser.accepts())  # type: ignore[no-untyped-call]


def _end(token: Token) -> int:
    return token.end_pos or 0


def _expected(parser: InteractiveParser, token: Token) -> str:
    """A help text: the keyword that `token` nearly is, or all that can stand here."""
    accepted = _accepted(parser)
    if token.type == "NAME":
        near = nearest(token, [name.lower() for name in accepted if name not in _SHOWN])
        if near.startswith("did"):
            return near
    names = sorted(_SHOWN.get(name, f"`{name.lower()}`") for name in accepted)
    return "expected " + (
        names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
    )


@cache
def _labels() -> dict[Failure, Label]:
    labels: dict[Failure, Label] = {}
    for entry in entries():
        for example in entry["examples"]:
            labels.setdefault(failure(entry, example), Label(entry["message"], entry.get("help")))
    return labels


def entries() -> Any:
    """The entries of grammar/syntax_errors.yaml."""
    import yaml

    return yaml.safe_load((folder("grammar") / "syntax_errors.yaml").read_text(encoding="utf-8"))


def failure(entry: Any, example: str) -> Failure:
    """What an example of an entry stands for."""
    parser = grammar().parse_interactive("")
    for token in [*grammar().lex(example), Token("$END", "")]:
        try:
            parser.feed_token(in_context(parser, token))
        except UnexpectedToken:
            state = _ended(parser) if entry.get("ended") else parser.parser_state.position
            match entry.get("match", "token"):
                case "word":
                    return state, token.type, str(token)
                case "token":
                    return state, token.type, None
                case "expression":
                    return None, token.type, str(token)
                case _:
                    return state, None, None
    raise AssertionError(f"grammar/syntax_errors.yaml: this example is not wrong:\n{example}")
