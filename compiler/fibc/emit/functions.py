"""The functions of a module: one a stage, and `objective`, which runs them."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from fibc.emit import syntax as py
from fibc.emit.adjoint import Adjoint
from fibc.emit.metrics import Metrics
from fibc.emit.operations import INPUTS, Operations
from fibc.emit.stages import DOCS, GRADIENT, TOKEN_GRADIENT, Stage, cut
from fibc.emit.together import together


class Functions:
    """Writes the functions of one program; each stage takes only values of earlier ones."""

    def __init__(self, code: Operations) -> None:
        self.code = code
        self.metrics = Metrics(code)
        self.adjoint = Adjoint(code)
        self.parts = {TOKEN_GRADIENT: self.adjoint.token, GRADIENT: self.adjoint.rest}
        self.stages = cut(code.program, {name: part.reads for name, part in self.parts.items()})

    def all(self) -> list[ast.stmt]:
        return [*map(self.stage, self.stages), self.objective()]

    def stage(self, stage: Stage) -> ast.stmt:
        body = [py.assign(self.code.value_name(op.name), self.code.value(op)) for op in stage.ops]
        taken: tuple[str, ...] = ()
        if stage.name == "measure":
            body += self.metrics.statements()
            result = self.metrics.result()
        elif stage.name in self.parts:
            part = self.parts[stage.name]
            body += part.body
            taken = part.takes
            given = part.gives
            result = given if isinstance(given, ast.expr) else _tuple(map(py.name, given))
        else:
            result = _tuple(py.name(self.code.value_name(n)) for n in stage.gives)
            if stage.name == "reduce":
                taken = self.adjoint.weights
                result = self.adjoint.loss
        arguments = [*INPUTS, *taken, *(self.code.value_name(n) for n in stage.takes)]
        if stage.name != "measure":
            body = together(body)
        body = [*self.unpack([*body, ast.Expr(result)]), *body]
        return py.function(stage.name, arguments, DOCS[stage.name], body, result)

    def unpack(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The levels and params that some statements use, by name."""
        used = {n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name)}
        levels = [
            py.assign(python, py.item(py.name("levels"), py.constant(level)))
            for level, python in self.code.level_names.items()
            if python in used
        ]
        params = [
            py.assign(python, py.item(py.name("params"), py.constant(index)))
            for index, python in enumerate(self.code.params.values())
            if python in used
        ]
        return levels + params

    def objective(self) -> ast.stmt:
        """The function that runs the stages but the last, one after the other."""
        body: list[ast.stmt] = []
        inputs = [py.name(i) for i in INPUTS]
        for stage in self.stages[:-1]:
            part = self.parts.get(stage.name)
            values = [self.code.value_name(n) for n in stage.takes]
            taken = [*(part.takes if part else ()), *values]
            results = [self.code.value_name(n) for n in stage.gives]
            if part is not None:
                given = part.gives
                results = list(given) if isinstance(given, tuple) else ["derivative"]
            elif stage.name == "reduce":
                taken = [*self.adjoint.weights, *taken]
                results = ["loss"]
            if results:
                call = py.call(stage.name, *inputs, *map(py.name, taken))
                body.append(py.assign(results[0] if len(results) == 1 else results, call))
        measured = py.tuple_of(py.name(self.code.value_name(n)) for n in self.stages[-1].takes)
        return py.function(
            "objective",
            INPUTS,
            "The loss, its derivative with respect to x, and the values `measure` takes.",
            body,
            py.tuple_of([py.name("loss"), py.name("derivative"), measured]),
        )


def _tuple(values: Iterable[ast.expr]) -> ast.expr:
    """One value by itself, several as a tuple."""
    given = list(values)
    return given[0] if len(given) == 1 else py.tuple_of(given)
