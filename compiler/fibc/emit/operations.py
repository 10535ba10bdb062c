"""The expression of each operation of the IR, in the names of one module."""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Iterable

from fibc.analysis.proofs.shape import shape
from fibc.emit import syntax as py
from fibc.emit.expressions import torch_expression
from fibc.emit.gates import PREFIXES
from fibc.emit.stages import STAGES
from fibc.ir import nodes as ir
from fibc.ir.expression import Expr
from fibc.ir.scalar import Scalar, fold
from fibdsl.types import BATCH, TOKEN, TRAJECTORY, Signal

INPUTS = ("x", "advantages", "mask", "params", "levels", "normalizer", "tensors")
"""What every stage takes: log-ratios (0 under the mask), advantages (0 there too), mask (1.0 or
0.0), the vector of parameters, the levels by name, the number of outermost cells that the batch
is part of (NaN: its own), and other tensors (0 under the mask) by name."""

# Words of the generated functions, which values may not take.
_TAKEN = (
    *INPUTS,
    *("loss", "derivative", "metrics", "weights"),
    *("objective", "OBJECTIVE", "Loss", *STAGES),
)


class Operations:
    """Turns operations of one program into expressions.

    Attributes:
        names: the Python names given so far; none is a word of the runtime.
        level_names, params: the Python names of levels and parameters, by their own.
    """

    def __init__(self, program: ir.Program, runtime_names: Iterable[str]) -> None:
        self.program = program
        self.ops = program.by_name
        gates = {op.rule.name for op in program.ops if isinstance(op, ir.Gate)}
        kinds = [f"{prefix}_{name}" for name in sorted(gates) for prefix in PREFIXES]
        self.names = py.Names([*_TAKEN, *kinds, *runtime_names, *dir(builtins)])
        # Levels and params first, so that they have their plain names where they can.
        words = [level.name for level in program.levels]
        if TRAJECTORY not in words:
            words.append(TRAJECTORY)
        self.level_names = {word: self.names.give("level", word) for word in words}
        self.surrogates = _made_of_surrogates(program)
        self.params = {p.name: self.names.give("param", p.name) for p in program.params}

    def value_name(self, value: str) -> str:
        return self.names.give("value", value)

    def gate_of(self, name: str) -> ir.Gate:
        gate = self.ops[name]
        assert isinstance(gate, ir.Gate)
        return gate

    def value(self, op: ir.Op) -> ast.expr:
        def v(name: str) -> ast.expr:
            return py.name(self.value_name(name))

        def where(condition: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
            return py.call(py.dotted("torch", "where"), condition, yes, no)

        zero, one = py.constant(0.0), py.constant(1.0)
        rising = py.compare(py.name("advantages"), ">=", zero)
        match op:
            case ir.LogRatio():
                return py.name("x")
            case ir.LogProb():
                return py.item(py.name("tensors"), py.constant("logp"))
            case ir.Data(_, _, tensor):
                if tensor == "advantages":
                    return py.name("advantages")
                return py.item(py.name("tensors"), py.constant(tensor))
            case ir.Pointwise(_, level, inputs, expr):
                written = self.expression(expr, inputs)
                if level != TOKEN:
                    return written
                # Under the mask expressions have no meaning.
                return where(py.compare(py.name("mask"), ">", zero), written, zero)
            case ir.Deviation(_, _, x):
                return py.call("expm1", v(x))
            case ir.Ratio(_, _, x):
                # By the same function as the deviation and k3, so that it is computed once.
                return py.binary("+", py.call("expm1", v(x)), one)
            case ir.KL(_, _, x, estimator):
                if estimator == "k1":
                    return py.negative(v(x))
                return py.binary("-", py.call("expm1", v(x)), v(x))
            case ir.Channel(_, _, x, sign):
                plus = py.compare(v(x), ">=", zero)
                return where(plus, v(x), zero) if sign > 0 else where(plus, zero, py.negative(v(x)))
            case ir.OwnChannel(_, _, x, plus, minus):
                return where(py.compare(v(x), ">=", zero), v(plus), py.negative(v(minus)))
            case ir.GatedRatio(_, _, y, signal, bounded):
                if signal is Signal.LOG_RATIO:
                    # Where it cannot overflow it need not saturate.
                    return py.call(py.dotted("torch", "exp") if bounded else "exp", v(y))
                return py.binary("+", one, v(y))
            case ir.Term(_, _, gated, penalty):
                term = py.binary("*", v(gated), py.name("advantages"))
                return term if penalty is None else py.binary("-", term, v(penalty))
            case ir.NonNegativeAdvantage():
                # Masked advantages are 0, so the mask says which tokens count.
                return where(rising, py.name("mask"), zero)
            case ir.Select(_, _, up, down):
                return where(rising, v(up), v(down))
            case ir.Count():
                return self.count(op)
            case ir.PushForward(_, level, x):
                if level == BATCH:
                    return self.total(self.ops[x].level, v(x))
                # What the objective adds up is this call's own; aggregates may be an earlier one's.
                how = "collect" if op.name in self.surrogates else "sum"
                return py.method(py.name(self.level_names[level]), how, v(x))
            case ir.Shared(_, level, x):
                return py.method(py.name(self.level_names[level]), "common", v(x))
            case ir.Divided(_, _, x, divisor):
                return py.binary("/", v(x), self.scalar(divisor))
            case ir.Weighted(_, _, x, count):
                return py.binary("*", v(x), v(count))
            case ir.Mean(_, _, total, count):
                return py.call("mean", v(total), v(count))
            case ir.Lift(_, _, x):
                above = self.level_names[self.ops[x].level]
                return py.method(py.name(above), "lift", v(x))
            case ir.Residual(_, _, x, coarse):
                return py.binary("-", v(x), v(coarse))
            case ir.Compose(_, _, coarse, fine):
                return py.binary("+", v(coarse), v(fine))
            case ir.Recombine(_, _, plus, minus):
                return py.binary("-", v(plus), v(minus))
            case ir.Magnitude(_, _, x):
                return where(py.compare(v(x), ">=", zero), v(x), py.negative(v(x)))
            case ir.Present(_, _, x, members):
                there = py.name("mask") if members is None else v(members)
                return where(py.compare(there, ">", zero), v(x), zero)
            case ir.NeighbourBudget(_, _, total, count, magnitude, delta):
                shared = py.binary("*", v(count), self.scalar(delta))
                others = py.binary("-", v(total), v(magnitude))
                left = py.binary("-", shared, others)
                return py.call(py.dotted("torch", "relu"), left)
            case ir.Gate():
                return self.gate(op)
        raise AssertionError(op)

    def expression(self, expr: Expr, inputs: tuple[str, ...]) -> ast.expr:
        """An expression of values of the program."""
        values = [py.name(self.value_name(name)) for name in inputs]
        return torch_expression(expr, values, lambda name: py.name(self.params[name]))

    def total(self, level: str, values: ast.expr) -> ast.expr:
        """The sum over all cells of a level."""
        return py.method(py.name(self.level_names[level]), "total", values)

    def count(self, op: ir.Count) -> ast.expr:
        if op.counts is not None:
            counted: ast.expr = py.name(self.value_name(op.counts))
        elif op.members is None:
            counted = py.name("mask")
        else:
            counted = py.call("present", py.name(self.value_name(op.members)))
        if op.level != BATCH:
            return py.method(py.name(self.level_names[op.level]), "sum", counted)
        own = self.total(op.of if op.counts is None else self.ops[op.counts].level, counted)
        if op.of != self.program.outermost:
            return own
        given = py.name("normalizer")
        return py.call(
            py.dotted("torch", "where"), py.call(py.dotted("torch", "isnan"), given), own, given
        )

    def gate(self, op: ir.Gate) -> ast.expr:
        x = py.name(self.value_name(op.x))
        rule = op.rule
        if shape(rule).identity:
            return x
        value = py.call(f"gate_{rule.name}", *self.gate_arguments(op))
        if op.side is None:
            return value
        # A pessimistic gate acts where it lowers (raises) the value; at equality x itself is taken,
        # whose slope is 1.
        bound = "lowered" if op.side > 0 else "raised"
        return py.call(bound, value, x)

    def gate_arguments(self, op: ir.Gate) -> list[ast.expr]:
        x = py.name(self.value_name(op.x))
        if op.budget is not None:
            budget: ast.expr = py.name(self.value_name(op.budget))
        elif op.upper is None or op.lower is None:
            budget = py.constant(0.0)
        elif op.upper == op.lower:
            budget = self.scalar(op.upper)
        else:
            budget = py.call("by_sign", x, self.scalar(op.upper), self.scalar(op.lower))
        steepness = py.constant(1.0) if op.steepness is None else self.scalar(op.steepness, op)
        return [x, budget, steepness]

    def scalar(self, scalar: Scalar, gate: ir.Gate | None = None) -> ast.expr:
        def count(word: str) -> _Tree:
            assert gate is not None
            name = gate.size if word == "size" else gate.tokens
            assert name is not None
            clamped = ast.Call(
                ast.Attribute(py.name(self.value_name(name)), "clamp", ast.Load()),
                [],
                [ast.keyword("min", py.constant(1))],
            )
            return _Tree(clamped)

        def log(value: _Tree) -> _Tree:
            if isinstance(value.tree, ast.Constant):
                assert isinstance(value.tree.value, int | float)
                return _Tree(py.constant(math.log(value.tree.value)))
            return _Tree(py.call(py.dotted("torch", "log"), value.tree))

        return fold(
            scalar,
            lambda value: _Tree(py.constant(value)),
            lambda name: _Tree(py.name(self.params[name])),
            count,
            log,
        ).tree


def _made_of_surrogates(program: ir.Program) -> set[str]:
    """The values made of gated ratios times advantages."""
    found: set[str] = set()
    for op in program.ops:
        if isinstance(op, ir.Term) or found & set(op.operands):
            found.add(op.name)
    return found


class _Tree:
    """A Python expression with the arithmetic that `fold` needs."""

    def __init__(self, tree: ast.expr) -> None:
        self.tree = tree

    def __add__(self, other: _Tree) -> _Tree:
        return _Tree(py.binary("+", self.tree, other.tree))

    def __sub__(self, other: _Tree) -> _Tree:
        return _Tree(py.binary("-", self.tree, other.tree))

    def __mul__(self, other: _Tree) -> _Tree:
        return _Tree(py.binary("*", self.tree, other.tree))

    def __truediv__(self, other: _Tree) -> _Tree:
        return _Tree(py.binary("/", self.tree, other.tree))

    def __neg__(self) -> _Tree:
        return _Tree(py.negative(self.tree))
