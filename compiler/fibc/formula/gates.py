"""Gates as formulas: those of the language by their names, others by what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from fibc.analysis.proofs.shape import Shape, shape
from fibc.formula.algebra import (
    INFINITY,
    MINUS_INFINITY,
    ZERO,
    Apply,
    Param,
    Tree,
    minus,
    number,
)
from fibc.formula.functions import Functions
from fibc.gates.builtin import builtin_gates
from fibc.gates.rule import GateRule
from fibc.ir import nodes as ir
from fibc.ir.expression import Expr, fold


def gated(
    gate: ir.Gate, x: Tree, upper: Tree, lower: Tree, k: Tree | None, functions: Functions
) -> Tree:
    """What a gate of pieces makes of x; `upper` and `lower` are the magnitudes of its budgets."""
    found = shape(gate.rule)
    unbounded = upper == INFINITY == lower
    if found.identity or (unbounded and found.identity_at_zero):
        return x
    if found.zero:
        return ZERO
    acts = {1: functions.least, -1: functions.greatest}
    if found.clips:
        # One bound of a pessimistic clip is all of it.
        if gate.side is not None:
            bound = upper if gate.side > 0 else _negative(lower)
            return acts[gate.side](x, bound)
        return functions.apply("clip", x, _negative(lower), upper)
    if _pieces(found) == _rollback() and k is not None:
        y: Tree = Apply("rollback", (x, upper, lower, k))
    else:
        y = _cases(gate.rule, x, upper, lower, k, functions)
    return y if gate.side is None else acts[gate.side](x, y)


def _negative(bound: Tree) -> Tree:
    return MINUS_INFINITY if bound == INFINITY else minus(ZERO, bound)


@lru_cache(maxsize=1)
def _rollback() -> tuple[object, ...]:
    return _pieces(shape(builtin_gates()["rollback"]))


def _pieces(found: Shape) -> tuple[object, ...]:
    return tuple((p.slope, p.intercept, p.until) for p in found.pieces)


def _cases(
    rule: GateRule, x: Tree, upper: Tree, lower: Tree, k: Tree | None, functions: Functions
) -> Tree:
    """A gate by the cases that define it."""
    budget = upper
    if upper != lower:
        budget = functions.apply("where", functions.apply("<=", ZERO, x), upper, lower)
    given = {"x": x, **dict.fromkeys(rule.budgets, budget)}
    if rule.steepness is not None and k is not None:
        given[rule.steepness.name] = k
    *conditional, last = rule.cases
    value = expression(last.value, lambda i: given[rule.inputs[i]], functions)
    for case in reversed(conditional):
        assert case.condition is not None
        condition, yes = (
            expression(e, lambda i: given[rule.inputs[i]], functions)
            for e in (case.condition, case.value)
        )
        value = functions.apply("where", condition, yes, value)
    return value


def expression(expr: Expr, given: Callable[[int], Tree], functions: Functions) -> Tree:
    """An expression of the IR as a formula."""

    def call(function: str, arguments: list[Tree]) -> Tree:
        return functions.apply(function, *arguments)

    tree: Tree = fold(expr, Param, given, _number, call)
    return tree


def _number(value: float) -> Tree:
    return INFINITY if value == math.inf else number(value)
