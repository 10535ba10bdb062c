"""Lark's trees to the syntax tree."""

from __future__ import annotations

from typing import Any, Literal, cast

from lark import Token, Tree

from fibdsl.source import Source, Span
from fibdsl.syntax import ast

_Tree = Any
"""One of lark's trees: what it holds follows from the grammar."""


class Builder:
    """Lark's tree to ours. Nothing is decided here; the shapes are those of the grammar."""

    def __init__(self, source: Source, foreign: bool = False) -> None:
        self.source = source
        self.source_of_spans = source if foreign else None

    def file(self, tree: _Tree) -> ast.File:
        return ast.File(
            self.source,
            tuple(self.edition(t) for t in tree.children if t.data == "edition"),
            tuple(self.use(t) for t in tree.children if t.data == "use"),
            tuple(self.definition(t) for t in tree.children if t.data == "definition"),
            tuple(self.objective(t) for t in tree.children if t.data == "objective"),
        )

    def edition(self, tree: _Tree) -> ast.Edition:
        (token,) = tree.children
        return ast.Edition(ast.Number(float(token), self._span(token)), self._span(tree))

    def use(self, tree: _Tree) -> ast.Use:
        return ast.Use(self._text(tree.children[0]), self._span(tree))

    def definition(self, tree: _Tree) -> ast.GateDefinition:
        name, *parameters, odd, body = tree.children
        return ast.GateDefinition(
            self._name(name),
            tuple(self.parameter(p) for p in parameters),
            odd is not None,
            self.body(body),
            self._span(tree),
        )

    def parameter(self, tree: _Tree) -> ast.Parameter:
        name, space, default = tree.children
        return ast.Parameter(
            self._name(name),
            self._optional(space),
            self.expr(default) if default is not None else None,
            self._span(tree),
        )

    def objective(self, tree: _Tree) -> ast.Objective:
        name, parent, *statements = tree.children
        return ast.Objective(
            self._name(name),
            self._optional(parent),
            tuple(getattr(self, t.data)(t) for t in statements),
            self._span(tree),
        )

    def doc(self, tree: _Tree) -> ast.Doc:
        return ast.Doc(self._text(tree.children[0]), self._span(tree))

    def param(self, tree: _Tree) -> ast.Param:
        name, space, default, interval = tree.children
        return ast.Param(
            self._name(name),
            self._name(space),
            self.expr(default),
            self.range(interval) if interval is not None else None,
            self._span(tree),
        )

    def range(self, tree: _Tree) -> ast.Range:
        opening, low, high, closing = tree.children
        return ast.Range(
            self.expr(low), self.expr(high), opening == "(", closing == ")", self._span(tree)
        )

    def signal(self, tree: _Tree) -> ast.SignalStatement:
        signal, channels, after, *modifiers = tree.children
        return ast.SignalStatement(
            self._name(signal),
            self._optional(channels),
            self.gate(after) if after is not None else None,
            tuple(self._name(m) for m in modifiers if m is not None),
            self._span(tree),
        )

    def levels(self, tree: _Tree) -> ast.Levels:
        entries = tuple(
            ast.LevelEntry(self._name(t.children[0]), self._optional(t.children[1]), self._span(t))
            for t in tree.children
        )
        return ast.Levels(entries, self._span(tree))

    def at(self, tree: _Tree) -> ast.At:
        level, *clauses = tree.children
        return ast.At(
            self._name(level), tuple(getattr(self, t.data)(t) for t in clauses), self._span(tree)
        )

    def base(self, tree: _Tree) -> ast.GateClause:
        return self._gate_clause("base", tree)

    def fiber(self, tree: _Tree) -> ast.GateClause:
        return self._gate_clause("fiber", tree)

    def _gate_clause(self, role: Literal["base", "fiber"], tree: _Tree) -> ast.GateClause:
        gate, *modifiers = tree.children
        return ast.GateClause(
            role, self.gate(gate), tuple(self._name(m) for m in modifiers), self._span(tree)
        )

    def aggregate(self, tree: _Tree) -> ast.Aggregate:
        reduction, over = tree.children
        return ast.Aggregate(self._name(reduction), self._name(over), self._span(tree))

    def budget(self, tree: _Tree) -> ast.PerCell:
        entries = tuple(
            ast.CellEntry(
                None if name.type == "ELSE" else self._name(name),
                self.expr(value),
                self._span(t),
            )
            for t in tree.children
            for name, value in [t.children]
        )
        return ast.PerCell(entries, self._span(tree))

    def gate(self, tree: _Tree) -> ast.Gate:
        name, *arguments = (child for child in tree.children if child is not None)
        return ast.Gate(
            self._name(name), tuple(self.argument(a) for a in arguments), self._span(tree)
        )

    def argument(self, tree: _Tree) -> ast.Argument | ast.NamedArgument | ast.Over:
        if tree.data == "over":
            return ast.Over(self._name(tree.children[0]), self._span(tree))
        if tree.data == "named":
            name, value = tree.children
            return ast.NamedArgument(self._name(name), self.expr(value), self._span(tree))
        return ast.Argument(tree.data, self.expr(tree.children[-1]), self._span(tree))

    def let(self, tree: _Tree) -> ast.Let:
        name, body = tree.children
        return ast.Let(self._name(name), self.body(body), self._span(tree))

    def bypass(self, tree: _Tree) -> ast.Bypass:
        condition, value = tree.children
        return ast.Bypass(self.condition(condition), self.expr(value), self._span(tree))

    def surrogate(self, tree: _Tree) -> ast.Surrogate:
        return ast.Surrogate(self.body(tree.children[0]), self._span(tree))

    def weight(self, tree: _Tree) -> ast.Weight:
        return ast.Weight(self.body(tree.children[0]), self._span(tree))

    def penalty(self, tree: _Tree) -> ast.Penalty:
        return ast.Penalty(self.body(tree.children[0]), self._span(tree))

    def reduce(self, tree: _Tree) -> ast.Reduce:
        return ast.Reduce(tuple(self.step(t) for t in tree.children), self._span(tree))

    def step(self, tree: _Tree) -> ast.Step:
        reduction, level, *divisor = tree.children
        return ast.Step(
            self._name(reduction),
            self._name(level),
            self.expr(divisor[0]) if divisor else None,
            self._span(tree),
        )

    def require(self, tree: _Tree) -> ast.Require:
        return self._promise(tree, assumed=False)

    def assume(self, tree: _Tree) -> ast.Require:
        return self._promise(tree, assumed=True)

    def waive(self, tree: _Tree) -> ast.Waive:
        return ast.Waive(self._promise(tree, assumed=False), self._span(tree))

    def _promise(self, tree: _Tree, assumed: bool) -> ast.Require:
        name, _, at, measure, bound, over, interval = tree.children
        return ast.Require(
            self._name(name),
            self._optional(at),
            self._optional(measure),
            self.expr(bound) if bound is not None else None,
            self._optional(over),
            self.range(interval) if interval is not None else None,
            assumed,
            self._span(tree),
        )

    def body(self, tree: _Tree) -> ast.Body:
        if tree.data != "cases":
            return self.expr(tree)
        return ast.Cases(tuple(self.case(t) for t in tree.children), self._span(tree))

    def case(self, tree: _Tree) -> ast.Case:
        label, value, *condition = tree.children
        return ast.Case(
            self._optional(label),
            self.expr(value),
            self.condition(condition[0]) if condition else None,
            self._span(tree),
        )

    def condition(self, tree: _Tree) -> ast.Condition:
        span = self._span(tree)
        match tree.data, tree.children:
            case "either", [left, right]:
                return ast.Logical("or", self.condition(left), self.condition(right), span)
            case "both", [left, right]:
                return ast.Logical("and", self.condition(left), self.condition(right), span)
            case "comparison", [left, operator, right]:
                sign = cast(Literal["<", "<=", ">", ">="], str(operator))
                return ast.Comparison(sign, self.expr(left), self.expr(right), span)
        raise AssertionError(tree)

    def expr(self, tree: _Tree) -> ast.Expr:
        span = self._span(tree)
        match tree.data, tree.children:
            case "number", [token]:
                return ast.Number(float(token), span)
            case "reference", [token]:
                return ast.Reference(str(token), span)
            case "negative", [operand]:
                return ast.Negative(self.expr(operand), span)
            case "magnitude", [name]:
                return ast.Call(ast.Name("abs", span), (self.expr(name),), None, span)
            case "call", [function, *arguments, level]:
                values = tuple(self.expr(a) for a in arguments)
                return ast.Call(self._name(function), values, self._optional(level), span)
            case _, [left, operator, right]:
                symbol = cast(Literal["+", "-", "*", "/"], str(operator))
                return ast.Binary(symbol, self.expr(left), self.expr(right), span)
        raise AssertionError(tree)

    def _span(self, item: Tree[Any] | Token) -> Span:
        if isinstance(item, Token):
            return Span(item.start_pos or 0, item.end_pos or 0, self.source_of_spans)
        return Span(item.meta.start_pos, item.meta.end_pos, self.source_of_spans)

    def _name(self, token: Token) -> ast.Name:
        return ast.Name(str(token), self._span(token))

    def _optional(self, token: Token | None) -> ast.Name | None:
        return None if token is None else self._name(token)

    def _text(self, token: Token) -> str:
        """What stands between the quotes."""
        return str(token)[1:-1]
