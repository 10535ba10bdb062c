"""What every program must satisfy, checked after lowering and after each pass."""

from __future__ import annotations

import itertools

from fibc.ir import nodes as ir
from fibc.ir.expression import inputs_of, params_of
from fibc.ir.scalar import counted, references
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import BATCH, TOKEN, TRAJECTORY

# Operations whose operands live where their result lives.
_POINTWISE = (
    ir.LogProb,
    ir.Deviation,
    ir.Ratio,
    ir.KL,
    ir.Channel,
    ir.OwnChannel,
    ir.GatedRatio,
    ir.Term,
    ir.Select,
    ir.Weighted,
    ir.Mean,
    ir.Divided,
    ir.Pointwise,
    ir.Residual,
    ir.Compose,
    ir.Recombine,
    ir.Magnitude,
    ir.Present,
    ir.NeighbourBudget,
    ir.Gate,
)
_TOKEN_ONLY = (
    ir.LogRatio,
    ir.LogProb,
    ir.Data,
    ir.Deviation,
    ir.Ratio,
    ir.KL,
    ir.Channel,
    ir.OwnChannel,
    ir.GatedRatio,
    ir.Term,
    ir.Select,
    ir.NonNegativeAdvantage,
    ir.Recombine,
)


def verify(program: ir.Program, after: str) -> ir.Program:
    """`program`, or InternalError naming the operation that is wrong and the stage before."""
    _Verifier(program, after).run()
    return program


class _Verifier:
    def __init__(self, program: ir.Program, after: str) -> None:
        self.program = program
        self.after = after
        names = program.level_names
        self.parents: dict[str, tuple[str, ...]] = {
            fine: (coarse, BATCH) for fine, coarse in itertools.pairwise(names)
        }
        self.parents[names[-1]] = (BATCH,)
        if TRAJECTORY not in names:
            # The rows of the batch, beside the chain: only tokens nest in them.
            self.parents[TOKEN] = (*self.parents[TOKEN], TRAJECTORY)
            self.parents[TRAJECTORY] = (BATCH,)

    def check(self, condition: bool, op: ir.Op, what: str) -> None:
        if not condition:
            raise InternalError(f"after {self.after}: {op.name} = {op}: {what}")

    def run(self) -> None:
        seen: dict[str, ir.Op] = {}
        params = {p.name for p in self.program.params}
        for op in self.program.ops:
            self.check(op.name not in seen, op, "defined twice")
            self.check(op.level in self.parents or op.level == BATCH, op, "unknown level")
            for name in op.operands:
                self.check(name in seen, op, f"{name} is not defined before it")
            self.operation(op, seen, params)
            seen[op.name] = op
        for level, budget in self.program.budgets.items():
            used = frozenset[str]().union(*map(references, budget.scalars))
            if level not in self.program.level_names or not used <= params:
                raise InternalError(f"after {self.after}: the budgets of {level} are {budget}")
        for name in self.program.roots:
            if name not in seen:
                raise InternalError(f"after {self.after}: root {name} is not defined")
        G, J = seen[self.program.gated_ratio], seen[self.program.objective]
        self.check(G.level == TOKEN, G, "the gated ratio is not at the token")
        self.check(J.level == BATCH, J, "the objective is not at the batch")

    def operation(self, op: ir.Op, seen: dict[str, ir.Op], params: set[str]) -> None:
        if isinstance(op, _POINTWISE):
            for name in op.operands:
                self.check(seen[name].level == op.level, op, f"{name} is at another level")
        if isinstance(op, _TOKEN_ONLY):
            self.check(op.level == TOKEN, op, "belongs at the token")
        match op:
            case ir.PushForward() | ir.Shared():
                below = seen[op.x].level
                self.check(op.level in self.parents.get(below, ()), op, f"not a parent of {below}")
            case ir.Lift():
                above = seen[op.x].level
                self.check(above in self.parents.get(op.level, ()), op, f"{above} is no parent")
            case ir.Count(_, level, of, counts, members):
                below = of if counts is None else seen[counts].level
                if members is not None:
                    self.check(seen[members].level == of, op, f"{members} is not at {of}")
                self.check(level in self.parents.get(below, ()), op, f"not a parent of {below}")
            case ir.Gate():
                self.gate(op, params)
            case ir.NeighbourBudget():
                self.check(references(op.delta) <= params, op, "unknown params")
            case ir.Divided():
                self.check(references(op.divisor) <= params, op, "unknown params")
            case ir.Pointwise(_, _, inputs, expr):
                self.check(bool(inputs), op, "an expression without inputs")
                self.check(inputs_of(expr) <= set(range(len(inputs))), op, "unknown inputs")
                self.check(params_of(expr) <= params, op, "unknown params")
            case _:
                pass

    def gate(self, op: ir.Gate, params: set[str]) -> None:
        rule = op.rule
        self.check(bool(rule.pieces), op, "a gate without pieces")
        bounded = op.budget is not None or (op.upper is not None and op.lower is not None)
        self.check(bool(rule.budgets) == bounded, op, "budgets do not fit the gate")
        self.check(
            (rule.steepness is not None) == (op.steepness is not None), op, "steepness does not fit"
        )
        for scalar in (op.upper, op.lower, op.steepness):
            if scalar is not None:
                self.check(references(scalar) <= params, op, "unknown params")
        if op.steepness is not None:
            used = counted(op.steepness)
            self.check(("size" in used) <= (op.size is not None), op, "size is missing")
            self.check(("tokens" in used) <= (op.tokens is not None), op, "tokens is missing")
