"""A program as a formula: `term`, what a token adds, J, and what both are made of.

It follows from the program alone, so two specs that mean the same have one formula, up to the
names of parameters and levels and the order of what is added and multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass

from fibc.formula import names
from fibc.formula.algebra import ZERO, Apply, Symbol, Tree, minus, subtrees, times
from fibc.formula.cases import Case, Cases, by_lean
from fibc.formula.functions import ADVANTAGE, Functions, exp
from fibc.formula.gates import expression
from fibc.formula.names import Lines
from fibc.formula.reader import LEANS, Reader
from fibc.formula.text import pieces, show
from fibc.ir import nodes as ir

_TERM = "term"
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Definition:
    """A line: a name, and what it stands for."""

    name: str
    cases: Cases

    def __str__(self) -> str:
        return f"{self.name} = {self.right}"

    @property
    def right(self) -> str:
        """What it stands for, on one line."""
        return "; ".join(f"{value} {when}".rstrip() for value, when in self.texts)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Each case: its value, and where it counts."""
        last = len(self.cases) - 1
        return [
            (show(case.value), _when(case, index == last > 0))
            for index, case in enumerate(self.cases)
        ]


def _when(case: Case, last: bool) -> str:
    if not case.conditions:
        return "otherwise" if last else ""
    shown = [show(c) for c in case.conditions]
    shown = [
        f"({text})" if isinstance(c, Apply) and c.function == "or" and len(shown) > 1 else text
        for c, text in zip(case.conditions, shown, strict=True)
    ]
    return f"where {' and '.join(shown)}"


@dataclass(frozen=True, slots=True)
class Formula:
    """An objective as a formula.

    Attributes:
        definitions: each uses earlier ones only; the last is `term`.
        reduce: how J is made of the terms of all tokens.
    """

    definitions: tuple[Definition, ...]
    reduce: str

    @property
    def term(self) -> Definition:
        """What a token adds to J."""
        return self.definitions[-1]

    @property
    def lines(self) -> list[str]:
        """All of it, in lines of at most about 100 characters where that can be."""
        width = max(len(d.name) for d in self.definitions)
        text = []
        for d in self.definitions:
            text += _lines(d, width)
        return [*text, f"{'J':{width}} = {self.reduce}"]


def _lines(d: Definition, width: int) -> list[str]:
    head, indent = f"{d.name:{width}} = ", " " * (width + 3)
    if len(d.cases) == 1:
        rows = [""]
        for piece in pieces(d.cases[0].value):
            if rows[-1] and len(indent) + len(rows[-1]) + 1 + len(piece) > _WIDTH:
                rows.append(piece)
            else:
                rows[-1] = f"{rows[-1]} {piece}".lstrip()
    else:
        column = max(len(value) for value, _ in d.texts)
        rows = [f"{value:{column}}   {when}".rstrip() for value, when in d.texts]
    return [(head if index == 0 else indent) + row for index, row in enumerate(rows)]


def formula(program: ir.Program) -> Formula:
    """The formula of a program as it is lowered, before any pass."""
    return _Formula(program).formula()


class _Formula:
    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.ops = program.by_name
        self.reader = Reader(program)
        [self.op] = (op for op in program.ops if isinstance(op, ir.Term))

    def formula(self) -> Formula:
        lines = names.with_aggregates(self.lines(), self.reader)
        lines = names.named_choices(names.channels_as_one(lines), self.reader)
        lines = names.used(lines, _TERM)
        lines = names.used(names.named_repetitions(lines, self.reader), _TERM)
        lines = names.in_order(lines, self.reader)
        definitions = tuple(Definition(name, cases) for name, cases in lines.items())
        return Formula(definitions, self.reduced(self.program.objective))

    # --- the term -------------------------------------------------------------------------------

    def lines(self) -> Lines:
        """The term, and all names that were given to what it is made of. G is written out in it
        where that adds no case."""
        G = Symbol(self.reader.fresh("G"))
        named, written_out = self.term(G), self.term(None)
        ratio = by_lean(*self.reader.both(self.program.gated_ratio))
        uses = [_count(case.value, G) for cases in named.values() for case in cases]
        if max(uses) > 1 or _size(written_out) > _size(named):
            return self.reader.lines | {G.name: ratio} | named
        return self.reader.lines | written_out

    def term(self, G: Symbol | None) -> Lines:
        """weight * surrogate * advantage - penalty, and the weight where it has cases; G is written
        as `G`, or as what it is."""
        found: Lines = {}
        names: dict[str, Symbol] = {}
        for name in self.weights():
            weight = by_lean(*(self.value(name, lean, {}, G) for lean in LEANS))
            if len(weight) > 1:
                names[name] = Symbol(self.reader.fresh("w"))
                found[names[name].name] = weight
        up, down = (self.value(self.op.factor, lean, names, G) for lean in LEANS)
        penalties = [self.penalty(lean, G) for lean in LEANS]
        least = _least(up, down, self.reader.functions[1])
        if least is not None and penalties[0] == penalties[1]:
            found[_TERM] = (Case(minus(least, penalties[0])),)
        else:
            pairs = zip((up, down), penalties, strict=True)
            found[_TERM] = by_lean(*(_term(value, penalty) for value, penalty in pairs))
        return found

    def weights(self) -> list[str]:
        """Expressions that the factor of the advantage is made of, besides G: the weight."""
        G, op = self.program.gated_ratio, self.ops[self.op.factor]
        if op.name == G or not isinstance(op, ir.Pointwise):
            return []
        return [n for n in op.inputs if n != G and isinstance(self.ops[n], ir.Pointwise)]

    def value(self, name: str, lean: int, by: dict[str, Symbol], G: Symbol | None) -> Tree:
        if name in by:
            return by[name]
        op = self.ops[name]
        if name == self.program.gated_ratio:
            return self.reader.tree(name, lean) if G is None else G
        if not isinstance(op, ir.Pointwise):
            return self.reader.tree(name, lean)
        given = [self.value(i, lean, by, G) for i in op.inputs]
        return expression(op.expr, given.__getitem__, self.reader.functions[lean])

    def penalty(self, lean: int, G: Symbol | None) -> Tree:
        name = self.op.penalty
        return ZERO if name is None else self.value(name, lean, {}, G)

    # --- J --------------------------------------------------------------------------------------

    def reduced(self, name: str) -> str:
        """How J is made of the terms, in words."""
        op = self.ops[name]
        match op:
            case ir.Term():
                return _TERM
            case ir.Divided(_, _, x, divisor):
                return f"({self.reduced(x)}) / {show(self.reader.scalar(divisor, None))}"
            case ir.Mean(_, _, total, count):
                of = self.ops[count]
                assert isinstance(of, ir.Count)
                word, members = "mean", self.reader.members(total, of.of)
            case _:
                word, members = "sum", self.reader.members(name)
        return f"{word} over {members.level} of {self.reduced(members.name)}"


def _term(value: Tree, penalty: Tree) -> Tree:
    match value:
        case Apply("where", (condition, yes, no)):
            return Apply("where", (condition, _term(yes, penalty), _term(no, penalty)))
        case _:
            return minus(times(value, ADVANTAGE), penalty)


def _least(up: Tree, down: Tree, functions: Functions) -> Tree | None:
    """min(u A, clip(u) A), if that is what a pessimistic gate makes of the term."""
    match up, down:
        case Apply("exp", (above,)), Apply("exp", (below,)):
            pair = _gate(above, below, functions)
            pair = None if pair is None else (exp(pair[0]), Apply("exp", (pair[1],)))
        case _:
            pair = _gate(up, down, functions)
    if pair is None:
        return None
    return Apply("min", tuple(times(value, ADVANTAGE) for value in pair))


def _gate(up: Tree, down: Tree, functions: Functions) -> tuple[Tree, Tree] | None:
    """u and what the gate makes of it, if `up` is the lower and `down` the higher of the two."""
    match up, down:
        case Apply("min", (x, high)), Apply("max", (y, low)) if x == y:
            if high == low:
                return x, high
            if functions.enclosure(low).high <= functions.enclosure(high).low:
                return x, Apply("clip", (x, low, high))
    return None


def _count(tree: Tree, symbol: Symbol) -> int:
    return sum(part == symbol for part in subtrees(tree))


def _size(lines: Lines) -> int:
    return sum(map(len, lines.values()))


__all__ = ["Definition", "Formula", "formula"]
