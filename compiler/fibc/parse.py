"""Text to syntax tree. Every syntax error is reported: after one, the parser drops what it has of
the broken statement and goes on at the next keyword that can stand there."""

from __future__ import annotations

from typing import Any, Literal, cast

from lark import Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from fibc import syntax_errors
from fibc.grammar import grammar
from fibc.syntax_errors import branch, fed
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.source import Source, Span
from fibdsl.syntax import ast

# Where the parser may take up again after an error.
_STATEMENTS = frozenset({"DOC", "PARAM", "SIGNAL", "LEVELS", "AT", "REDUCE", "REQUIRE", "ASSUME"})
_CLAUSES = frozenset({"BASE", "FIBER", "AGGREGATE"})
_RESUME = _STATEMENTS | _CLAUSES | {"OBJECTIVE"}


_Tree = Any
"""One of lark's trees: what it holds follows from the grammar."""


def parse(source: Source, diagnostics: Diagnostics) -> ast.File | None:
    """The tree of `source`, or None after a syntax error (all of them are in `diagnostics`)."""
    before = len(diagnostics.found)
    tree = _parse_tokens(source, diagnostics)
    if tree is None or len(diagnostics.found) > before:
        return None
    return _Builder(source).file(tree)


def _parse_tokens(source: Source, diagnostics: Diagnostics) -> Tree[Any] | None:
    tokens = list(grammar().lex(source.text))
    end = Token("$END", "", start_pos=len(source.text), end_pos=len(source.text))
    parser = grammar().parse_interactive("")
    index = 0
    while True:
        token = tokens[index] if index < len(tokens) else end
        try:
            result = parser.feed_token(token)
        except UnexpectedToken:
            previous = tokens[index - 1] if index else None
            syntax_errors.report(parser, previous, token, diagnostics)
            resumed = _resume(parser, tokens, index)
            if resumed is None:
                return None
            parser, index = resumed
            continue
        if token is end:
            return cast("Tree[Any]", result)
        index += 1


def _resume(
    parser: InteractiveParser, tokens: list[Token], failed: int
) -> tuple[InteractiveParser, int] | None:
    """The parser and the token to go on with: the nearest place where an open construct can."""
    opened = fed(parser, Token("LBRACE", "{"))
    braces = 0
    for position, token in enumerate(tokens[failed:], failed):
        # What follows an unclosed text on its line is prose.
        if tokens[failed] == '"' and token.line == tokens[failed].line:
            continue
        if token.type == "LBRACE":
            if fed(parser, token):
                return parser, position
            braces += 1
        elif opened and token.type in _RESUME and fed(opened, token):
            return opened, position
        elif token.type == "RBRACE" and braces:
            braces -= 1
        elif token.type == "RBRACE" or (
            token.type in _RESUME and _starts_statement(tokens, position)
        ):
            resumed = _unwound(parser, token)
            if resumed is not None:
                return resumed, position
    return None


def _starts_statement(tokens: list[Token], position: int) -> bool:
    """Whether a keyword is where statements start; elsewhere it is a name someone chose."""
    if position == 0 or tokens[position - 1].type in ("LBRACE", "RBRACE"):
        return True
    return tokens[position - 1].line != tokens[position].line


def _unwound(parser: InteractiveParser, token: Token) -> InteractiveParser | None:
    """The parser, of what it has open only so much left that it accepts `token`; or None."""
    for kept in range(len(parser.parser_state.state_stack), 0, -1):
        trial = branch(parser)
        del trial.parser_state.state_stack[kept:]
        # The value stack holds one value a state above the start state.
        del trial.parser_state.value_stack[kept - 1 :]
        if fed(trial, token):
            return trial
    return None


class _Builder:
    """Lark's tree to ours. Nothing is decided here; the shapes are those of the grammar."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def file(self, tree: _Tree) -> ast.File:
        return ast.File(
            self.source,
            tuple(self.edition(t) for t in tree.children if t.data == "edition"),
            tuple(self.objective(t) for t in tree.children if t.data == "objective"),
        )

    def edition(self, tree: _Tree) -> ast.Edition:
        (token,) = tree.children
        return ast.Edition(ast.Number(float(token), _span(token)), _span(tree))

    def objective(self, tree: _Tree) -> ast.Objective:
        name, *statements = tree.children
        return ast.Objective(
            _name(name), tuple(getattr(self, t.data)(t) for t in statements), _span(tree)
        )

    def doc(self, tree: _Tree) -> ast.Doc:
        return ast.Doc(str(tree.children[0])[1:-1], _span(tree))

    def param(self, tree: _Tree) -> ast.Param:
        name, space, default, interval = tree.children
        return ast.Param(
            _name(name),
            _name(space),
            self.expr(default),
            self.range(interval) if interval is not None else None,
            _span(tree),
        )

    def range(self, tree: _Tree) -> ast.Range:
        opening, low, high, closing = tree.children
        return ast.Range(
            self.expr(low), self.expr(high), opening == "(", closing == ")", _span(tree)
        )

    def signal(self, tree: _Tree) -> ast.SignalStatement:
        signal, channels = tree.children
        return ast.SignalStatement(_name(signal), _optional(channels), _span(tree))

    def levels(self, tree: _Tree) -> ast.Levels:
        entries = tuple(
            ast.LevelEntry(_name(t.children[0]), _optional(t.children[1]), _span(t))
            for t in tree.children
        )
        return ast.Levels(entries, _span(tree))

    def at(self, tree: _Tree) -> ast.At:
        level, *clauses = tree.children
        return ast.At(_name(level), tuple(getattr(self, t.data)(t) for t in clauses), _span(tree))

    def base(self, tree: _Tree) -> ast.GateClause:
        return self._gate_clause("base", tree)

    def fiber(self, tree: _Tree) -> ast.GateClause:
        return self._gate_clause("fiber", tree)

    def _gate_clause(self, role: Literal["base", "fiber"], tree: _Tree) -> ast.GateClause:
        gate, *modifiers = tree.children
        return ast.GateClause(
            role, self.gate(gate), tuple(_name(m) for m in modifiers), _span(tree)
        )

    def aggregate(self, tree: _Tree) -> ast.Aggregate:
        reduction, over = tree.children
        return ast.Aggregate(_name(reduction), _name(over), _span(tree))

    def gate(self, tree: _Tree) -> ast.Gate:
        name, *arguments = (child for child in tree.children if child is not None)
        return ast.Gate(_name(name), tuple(self.argument(a) for a in arguments), _span(tree))

    def argument(self, tree: _Tree) -> ast.Argument | ast.NamedArgument | ast.Over:
        if tree.data == "over":
            return ast.Over(_name(tree.children[0]), _span(tree))
        if tree.data == "named":
            name, value = tree.children
            return ast.NamedArgument(_name(name), self.expr(value), _span(tree))
        return ast.Argument(tree.data, self.expr(tree.children[-1]), _span(tree))

    def reduce(self, tree: _Tree) -> ast.Reduce:
        steps = tuple(
            ast.Step(_name(t.children[0]), _name(t.children[1]), _span(t)) for t in tree.children
        )
        return ast.Reduce(steps, _span(tree))

    def require(self, tree: _Tree) -> ast.Require:
        return self._promise(tree, assumed=False)

    def assume(self, tree: _Tree) -> ast.Require:
        return self._promise(tree, assumed=True)

    def _promise(self, tree: _Tree, assumed: bool) -> ast.Require:
        name, _, at, measure, bound, over, interval = tree.children
        return ast.Require(
            _name(name),
            _optional(at),
            _optional(measure),
            self.expr(bound) if bound is not None else None,
            _optional(over),
            self.range(interval) if interval is not None else None,
            assumed,
            _span(tree),
        )

    def expr(self, tree: _Tree) -> ast.Expr:
        span = _span(tree)
        match tree.data, tree.children:
            case "number", [token]:
                return ast.Number(float(token), span)
            case "reference", [token]:
                return ast.Reference(str(token), span)
            case "negative", [operand]:
                return ast.Negative(self.expr(operand), span)
            case "call", [function, argument]:
                return ast.Call(_name(function), self.expr(argument), span)
            case _, [left, operator, right]:
                symbol = cast(Literal["+", "-", "*", "/"], str(operator))
                return ast.Binary(symbol, self.expr(left), self.expr(right), span)
        raise AssertionError(tree)


def _span(item: Tree[Any] | Token) -> Span:
    if isinstance(item, Token):
        return Span(item.start_pos or 0, item.end_pos or 0)
    return Span(item.meta.start_pos, item.meta.end_pos)


def _name(token: Token) -> ast.Name:
    return ast.Name(str(token), _span(token))


def _optional(token: Token | None) -> ast.Name | None:
    return None if token is None else _name(token)
