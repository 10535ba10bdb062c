"""Reads a program from its objective downwards, for advantages of one sign at a time.

What is the same for all tokens of a cell is written as it is for one of them, so lifts are not
seen. Values whose formulas would be cases inside something else get a name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from fibc.formula.algebra import (
    INFINITY,
    ONE,
    ZERO,
    Aggregate,
    Apply,
    Param,
    Sum,
    Symbol,
    Tree,
    divided,
    minus,
    number,
    plus,
    times,
)
from fibc.formula.cases import Case, Cases, by_lean, flattened, trees
from fibc.formula.channels import MINUS, PLUS, SIGNED
from fibc.formula.functions import (
    LOG_RATIO,
    LOGP,
    TENSORS,
    Functions,
    exp,
    is_fixed,
    one_plus,
)
from fibc.formula.gates import expression, gated
from fibc.gates.use import cell_budget_name
from fibc.ir import nodes as ir
from fibc.ir.scalar import Binary, ByAdvantage, Const, Count, Log, Negate, Scalar
from fibc.ir.scalar import Param as Named
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import Signal

LEANS = (1, -1)


def letters() -> Iterator[str]:
    """Names for what has none."""
    yield from "uvzqh"
    yield from (f"v{index}" for index in itertools.count(2))


class Reader:
    """The formulas of values.

    Attributes:
        lines: what names stand for, by name.
    """

    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.ops = program.by_name
        self.lines: dict[str, Cases] = {}
        self.aggregates: list[Aggregate] = []
        ranges = {p.name: p.range for p in program.params}
        self.functions = {lean: Functions(ranges, lean) for lean in LEANS}
        self.known: dict[tuple[str, int], Tree] = {}
        self.gated: dict[str, dict[int, Tree]] = {}
        self.names = {p.name for p in program.params}
        self.x = self.fresh("x")

    def fresh(self, *wanted: str) -> str:
        """A name that nothing has yet, one of `wanted` if it can be."""
        taken = self.lines.keys() | self.names
        return next(name for name in itertools.chain(wanted, letters()) if name not in taken)

    def name(self, cases: Cases, *wanted: str) -> Symbol:
        """A name for something; the one it has already, if it has one."""
        for name, known in self.lines.items():
            if known == cases and not name.endswith(SIGNED):
                return Symbol(name)
        name = self.fresh(*wanted)
        self.lines[name] = cases
        return Symbol(name)

    def both(self, name: str) -> tuple[Tree, Tree]:
        """A value where the advantage is >= 0, and where it is below."""
        return self.tree(name, 1), self.tree(name, -1)

    def settled(self, name: str) -> Tree:
        """A value as one tree whatever the advantage is: by a name, if it has cases."""
        cases = by_lean(*self.both(name))
        if len(cases) == 1:
            return cases[0].value
        # What is aggregated by an expression is an expression, too; the signal is x.
        return self.name(cases, *([] if isinstance(self.ops[name], ir.Pointwise) else [self.x]))

    def tree(self, name: str, lean: int) -> Tree:
        if (name, lean) not in self.known:
            self.known[name, lean] = self.read(self.ops[name], lean)
        return self.known[name, lean]

    def read(self, op: ir.Op, lean: int) -> Tree:
        match op:
            case ir.LogRatio():
                return LOG_RATIO
            case ir.LogProb():
                return LOGP
            case ir.Data(_, _, tensor):
                return TENSORS.get(tensor) or self.cell_budget(tensor)
            case ir.Deviation(_, _, x):
                return minus(exp(self.tree(x, lean)), ONE)
            case ir.Channel():
                return self.channel(op)
            case ir.Select(_, _, up, down):
                return self.tree(up if lean > 0 else down, lean)
            case ir.Lift(_, _, x) | ir.Shared(_, _, x) | ir.Present(_, _, x):
                return self.tree(x, lean)
            case ir.Count(_, level, of):
                return Aggregate("n", ONE, of, level)
            case ir.PushForward():
                return self.total("sum", op.name)
            case ir.Mean():
                return self.mean(op)
            case ir.Residual(_, _, x, coarse):
                return minus(self.tree(x, lean), self.tree(coarse, lean))
            case ir.Compose(_, _, coarse, fine):
                return plus(self.tree(coarse, lean), self.tree(fine, lean))
            case ir.Magnitude(_, _, x):
                return self.functions[lean].apply("abs", self.tree(x, lean))
            case ir.NeighbourBudget():
                return self.left(op, lean)
            case ir.Gate():
                return self.gate(op, lean)
            case ir.GatedRatio(_, _, y, signal):
                value = self.gated_value(y, lean)
                return exp(value) if signal is Signal.LOG_RATIO else one_plus(value)
            case ir.Pointwise():
                return expression(
                    op.expr, lambda i: self.tree(op.inputs[i], lean), self.functions[lean]
                )
            case _:
                raise InternalError(f"no formula of {op}")

    # --- aggregates -----------------------------------------------------------------------------

    def mean(self, op: ir.Mean) -> Tree:
        count = self.ops[op.count]
        assert isinstance(count, ir.Count)
        mean = self.total("mean", op.total, count.of)
        # Members that count by how many cells of a finer level they hold.
        if isinstance(mean, Aggregate) and mean.of != count.of:
            return replace(mean, weight=count.of)
        return mean

    def members(self, total: str, of: str | None = None) -> ir.Op:
        """What is added up in a total: sums of sums, down to the level `of`."""
        op = self.ops[total]
        while isinstance(op, ir.PushForward) and op.level != of:
            op = self.ops[op.x]
        return self.ops[op.x] if isinstance(op, ir.Weighted) else op

    def total(self, kind: str, name: str, of: str | None = None) -> Tree:
        """A sum, or the mean that it is the total of."""
        op, over = self.members(name, of), self.ops[name].level
        body = self.settled(op.name)
        if is_fixed(body):
            return body if kind == "mean" else times(body, Aggregate("n", ONE, op.level, over))
        return Aggregate(kind, body, op.level, over)

    # --- gates ----------------------------------------------------------------------------------

    def channel(self, op: ir.Channel) -> Tree:
        if self.x + SIGNED not in self.lines:
            up, down = self.both(op.x)
            parts = Apply("channel", (up,)), Apply("channel", (down,))
            self.lines[self.x + SIGNED] = by_lean(*parts)
        return Symbol(self.x + (PLUS if op.sign > 0 else MINUS))

    def gate(self, op: ir.Gate, lean: int) -> Tree:
        x = self.tree(op.x, lean)
        k = None if op.steepness is None else self.scalar(op.steepness, op)
        upper: Tree = INFINITY
        lower: Tree = INFINITY
        if op.budget is not None:
            upper, lower = self.budgets(op.budget, x, lean)
        elif op.upper is not None and op.lower is not None:
            upper, lower = self.scalar(op.upper, op), self.scalar(op.lower, op)
        return gated(op, x, upper, lower, k, self.functions[lean])

    def budgets(self, name: str, x: Tree, lean: int) -> tuple[Tree, Tree]:
        """A computed budget for either side of x."""
        budget = self.tree(name, lean)
        match budget:
            case Apply("where", (Apply("<=", (zero, gated)), upper, lower)):
                if (zero, gated) == (ZERO, x):
                    return upper, lower
        return budget, budget

    def cell_budget(self, tensor: str) -> Symbol:
        """The budget of a cell by its name."""
        for level, budget in self.program.budgets.items():
            if cell_budget_name(level) == tensor:
                cases = [
                    Case(
                        self.scalar(value, None), (Apply("is", (Symbol(budget.key), Symbol(name))),)
                    )
                    for name, value in budget.entries.items()
                ]
                if budget.otherwise is not None:
                    cases.append(Case(self.scalar(budget.otherwise, None)))
                symbol = Symbol(f"budget({level})")
                self.lines[symbol.name] = tuple(cases)
                return symbol
        raise InternalError(f"a tensor of a batch that nothing gives: {tensor}")

    def left(self, op: ir.NeighbourBudget, lean: int) -> Tree:
        """What the other members of a cell leave of their budget."""
        total, count, own = (self.tree(v, lean) for v in (op.total, op.count, op.magnitude))
        others = minus(total, own)
        left = minus(times(self.scalar(op.delta, None), count), others)
        return self.name(flattened(Apply("max", (ZERO, left))), "B")

    def scalar(self, scalar: Scalar, gate: ir.Gate | None) -> Tree:
        match scalar:
            case Const(value):
                return number(value)
            case Named(name):
                return Param(name)
            case Count(of):
                assert gate is not None
                counted = {"size": gate.size, "tokens": gate.tokens}[of]
                assert counted is not None
                return self.tree(counted, 1)
            case Negate(operand):
                return minus(ZERO, self.scalar(operand, gate))
            case Log(operand):
                return self.functions[1].apply("log", self.scalar(operand, gate))
            case Binary(operator, left, right):
                function = {"+": plus, "-": minus, "*": times, "/": divided}[operator]
                return function(self.scalar(left, gate), self.scalar(right, gate))
            case ByAdvantage():
                raise InternalError("a quantity by the sign of the advantage was not chosen")

    # --- the gated value ------------------------------------------------------------------------

    def gated_value(self, name: str, lean: int) -> Tree:
        """y, by a name where it is made of several gates."""
        if name not in self.gated:
            self.gated[name] = self.gated_values(name)
        return self.gated[name][lean]

    def gated_values(self, name: str) -> dict[int, Tree]:
        chosen = {lean: self.chosen(name, lean) for lean in LEANS}
        up, down = (self.ops[chosen[lean]] for lean in LEANS)
        if isinstance(up, ir.Recombine) and isinstance(down, ir.Recombine):
            plus_cases = by_lean(self.tree(up.plus, 1), self.tree(down.plus, -1))
            minus_cases = by_lean(self.tree(up.minus, 1), self.tree(down.minus, -1))
            return self.of_channels(plus_cases, minus_cases)
        trees = {lean: self.tree(chosen[lean], lean) for lean in LEANS}
        cases = by_lean(trees[1], trees[-1])
        self.find_aggregates(cases)
        if any(self.is_hierarchy(chosen[lean], lean) for lean in LEANS):
            return dict.fromkeys(LEANS, self.name(cases, "y"))
        return trees

    def chosen(self, name: str, lean: int) -> str:
        """The value that is selected for advantages of a sign."""
        op = self.ops[name]
        if not isinstance(op, ir.Select):
            return name
        return self.chosen(op.up if lean > 0 else op.down, lean)

    def is_hierarchy(self, name: str, lean: int) -> bool:
        """Whether a gated value is a sum over several levels."""
        op = self.ops[name]
        while isinstance(op, ir.Lift):
            op = self.ops[op.x]
        if not isinstance(op, ir.Compose):
            return False
        coarse, fine, both = (self.tree(v, lean) for v in (op.coarse, op.fine, op.name))
        if coarse == ZERO or fine == ZERO:
            return self.is_hierarchy(op.coarse if fine == ZERO else op.fine, lean)
        return isinstance(both, Sum)

    def of_channels(self, above: Cases, below: Cases) -> dict[int, Tree]:
        """What two channels make: their difference."""
        values = [case.value for case in (*above, *below)]
        if values == [Symbol(self.x + PLUS), Symbol(self.x + MINUS)]:
            # Nothing is gated: the two parts are the signal again.
            [signal] = {op.x for op in self.program.ops if isinstance(op, ir.Channel)}
            return {lean: self.tree(signal, lean) for lean in LEANS}
        if all(value == ZERO for value in values):
            return dict.fromkeys(LEANS, ZERO)
        self.find_aggregates(above)
        self.find_aggregates(below)
        y = self.fresh("y")
        self.lines[y + PLUS], self.lines[y + MINUS] = above, below
        return dict.fromkeys(LEANS, minus(Symbol(y + PLUS), Symbol(y + MINUS)))

    def find_aggregates(self, cases: Cases) -> None:
        """Notes the aggregates that gates see."""
        for tree in trees(cases):
            if isinstance(tree, Aggregate) and tree.kind != "n" and tree not in self.aggregates:
                self.aggregates.append(tree)
