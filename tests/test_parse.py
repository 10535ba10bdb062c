"""The syntax tree: what binds how, which words are names where, and of which file a span is."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from fibc.grammar import CONTEXTUAL
from fibc.parse import parse
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.source import Source, Span
from fibdsl.syntax import ast


def parsed(text: str, foreign: bool = False) -> ast.File:
    source = Source("spec.fib", text)
    diagnostics = Diagnostics(source)
    tree = parse(source, diagnostics, foreign)
    assert tree is not None, diagnostics.found
    return tree


def statement(text: str) -> ast.Statement:
    """The one statement of an objective."""
    [objective] = parsed(f"objective o {{ {text} }}").objectives
    [found] = objective.statements
    return found


def shown(node: ast.Expr | ast.Condition) -> str:
    """An expression or a condition with all its parentheses."""
    match node:
        case ast.Number(value=value):
            return f"{value:g}"
        case ast.Reference(name=name):
            return name
        case ast.Negative(operand=operand):
            return f"(-{shown(operand)})"
        case ast.Call(function=function, arguments=arguments, over=over):
            inside = ", ".join(map(shown, arguments)) + (f" over {over.text}" if over else "")
            return f"{function.text}({inside})"
    return f"({shown(node.left)} {node.operator} {shown(node.right)})"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("1 - 2 * 3 / 4", "(1 - ((2 * 3) / 4))"),
        # A sign is of the first term only.
        ("-1 + 2", "((-1) + 2)"),
        ("-1 * 2 - 3 + 4", "(((-(1 * 2)) - 3) + 4)"),
        ("-(1 + 2)", "(-(1 + 2))"),
        ("1 - (-2)", "(1 - (-2))"),
        ("|x| * y - |y|", "((abs(x) * y) - abs(y))"),
        ("min(-x, |y|, 3)", "min((-x), abs(y), 3)"),
        ("mean(k1(x - y) over token)", "mean(k1((x - y)) over token)"),
        ("sum(x over weight) / weight", "(sum(x over weight) / weight)"),
    ],
)
def test_expressions(text: str, expected: str) -> None:
    found = statement(f"weight {text}")
    assert isinstance(found, ast.Weight)
    assert not isinstance(found.body, ast.Cases)
    assert shown(found.body) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", "(a < b)"),
        ("-a + 1 <= b", "(((-a) + 1) <= b)"),
        ("a < b and c > d or e >= f", "(((a < b) and (c > d)) or (e >= f))"),
        ("a < b or c > d and e >= f", "((a < b) or ((c > d) and (e >= f)))"),
        ("(a < b or c > d) and e >= f", "(((a < b) or (c > d)) and (e >= f))"),
        ("((a) < (b)) and (c + d) * e >= f", "((a < b) and (((c + d) * e) >= f))"),
    ],
)
def test_conditions(text: str, expected: str) -> None:
    found = statement(f"bypass when {text} : 1")
    assert isinstance(found, ast.Bypass)
    assert shown(found.condition) == expected


def test_a_gate() -> None:
    tree = parsed(
        "gate g(x, C, k : pure = -1 + size) odd { pass: x when |x| <= C; -k otherwise; }"
        " gate h(x) { x } gate i(x) { 2 * x; }"
    )
    g, h, i = tree.gates
    assert [p.name.text for p in g.parameters] == ["x", "C", "k"]
    assert [p.space and p.space.text for p in g.parameters] == [None, None, "pure"]
    assert [p.default and shown(p.default) for p in g.parameters] == [None, None, "((-1) + size)"]
    assert isinstance(g.body, ast.Cases)
    assert [case.label and case.label.text for case in g.body.cases] == ["pass", None]
    assert [shown(case.value) for case in g.body.cases] == ["x", "(-k)"]
    assert [c.condition and shown(c.condition) for c in g.body.cases] == ["(abs(x) <= C)", None]
    assert (g.odd, h.odd) == (True, False)
    assert isinstance(h.body, ast.Reference)
    assert isinstance(i.body, ast.Binary)


def test_the_items_of_a_file() -> None:
    """In any order after the edition."""
    tree = parsed(
        'edition 2026 gate g(x) { x } objective a {} use "b.fib" objective b extends a {}'
        ' use "fibdsl:c.fib" gate h(x) { x }'
    )
    assert [use.path for use in tree.uses] == ["b.fib", "fibdsl:c.fib"]
    assert [gate.name.text for gate in tree.gates] == ["g", "h"]
    names = [(o.name.text, o.parent and o.parent.text) for o in tree.objectives]
    assert names == [("a", None), ("b", "a")]


def test_statements() -> None:
    signal = statement("signal log_ratio net after clip(+20, -10) pessimistic")
    assert isinstance(signal, ast.SignalStatement)
    assert signal.after is not None
    assert (signal.after.name.text, len(signal.after.arguments)) == ("clip", 2)
    assert [word.text for word in signal.modifiers] == ["pessimistic"]

    at = statement(
        "at cell { budget per cell { math: 0.1, else: -1 } base clip(+budget, -budget) }"
    )
    assert isinstance(at, ast.At)
    budget, gate = at.clauses
    assert isinstance(budget, ast.PerCell)
    assert [e.name and e.name.text for e in budget.entries] == ["math", None]
    assert [shown(e.value) for e in budget.entries] == ["0.1", "(-1)"]
    assert isinstance(gate, ast.GateClause)
    assert [a.value.name for a in gate.gate.arguments if isinstance(a, ast.Argument)
            and isinstance(a.value, ast.Reference)] == ["budget", "budget"]  # fmt: skip

    reduce = statement("reduce mean over a, sum over b / n, sum over c / 2, sum over d / (2 * n)")
    assert isinstance(reduce, ast.Reduce)
    divisors = [step.divisor and shown(step.divisor) for step in reduce.steps]
    assert divisors == [None, "n", "2", "(2 * n)"]

    waive = statement("waive restorative at trajectory")
    assert isinstance(waive, ast.Waive)
    assert waive.require.at is not None
    assert (waive.require.property.text, waive.require.at.text) == ("restorative", "trajectory")
    assert not waive.require.assumed


def test_odd_is_a_property_too() -> None:
    [objective] = parsed("objective o { require odd at token { base pass } assume odd }").objectives
    odd, at, assumed = objective.statements
    assert isinstance(odd, ast.Require)
    assert isinstance(at, ast.At)
    assert isinstance(assumed, ast.Require)
    assert odd.property.text == assumed.property.text == "odd"


EVERYWHERE = """
gate WORD(WORD, C : WORD = WORD) {
  WORD: WORD when |WORD| < WORD;
  0 otherwise;
}
objective WORD extends WORD {
  param WORD : WORD = WORD + (WORD) in (WORD, WORD)
  signal ratio
  levels token < WORD by WORD
  at WORD { budget per cell { math: WORD } base WORD(+WORD, -WORD, WORD = WORD) }
  let WORD = WORD
  bypass when WORD > WORD and WORD < WORD : WORD
  surrogate WORD
  weight WORD
  penalty WORD(WORD over WORD)
  reduce mean over WORD, sum over WORD / WORD
  require WORD at WORD over WORD
  at WORD { aggregate WORD over WORD }
}
"""


@pytest.mark.parametrize("word", sorted(word.lower() for word in CONTEXTUAL))
def test_a_word_is_a_name_where_only_a_name_can_stand(word: str) -> None:
    tree = parsed(EVERYWHERE.replace("WORD", word))
    [objective] = tree.objectives
    kinds = ["Param", "SignalStatement", "Levels", "At", "Let", "Bypass", "Surrogate", "Weight"]
    kinds += ["Penalty", "Reduce", "Require", "At"]
    assert [type(s).__name__ for s in objective.statements] == kinds
    assert tree.gates[0].name.text == objective.name.text == word


def spans(node: object) -> list[Span]:
    if isinstance(node, Span):
        return [node]
    if isinstance(node, tuple):
        return [span for item in node for span in spans(item)]
    if is_dataclass(node) and not isinstance(node, Source):
        return [span for field in fields(node) for span in spans(getattr(node, field.name))]
    return []


def test_a_span_of_another_file_says_so() -> None:
    text = "gate g(x) { |x| when x < 1; 0 otherwise; } objective o extends p { weight min(x, 1) }"
    own, foreign = parsed(text), parsed(text, foreign=True)
    assert {span.source for span in spans(own)} == {None}
    assert {span.source for span in spans(foreign)} == {foreign.source}
    assert len(spans(own)) == len(spans(foreign)) > 20


def test_a_syntax_error_is_of_its_file() -> None:
    own, other = Source("own.fib", ""), Source("other.fib", "\nuse x")
    diagnostics = Diagnostics(own)
    assert parse(other, diagnostics, foreign=True) is None
    [found] = diagnostics.found
    assert (found.source, found.line, found.column) == (other, 2, 4)
