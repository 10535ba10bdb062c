"""A hash of what a program means: the same for specs that differ in layout, names or notation only.

Every value is hashed with the values it is made of, so the order of operations and their names do
not enter. A level is the key its cells come from, a parameter the place where it is first used.
Sums over sums are sums, copies of copies are copies, and arithmetic is written in one way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction

from fibc.analysis.shape import shape
from fibc.ir import nodes as ir
from fibc.ir.interval import exact
from fibc.ir.scalar import Binary, Const, Count, Log, Negate, Param, Scalar
from fibc.passes import optimise
from fibdsl.builtins import GATES
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import TRAJECTORY

Naming = Callable[[str], str]


def semantic_hash(program: ir.Program, defaults: Mapping[str, float]) -> str:
    """16 hexadecimal digits that say which loss this is, as a function of its parameters."""
    slots: dict[str, str] = {}

    def slot(name: str) -> str:
        return slots.setdefault(name, f"${len(slots)} = {number(defaults[name])}")

    return _digest(text_of(program, program.objective, slot))


def hash_at(program: ir.Program, values: Mapping[str, float]) -> str:
    """The same of the loss at these parameter values: parameters are numbers."""
    return _digest(text_of(program, program.objective, lambda name: number(values[name])))


def hash_by_name(program: ir.Program) -> str:
    """The same of the loss as a function of its parameters by their names."""
    return _digest(text_of(program, program.objective, lambda name: f"param {name}"))


def metric_hashes(program: ir.Program, naming: Naming) -> dict[str, str]:
    """For each metric, by its name, what it means."""
    reader = _Reader(optimise(program), naming)
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


def text_of(program: ir.Program, name: str, naming: Naming) -> str:
    """A value of a program as one expression."""
    return _Reader(optimise(program), naming).value(name)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def number(value: float) -> str:
    """A number as hashed expressions have it: the fraction that its decimals are."""
    return str(exact(value))


@dataclass
class _Reader:
    """Writes values out, each once: later uses are the hash of the first."""

    program: ir.Program
    naming: Naming
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
            case ir.NeighbourBudget(_, _, total, count, magnitude, delta):
                operands = " ".join(map(self.value, (total, count, magnitude)))
                return f"(left {level} {operands} {self.scalar(delta)})"
            case _:
                return self.plain(op, level)

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
            for p, rule in zip(shape(GATES[op.kind]).pieces, GATES[op.kind].pieces, strict=True)
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
            case Binary("/", left, right) if self.divisor(scalar, gate) is None:
                return f"({self.scalar(left, gate)} / {self.scalar(right, gate)})"
            case Binary(operator, _, _):
                operator = "*" if operator == "/" else operator
                parts = sorted(self.operands(scalar, operator, gate))
                return parts[0] if len(parts) == 1 else f"({f' {operator} '.join(parts)})"

    def divisor(self, scalar: Scalar, gate: ir.Gate | None) -> Fraction | None:
        """The number that something is divided by, if it is a number."""
        if isinstance(scalar, Binary) and scalar.operator == "/":
            return _fraction(self.scalar(scalar.right, gate)) or None
        return None

    def operands(self, scalar: Scalar, operator: str, gate: ir.Gate | None) -> list[str]:
        """What is added or multiplied, nested sums and products taken apart, numbers gathered."""
        flat: list[str] = []
        number: Fraction | None = None

        def go(s: Scalar) -> None:
            nonlocal number
            if isinstance(s, Negate):
                s = Binary("*", Const(-1.0), s.operand)
            if isinstance(s, Binary) and s.operator == "-":
                s = Binary("+", s.left, Negate(s.right))
            if isinstance(s, Binary) and s.operator == operator:
                go(s.left)
                go(s.right)
                return
            divisor = self.divisor(s, gate)
            if operator == "*" and divisor is not None and isinstance(s, Binary):
                gather(1 / divisor)
                go(s.left)
                return
            text = self.scalar(s, gate)
            value = _fraction(text)
            if value is None:
                flat.append(text)
            else:
                gather(value)

        def gather(value: Fraction) -> None:
            nonlocal number
            if number is None:
                number = value
            else:
                number = number + value if operator == "+" else number * value

        go(scalar)
        neutral = Fraction(0 if operator == "+" else 1)
        if number is not None and (number != neutral or not flat):
            flat.append(str(number))
        return flat


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ValueError:
        return None
