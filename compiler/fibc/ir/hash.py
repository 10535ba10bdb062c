"""A hash of what a program means: the same for specs that differ in layout, names or notation only.

Every value is hashed with the values it is made of, so the order of operations and their names do
not enter. A level is the key its cells come from, a parameter the place where it is first used.
Sums over sums are sums, copies of copies are copies, and arithmetic is written in one way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property

from fibc.analysis.proofs.shape import shape
from fibc.gates.use import cell_budget_name
from fibc.ir import nodes as ir
from fibc.ir.expression import Expr, fold
from fibc.ir.interval import exact
from fibc.ir.scalar import OPERATORS, Binary, ByAdvantage, Const, Count, Log, Negate, Param, Scalar
from fibc.passes import PASSES
from fibc.passes.fold_constants import fold_constants
from fibc.typed import CellBudget
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import TRAJECTORY

Naming = Callable[[str], str]


def semantic_hash(program: ir.Program, defaults: Mapping[str, float]) -> str:
    """16 hexadecimal digits that say which loss this is, as a function of its parameters."""
    slots: dict[str, str] = {}

    def slot(name: str) -> str:
        return slots.setdefault(name, f"${len(slots)} = {number(defaults[name])}")

    # Sums are put in order by defaults: by their places they would be in the order written.
    reader = _Reader(_normal(program), slot, lambda name: f"~{number(defaults[name])}", False)
    return _digest(reader.value(program.objective))


def hash_at(program: ir.Program, values: Mapping[str, float]) -> str:
    """The same of the loss at these parameter values: parameters are numbers."""
    naming: Naming = lambda name: number(values[name])  # noqa: E731
    return _digest(_Reader(_normal(program), naming, naming, True).value(program.objective))


def hash_by_name(program: ir.Program) -> str:
    """The same of the loss as a function of its parameters by their names."""
    naming: Naming = lambda name: f"param {name}"  # noqa: E731
    return _digest(_Reader(_normal(program), naming, naming, False).value(program.objective))


def metric_hashes(program: ir.Program, naming: Naming) -> dict[str, str]:
    """For each metric, by its name, what it means."""
    reader = _Reader(_normal(program), naming, naming, True)
    found = {}
    for metric in program.metrics:
        parts = [type(metric).__name__]
        for f in fields(metric):
            value = getattr(metric, f.name)
            if f.name == "name":
                continue
            names = value if isinstance(value, tuple) else (value,)
            parts += [
                reader.value(v) if isinstance(v, str) and v in reader.ops else str(v) for v in names
            ]
        found[metric.name] = _digest("(" + " ".join(parts) + ")")
    return found


def _normal(program: ir.Program) -> ir.Program:
    """The program without what does nothing. Arithmetic stays: it is written in one way here."""
    for step in PASSES:
        if step is not fold_constants:
            program = step(program)
    return program


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def number(value: float) -> str:
    """A number as hashed expressions have it: the fraction that its decimals are."""
    return str(exact(value))


@dataclass
class _Reader:
    """Writes values out, each once: later uses are the hash of the first.

    Attributes:
        naming: what parameters are written as.
        ordering: what they are put in order by; it may not depend on the order.
        numeric: whether `naming` gives their values.
    """

    program: ir.Program
    naming: Naming
    ordering: Naming
    numeric: bool
    known: dict[str, str] = field(default_factory=dict)

    @property
    def ops(self) -> dict[str, ir.Op]:
        return self.program.by_name

    def value(self, name: str) -> str:
        if name not in self.known:
            self.known[name] = _digest(self.operation(self.program.by_name[name]))
        return self.known[name]

    def level(self, name: str) -> str:
        """What cells those are: the ids they come from, and whether those count within a row."""
        names = self.program.level_names
        for index, level in enumerate(self.program.levels):
            if level.name == name and level.key is not None:
                row = TRAJECTORY in names and index < names.index(TRAJECTORY)
                return f"{'row-wise ' if row else ''}cells of {level.key}"
        return name

    def operation(self, op: ir.Op) -> str:
        level = self.level(op.level)
        match op:
            case ir.PushForward(_, _, x):
                return f"(sum {level} {self.value(self.source(x, ir.PushForward))})"
            case ir.Lift(_, _, x):
                return f"(copy {level} {self.value(self.source(x, ir.Lift))})"
            case ir.Count(_, _, of, _, _):
                return f"(count {self.level(of)} in {level})"
            case ir.Compose(_, _, a, b):
                return f"(add {level} {' '.join(sorted([self.value(a), self.value(b)]))})"
            case ir.Present(_, _, x, _):
                return f"(present {level} {self.value(x)})"
            case ir.Gate():
                return self.gate(op, level)
            case ir.Divided(_, _, x, divisor):
                return f"(divided {level} {self.value(x)} {self.scalar(divisor)})"
            case ir.Data() if op.tensor in self.budgets:
                return self.cells(self.budgets[op.tensor])
            case ir.Pointwise():
                return f"({level} {self.expression(op.expr, op.inputs)})"
            case ir.NeighbourBudget(_, _, total, count, magnitude, delta):
                operands = " ".join(map(self.value, (total, count, magnitude)))
                return f"(left {level} {operands} {self.scalar(delta)})"
            case _:
                return self.plain(op, level)

    @cached_property
    def budgets(self) -> dict[str, CellBudget]:
        """The budgets of cells by the tensor that holds them."""
        return {cell_budget_name(level): b for level, b in self.program.budgets.items()}

    def cells(self, budget: CellBudget) -> str:
        """Budgets by the name of a cell, in the order of the names; the caller says what these
        are."""
        named = [f"{name} {self.scalar(budget.entries[name])}" for name in sorted(budget.entries)]
        other = [] if budget.otherwise is None else [f"else {self.scalar(budget.otherwise)}"]
        return f"(budgets of {budget.key} {'; '.join([*named, *other])})"

    def expression(self, expr: Expr, inputs: tuple[str, ...]) -> str:
        """An expression with its inputs as values and its parameters as they are named."""
        written: str = fold(
            expr,
            self.naming,
            lambda index: self.value(inputs[index]),
            number,
            lambda function, arguments: f"({function} {' '.join(arguments)})",
        )
        return written

    def plain(self, op: ir.Op, level: str) -> str:
        parts = [type(op).__name__, level]
        for f in fields(op):
            value = getattr(op, f.name)
            if f.name not in ("name", "level") and value is not None:
                parts.append(self.value(value) if f.name in op.OPERANDS else str(value))
        return f"({' '.join(parts)})"

    def source(self, name: str, kind: type[ir.PushForward] | type[ir.Lift]) -> str:
        """Past sums of sums and copies of copies: only where they start and end matters."""
        op = self.program.by_name[name]
        return self.source(op.x, kind) if isinstance(op, kind) else name

    def gate(self, op: ir.Gate, level: str) -> str:
        pieces = [
            f"{p.slope} {p.intercept} {p.until} {rule.inclusive}"
            for p, rule in zip(shape(op.rule).pieces, op.rule.pieces, strict=True)
        ]
        if op.budget is not None:
            bounds = self.value(op.budget)
        else:
            bounds = " ".join(self.scalar(b) for b in (op.upper, op.lower) if b is not None)
        k = "" if op.steepness is None else self.scalar(op.steepness, op)
        return f"(gate {level} {self.value(op.x)} [{'; '.join(pieces)}] {bounds} {k} {op.side})"

    # --- arithmetic -----------------------------------------------------------------------------

    def scalar(self, scalar: Scalar, gate: ir.Gate | None = None) -> str:
        """Arithmetic as a sum of products in a fixed order."""
        constant = self.constant(scalar)
        if constant is not None:
            return str(constant)
        match scalar:
            case Const(value):
                return number(value)
            case Param(name):
                return self.naming(name)
            case Count(of):
                counted = {"size": gate.size, "tokens": gate.tokens}[of] if gate else None
                if counted is None:
                    raise InternalError(f"a count of {of} outside a gate that has it")
                return self.value(counted)
            case Log(operand):
                return f"(log {self.scalar(operand, gate)})"
            case Negate(operand):
                return self.scalar(Binary("*", Const(-1.0), operand), gate)
            case Binary("-", left, right):
                return self.scalar(Binary("+", left, Negate(right)), gate)
            case Binary("/", left, right) if self.constant(right) is None:
                return f"({self.scalar(left, gate)} / {self.scalar(right, gate)})"
            case ByAdvantage():
                raise InternalError("a quantity by the sign of the advantage was not chosen")
            case Binary(operator, _, _):
                operator = "*" if operator == "/" else operator
                constant, terms = self.gathered(scalar, operator)
                terms.sort(key=lambda term: replace(self, naming=self.ordering).scalar(term, gate))
                parts = [self.scalar(term, gate) for term in terms]
                if constant != (0 if operator == "+" else 1):
                    parts.append(str(constant))
                return parts[0] if len(parts) == 1 else f"({f' {operator} '.join(parts)})"

    def constant(self, scalar: Scalar) -> Fraction | None:
        """The number that a scalar is, exactly; None if it is none, or an infinite one."""
        match scalar:
            case Const(value):
                return _fraction(number(value))
            case Param(name) if self.numeric:
                return _fraction(self.naming(name))
            case Negate(operand):
                negated = self.constant(operand)
                return None if negated is None else -negated
            case Binary(operator, left, right):
                a, b = self.constant(left), self.constant(right)
                if a is None or b is None or (operator == "/" and b == 0):
                    return None
                return Fraction(OPERATORS[operator](a, b))
            case _:
                return None

    def gathered(self, scalar: Scalar, operator: str) -> tuple[Fraction, list[Scalar]]:
        """What is added or multiplied, nested sums and products taken apart: the numbers as one,
        and the rest."""
        gathered = Fraction(0 if operator == "+" else 1)
        terms: list[Scalar] = []

        def go(s: Scalar) -> None:
            nonlocal gathered
            if isinstance(s, Negate):
                s = Binary("*", Const(-1.0), s.operand)
            if isinstance(s, Binary) and s.operator == "-":
                s = Binary("+", s.left, Negate(s.right))
            value = self.constant(s)
            divisor = self.constant(s.right) if isinstance(s, Binary) else None
            if value is not None:
                gathered = gathered + value if operator == "+" else gathered * value
            elif isinstance(s, Binary) and s.operator == operator:
                go(s.left)
                go(s.right)
            elif operator == "*" and isinstance(s, Binary) and s.operator == "/" and divisor:
                gathered /= divisor
                go(s.left)
            else:
                terms.append(s)

        go(scalar)
        return gathered, terms


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ValueError:
        return None
