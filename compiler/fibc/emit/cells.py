"""The functions of a module that compute the budgets of cells from its parameters."""

from __future__ import annotations

import ast

from fibc.emit import syntax as py
from fibc.emit.operations import Operations
from fibc.ir.scalar import Scalar, references
from fibc.typed import CellBudget


def budget_functions(code: Operations) -> dict[str, ast.FunctionDef]:
    """For each level with budgets per cell, by its name, a function of the vector of parameters."""
    return {level: _function(code, level, b) for level, b in code.program.budgets.items()}


def _function(code: Operations, level: str, budget: CellBudget) -> ast.FunctionDef:
    used = frozenset[str]().union(*map(references, budget.scalars))
    params = py.name("params")
    body = [
        py.assign(python, py.item(params, py.constant(index)))
        for index, (name, python) in enumerate(code.params.items())
        if name in used
    ]
    values = [_value(code, scalar) for scalar in budget.scalars]
    return py.function(
        code.names.fresh(f"budgets_of_{level}"),
        ["params"],
        f"The budgets of the cells of `{level}`: {', '.join(budget.words)}.",
        body,
        py.call(py.dotted("torch", "stack"), ast.List(values, ast.Load())),
    )


def _value(code: Operations, scalar: Scalar) -> ast.expr:
    """A budget as a 0-dim tensor. The last parameter is a 0 of the type that is computed in."""
    value = code.scalar(scalar)
    if references(scalar):
        return value
    return py.binary("+", py.item(py.name("params"), py.constant(-1)), value)
