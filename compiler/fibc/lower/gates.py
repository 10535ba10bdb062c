"""Gates: those made of pieces as one operation, others as expressions."""

from __future__ import annotations

from dataclasses import dataclass, field

from fibc.gates.use import cell_budget_name
from fibc.ir import nodes as ir
from fibc.ir.expression import Call, Const, Expr, Input, of_scalar, substituted
from fibc.ir.scalar import Scalar, counted, leaning
from fibc.ir.simplify import simplified
from fibc.lower.tokens import Tokens
from fibc.lower.values import Lean, Values
from fibc.typed import TypedGate
from fibdsl.types import TOKEN


@dataclass
class Gates:
    """Writes gates.

    Attributes:
        hits: of each gate that is an expression, by its name: the inputs of that, and for each of
            its cases an expression that is 1 where the case holds.
    """

    values: Values
    tokens: Tokens
    hits: dict[str, tuple[tuple[str, ...], tuple[Expr, ...]]] = field(default_factory=dict)

    def gate(
        self, level: str, name: str, x: str, sign: Lean, lean: Lean, gate: TypedGate | None = None
    ) -> str:
        gate = self.values.spec.gates[level] if gate is None else gate
        side: Lean = None
        if gate.pessimistic and lean is not None:
            # Lowering y in the - channel raises the ratio, so the channel flips the side.
            side = 1 if lean * (sign or 1) > 0 else -1
        if gate.rule.neighbours:
            return self.values.add(self.censor(level, name, x, gate, side))
        if not gate.rule.pieces:
            return self.cases(level, name, x, gate, self.sides(gate, sign, lean), lean, side)
        upper = lower = None
        budget = None
        if gate.budget is not None:
            upper, lower = self.sides(gate, sign, lean)[gate.rule.budgets[0]]
            if cell_budget_name(level) in counted(upper) | counted(lower):
                budget = self.cell_budget(level, f"budget.{name}", x, upper, lower)
                upper = lower = None
        k = None
        if gate.steepness is not None:
            k = leaning(gate.steepness, lean or 1)
        used = counted(k) if k is not None else frozenset()
        return self.values.add(
            ir.Gate(
                name,
                level,
                x,
                gate.rule,
                upper,
                lower,
                budget,
                k,
                self.values.count(self.values.children(level), level) if "size" in used else None,
                self.values.count(TOKEN, level) if "tokens" in used else None,
                side,
            )
        )

    def sides(self, gate: TypedGate, sign: Lean, lean: Lean) -> dict[str, tuple[Scalar, Scalar]]:
        """What a gate is given for x >= 0 and for x < 0, for one channel and one lean."""
        found = {}
        for name, both in gate.arguments.items():
            upper, lower = leaning(both.upper, lean or 1), leaning(both.lower, lean or 1)
            # Split: each channel has its own budget, for deviations of either sign.
            if sign is not None:
                upper = lower = upper if sign > 0 else lower
            found[name] = upper, lower
        return found

    def cases(
        self,
        level: str,
        name: str,
        x: str,
        gate: TypedGate,
        sides: dict[str, tuple[Scalar, Scalar]],
        lean: Lean,
        side: Lean,
    ) -> str:
        """A gate that is not made of pieces, as an expression; which case holds is measured."""
        inputs = [x]
        places = [self.gate_input(word, level, sides, lean, inputs) for word in gate.rule.inputs]
        gated: Expr = Const(0.0)
        hits: list[Expr] = [Const(0.0)] * len(gate.rule.cases)
        for index, case in reversed(list(enumerate(gate.rule.cases))):
            value = substituted(case.value, places)
            hit = [Const(1.0 if i == index else 0.0) for i in range(len(hits))]
            if case.condition is None:
                gated, hits = value, list(hit)
                continue
            condition = substituted(case.condition, places)
            gated = Call("where", (condition, value, gated))
            hits = [
                Call("where", (condition, one, other)) for one, other in zip(hit, hits, strict=True)
            ]
        if side is not None:
            acts = Call("<", (gated, Input(0)) if side > 0 else (Input(0), gated))
            # A gate that does not act passes, whichever of its cases x is in.
            regimes = gate.rule.regimes
            passes = regimes.index("pass") if "pass" in regimes else 0
            idle = [Const(1.0 if i == passes else 0.0) for i in range(len(hits))]
            hits = [Call("where", (acts, h, i)) for h, i in zip(hits, idle, strict=True)]
            # Where both are equal x is taken, whose slope is 1.
            gated = Call("min" if side > 0 else "max", (Input(0), gated))
        self.hits[name] = tuple(inputs), tuple(map(simplified, hits))
        return self.values.add(ir.Pointwise(name, level, tuple(inputs), simplified(gated)))

    def gate_input(
        self,
        word: str,
        level: str,
        sides: dict[str, tuple[Scalar, Scalar]],
        lean: Lean,
        inputs: list[str],
    ) -> Expr:
        """What an input of a gate's cases is, over `inputs`, which grow by what it needs."""

        def given(value: str) -> Expr:
            if value not in inputs:
                inputs.append(value)
            return Input(inputs.index(value))

        def of_cell(of: str) -> Expr:
            if of == cell_budget_name(level):
                return given(self.budget_of(level))
            count = self.values.count(self.values.children(level) if of == "size" else TOKEN, level)
            return Call("max", (given(count), Const(1.0)))

        if word == "x":
            return Input(0)
        if word in sides:
            upper, lower = (of_scalar(s, of_cell) for s in sides[word])
            if upper == lower:
                return upper
            return Call("where", (Call("<=", (Const(0.0), Input(0))), upper, lower))
        if word == "advantage":
            return Const(float(lean or 1))
        return of_cell(word) if word in ("size", "tokens") else given(self.tokens.leaf(word))

    def cell_budget(self, level: str, name: str, x: str, upper: Scalar, lower: Scalar) -> str:
        """A budget that is made of that of the cell."""
        inputs = [x]
        expr = self.gate_input("C", level, {"C": (upper, lower)}, None, inputs)
        return self.values.add(ir.Pointwise(name, level, tuple(inputs), simplified(expr)))

    def budget_of(self, level: str) -> str:
        """The budget of each cell: what the caller gives its tokens."""
        tensor = cell_budget_name(level)
        value = self.values.add(ir.Data(f"data.{tensor}", TOKEN, tensor))
        for step in self.values.path(TOKEN, level):
            value = self.values.add(ir.Shared(f"{tensor}.{step}", step, value))
        return value

    def censor(self, level: str, name: str, x: str, gate: TypedGate, side: Lean) -> ir.Gate:
        assert gate.over is not None
        assert gate.budget is not None
        path = self.values.path(level, gate.over)
        magnitude = self.values.add(ir.Magnitude(f"abs.{x}", level, x))
        total = self.values.add(
            ir.Present(f"present.{magnitude}", level, magnitude, self.values.members(level))
        )
        for step in path:
            total = self.values.add(ir.PushForward(f"sum.abs.{x}.{step}", step, total))
        count = self.values.count(level, gate.over)
        for step in reversed((level, *path[:-1])):
            total = self.values.add(ir.Lift(f"K.{total}.{step}", step, total))
            count = self.values.add(ir.Lift(f"K.{count}.{step}", step, count))
        budget = self.values.add(
            ir.NeighbourBudget(f"budget.{level}", level, total, count, magnitude, gate.budget.upper)
        )
        return ir.Gate(name, level, x, gate.rule, budget=budget, side=side)
