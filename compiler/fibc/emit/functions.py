"""The functions of a module: one a stage, and `objective`, which runs them."""

from __future__ import annotations

import ast

from fibc.emit import syntax as py
from fibc.emit.metrics import Metrics
from fibc.emit.operations import INPUTS, Operations
from fibc.emit.stages import DOCS, Stage, cut
from fibc.ir import nodes as ir
from fibc.ir.scalar import Scalar, references
from fibdsl.types import BATCH


class Functions:
    """Writes the functions of one program; each stage takes only values of earlier ones."""

    def __init__(self, code: Operations) -> None:
        self.code = code
        self.metrics = Metrics(code)
        self.stages = cut(code.program)

    def all(self) -> list[ast.stmt]:
        return [*map(self.stage, self.stages), self.objective()]

    def stage(self, stage: Stage) -> ast.stmt:
        body = self.unpack(stage)
        body += [py.assign(self.code.value_name(op.name), self.code.value(op)) for op in stage.ops]
        if stage.name == "measure":
            body += self.metrics.statements()
            # Not divided yet, so that those of several ranks add up.
            result = py.call("sums_and_counts", py.name("metrics"))
        else:
            given = [py.name(self.code.value_name(n)) for n in stage.gives]
            if stage.name == "reduce":
                given = [py.negative(py.name(self.code.value_name(self.code.program.objective)))]
            result = given[0] if len(given) == 1 else py.tuple_of(given)
        inputs = [*INPUTS, *(("normalizer",) if stage.name == "reduce" else ())]
        arguments = [*inputs, *(self.code.value_name(n) for n in stage.takes)]
        return py.function(stage.name, arguments, DOCS[stage.name], body, result)

    def unpack(self, stage: Stage) -> list[ast.stmt]:
        """The levels and params that a stage uses, by name."""
        scalars: list[Scalar] = []
        ops: list[ir.Op] = list(stage.ops)
        if stage.name == "measure":
            # Regimes are found again from what the gates looked at.
            ops += map(self.code.gate_of, self.metrics.measured_gates())
        for op in ops:
            match op:
                case ir.Gate():
                    scalars += [s for s in (op.upper, op.lower, op.steepness) if s is not None]
                case ir.NeighbourBudget():
                    scalars.append(op.delta)
                case _:
                    pass
        used = {name for s in scalars for name in references(s)}
        body: list[ast.stmt] = []
        for level in self.code.level_names:
            measured = stage.name == "measure" and level in self.metrics.levels()
            if measured or any(self.edge(op) == level for op in stage.ops):
                body.append(
                    py.assign(
                        self.code.level_names[level], py.item(py.name("levels"), py.constant(level))
                    )
                )
        for index, (name, python) in enumerate(self.code.params.items()):
            if name in used:
                body.append(py.assign(python, py.item(py.name("params"), py.constant(index))))
        return body

    def edge(self, op: ir.Op) -> str | None:
        """The level whose children an operation sums over, or lifts to; of a sum over the whole
        batch, the level whose cells it sums."""
        match op:
            case ir.PushForward(_, level, x):
                return self.code.ops[x].level if level == BATCH else level
            case ir.Count(_, level, of, counts, _):
                if level != BATCH:
                    return level
                return of if counts is None else self.code.ops[counts].level
            case ir.Lift(_, _, x):
                return self.code.ops[x].level
            case _:
                return None

    def objective(self) -> ast.stmt:
        """The function that is differentiated: the first four stages, one after the other."""
        body: list[ast.stmt] = []
        inputs = [py.name(i) for i in INPUTS]
        for stage in self.stages[:-1]:
            extra = [py.name("normalizer")] if stage.name == "reduce" else []
            call = py.call(
                stage.name,
                *inputs,
                *extra,
                *(py.name(self.code.value_name(n)) for n in stage.takes),
            )
            if stage.name == "reduce":
                body.append(py.assign("loss", call))
            elif len(stage.gives) == 1:
                body.append(py.assign(self.code.value_name(stage.gives[0]), call))
            elif stage.gives:
                body.append(py.assign([self.code.value_name(n) for n in stage.gives], call))
        measured = py.tuple_of(py.name(self.code.value_name(n)) for n in self.stages[-1].takes)
        return py.function(
            "objective",
            [*INPUTS, "normalizer"],
            "The loss, to be differentiated with respect to x, and the values `measure` takes.",
            body,
            py.tuple_of([py.name("loss"), measured]),
        )
