"""The numbers that gates are given besides budgets: steepnesses, and what else one declares."""

from __future__ import annotations

import math
from dataclasses import replace

from fibc.gates.rule import GateRule, Parameter
from fibc.ir.expression import Call, Expr, Input
from fibc.ir.scalar import Binary, Const, Count, Negate, Scalar, bounds, counted
from fibc.resolved import ResolvedGate
from fibc.typecheck.quantities import BY_ADVANTAGE, Quantities
from fibc.units import unit_of
from fibdsl.builtins import CELL_COUNTS
from fibdsl.diagnostics.diagnostic import ReportedError
from fibdsl.syntax import ast
from fibdsl.syntax.walk import references
from fibdsl.types import TOKEN, Space

_COUNTS = dict.fromkeys(CELL_COUNTS, Space.PURE)


def plain(
    level: str,
    rule: GateRule,
    parameter: Parameter,
    given: list[ast.Argument],
    quantities: Quantities,
) -> Scalar:
    """A number of the space that a gate wants."""
    wanted = unit_of(parameter.space) if parameter.space is not None else None
    argument = given[0]
    if argument.kind == "upper":
        raise quantities.diagnostics.bad(
            "FIB401",
            f"`{parameter.name}` of `{rule.name}` is one {wanted}, and no pair of budgets",
            replace(argument.span, end=given[-1].span.end),
            "write one number, without `+`",
        )
    words = {**({} if level == TOKEN else _COUNTS), BY_ADVANTAGE: Space.PURE}
    if level == TOKEN and set(references(argument.value)) & set(CELL_COUNTS):
        raise quantities.diagnostics.bad(
            "FIB406",
            "a token has no members to count",
            argument.value.span,
            "write a number",
        )
    if "inf" in references(argument.value):
        raise quantities.diagnostics.bad(
            "FIB402",
            f"`{parameter.name}` of `{rule.name}` is a number, and `inf` is none",
            argument.value.span,
            "write a number",
        )
    scalar, space = quantities.expr(argument.value, words, "number")
    if argument.kind == "lower":
        scalar = Negate(scalar)
    if space is not None and space is not parameter.space:
        raise quantities.diagnostics.bad(
            "FIB301",
            f"`{parameter.name}` of `{rule.name}` is a {wanted}, and this is a {unit_of(space)}",
            argument.value.span,
            f"declare the parameter `: {parameter.space}`",
        )
    return scalar


def steepness(level: str, gate: ResolvedGate, k: Parameter, quantities: Quantities) -> Scalar:
    """The steepness of a gate of pieces: positive, and no infinity."""
    written = gate.named.get(k.name)
    if written is None:
        usual = default(gate, k, quantities)
        if level == TOKEN and counted(usual):
            raise quantities.diagnostics.bad(
                "FIB406",
                f"a token has no children to take the steepness {k.name} from",
                gate.gate_span,
                f"give it: `{gate.rule.name}(..., {k.name} = 8)`",
            )
        return usual
    scalar, space = quantities.expr(
        written.value, {**_COUNTS, BY_ADVANTAGE: Space.PURE}, "steepness"
    )
    if level == TOKEN and counted(scalar):
        raise quantities.diagnostics.bad(
            "FIB406",
            "a token has no members to count",
            written.value.span,
            f"write a number: `{gate.rule.name}(..., {k.name} = 8)`",
        )
    if space not in (None, Space.PURE):
        raise quantities.diagnostics.bad(
            "FIB301",
            f"{k.name} is a pure number, and this is a {space}",
            written.value.span,
            "declare the parameter `: pure`",
        )
    quantities.positive(scalar, written.value.span, "steepness")
    if math.isinf(bounds(scalar, quantities.ranges).low):
        raise quantities.diagnostics.bad(
            "FIB402", f"{k.name} is infinite", written.value.span, "use `clip` instead"
        )
    return scalar


def default(gate: ResolvedGate, parameter: Parameter, quantities: Quantities) -> Scalar:
    """What a parameter is that is not given."""
    if parameter.default is None:
        if gate.complete:
            quantities.diagnostics.add(
                "FIB401",
                f"`{gate.rule.name}` needs `{parameter.name}`",
                gate.gate_span,
                f"write {gate.rule.usage}",
            )
        raise ReportedError
    return _scalar(parameter.default)


def _scalar(default: Expr) -> Scalar:
    """The default of a parameter of a gate: numbers and counts."""
    match default:
        case Input(index):
            return Count(list(CELL_COUNTS)[index])
        case Call(("+" | "-" | "*" | "/") as operator, (left, right)):
            return Binary(operator, _scalar(left), _scalar(right))
        case Const():
            return default
        case _:
            raise AssertionError(default)
