"""Going on after a syntax error, so that one check reports all of them.

The parser drops what it has of the broken statement or case, and goes on at the next keyword, `;`
or `}` that can stand there. Nobody looks at the tree it makes, so it may be given what is missing.
"""

from __future__ import annotations

from lark import Token
from lark.parsers.lalr_interactive_parser import InteractiveParser

from fibc.grammar import CLAUSES, ITEMS, STATEMENTS
from fibc.syntax_errors import branch, fed

# Where the parser may take up again after an error.
_RESUME = (ITEMS - {"EDITION"}) | STATEMENTS | CLAUSES

_CASE = ("NUMBER", "WHEN", "NUMBER", "LESSTHAN", "NUMBER")
_LAST_CASE = ("NUMBER", "OTHERWISE")
_CELL = ("NAME", "COLON", "NUMBER")
"""What may be missing to the end of a block whose contents are wrong."""


def resume(
    parser: InteractiveParser, tokens: list[Token], failed: int
) -> tuple[InteractiveParser, int] | None:
    """The parser and the token to go on with: the nearest place where an open construct can."""
    opened = fed(parser, Token("LBRACE", "{"))
    if opened and failed < len(tokens) and _lacks_opening(tokens) and fed(opened, tokens[failed]):
        return opened, failed
    # Only `}` is missing to a body, and not another case.
    complete = fed(parser, Token("RBRACE", "}")) is not None
    braces = 0
    for position, token in enumerate(tokens[failed:], failed):
        # What follows an unclosed text on its line is prose.
        if tokens[failed] == '"' and token.line == tokens[failed].line:
            continue
        # They may be misplaced where they failed; further on the objective is not closed.
        if position == failed and token.type in ("USE", "GATE"):
            continue
        if token.type == "LBRACE":
            if fed(parser, token):
                return parser, position
            braces += 1
        elif opened and token.type in _RESUME and fed(opened, token):
            return opened, position
        elif token.type == "RBRACE" and braces:
            braces -= 1
        elif (
            token.type == "RBRACE"
            or (token.type == "SEMICOLON" and not braces and not complete)
            or (token.type in _RESUME and starts_statement(tokens, position))
        ):
            resumed = _unwound(parser, token, _missing(tokens, position))
            if resumed is not None:
                return resumed, position
    return None


def _lacks_opening(tokens: list[Token]) -> bool:
    """Whether a `{` is missing to a `}`."""
    kinds = [token.type for token in tokens]
    return kinds.count("LBRACE") < kinds.count("RBRACE")


def _missing(tokens: list[Token], position: int) -> tuple[tuple[str, ...], ...]:
    """What may have to be put before a token so that the block or the case it ends is complete."""
    if tokens[position].type == "RBRACE":
        return ((), (*_LAST_CASE, "SEMICOLON"), _CELL)
    if tokens[position].type == "SEMICOLON":
        return (_LAST_CASE if _ends_last_case(tokens, position) else _CASE,)
    return ((),)


def _ends_last_case(tokens: list[Token], position: int) -> bool:
    """Whether the case that the `;` at `position` ends was meant to be the last."""
    if tokens[position + 1 : position + 2] == ["}"]:
        return True
    for token in reversed(tokens[:position]):
        if token.type in ("SEMICOLON", "LBRACE"):
            return False
        if token.type in ("OTHERWISE", "ELSE"):
            return True
    return False


def starts_statement(tokens: list[Token], position: int) -> bool:
    """Whether a keyword is where statements start; elsewhere it is a name someone chose."""
    if position == 0 or tokens[position - 1].type in ("LBRACE", "RBRACE"):
        return True
    return tokens[position - 1].line != tokens[position].line


def _unwound(
    parser: InteractiveParser, token: Token, missing: tuple[tuple[str, ...], ...]
) -> InteractiveParser | None:
    """The parser, of what it has open only so much left that it accepts `token`, perhaps behind
    something `missing`; or None."""
    for kept in range(len(parser.parser_state.state_stack), 0, -1):
        trial = branch(parser)
        del trial.parser_state.state_stack[kept:]
        # The value stack holds one value a state above the start state.
        del trial.parser_state.value_stack[kept - 1 :]
        for kinds in missing:
            completed = fed(trial, *(Token(kind, "") for kind in kinds))
            if completed and fed(completed, token):
                return completed
    return None
