"""Bodies: an expression, or cases with conditions, the first of which that holds counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fibc.expressions.expression import each, typed
from fibc.expressions.scope import ADVANTAGE, Scope, Typed
from fibc.ir.expression import Call, Const, Expr
from fibc.units import Unit, same
from fibdsl.diagnostics.diagnostic import ReportedError, collected
from fibdsl.diagnostics.errors import InternalError
from fibdsl.syntax import ast


@dataclass(frozen=True, slots=True)
class TypedCase:
    """A case; the one without a condition is for all that is left."""

    label: str | None
    value: Expr
    unit: Unit | None
    condition: Expr | None


def typed_body(body: ast.Body, scope: Scope) -> Typed:
    """An expression, or cases as one."""
    if not isinstance(body, ast.Cases):
        return typed(body, scope)
    cases = typed_cases(body, scope)
    spans = [case.value.span for case in body.cases]
    units = [case.unit for case in cases]
    unit = same("this choice", units, scope.diagnostics, body.span, spans)
    return _choice(cases, [case.value for case in cases]), unit


def labelled(body: ast.Body, scope: Scope) -> dict[str, Expr]:
    """For each label of a body that `typed_body` has typed: 1 where a case of that label holds."""
    if not isinstance(body, ast.Cases):
        return {}
    cases = typed_cases(body, scope)
    labels = dict.fromkeys(case.label for case in cases if case.label is not None)
    return {
        label: _choice(cases, [Const(1.0 if case.label == label else 0.0) for case in cases])
        for label in labels
    }


def _choice(cases: list[TypedCase], values: list[Expr]) -> Expr:
    """The value of the first case that holds."""
    *conditional, chosen = values
    for case, value in zip(reversed(cases[:-1]), reversed(conditional), strict=True):
        assert case.condition is not None
        chosen = Call("where", (case.condition, value, chosen))
    return chosen


def typed_cases(body: ast.Cases, scope: Scope) -> list[TypedCase]:
    """Each case; the last one is for all that is left."""
    for index, case in enumerate(body.cases):
        if (case.condition is None) != (index == len(body.cases) - 1):
            raise InternalError("the last case, and no other, is for all that is left")
    return collected([partial(_case, case, scope) for case in body.cases])


def _case(case: ast.Case, scope: Scope) -> TypedCase:
    condition: Expr | None = None
    failed = False
    if case.condition is not None:
        try:
            condition = typed_condition(case.condition, scope)
        except ReportedError:
            failed = True
    value, unit = typed(case.value, scope)
    if failed:
        raise ReportedError
    return TypedCase(case.label.text if case.label else None, value, unit, condition)


def typed_condition(condition: ast.Condition, scope: Scope) -> Expr:
    match condition:
        case ast.Logical(operator, left, right, _):
            both = collected([partial(typed_condition, c, scope) for c in (left, right)])
            return Call(operator, tuple(both))
        case ast.Comparison(operator, left, right, span):
            if scope.sign_only and (scope.is_advantage(left) or scope.is_advantage(right)):
                return _sign_compared(condition, scope)
            (a, unit_a), (b, unit_b) = each((left, right), scope)
            same(f"`{operator}`", (unit_a, unit_b), scope.diagnostics, span)
            return _compared(operator, a, b)
    raise AssertionError(condition)


def _sign_compared(comparison: ast.Comparison, scope: Scope) -> Expr:
    """The advantage compared with 0, where its sign only is known."""
    on_the_left = scope.is_advantage(comparison.left)
    other = comparison.right if on_the_left else comparison.left
    if not (isinstance(other, ast.Number) and other.value == 0):
        raise scope.diagnostics.bad(
            "FIB209",
            "a gate sees the sign of the advantage only",
            comparison.span,
            "compare it with 0",
        )
    advantage, zero = scope.input(ADVANTAGE), Const(0.0)
    pair = (advantage, zero) if on_the_left else (zero, advantage)
    return _compared(comparison.operator, *pair)


def _compared(operator: str, a: Expr, b: Expr) -> Expr:
    # `>` is `<` the other way round: two comparisons are enough.
    if operator in (">", ">="):
        return Call(operator.replace(">", "<"), (b, a))
    return Call(operator, (a, b))
