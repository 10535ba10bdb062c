"""The steps of `reduce` with what they are divided by."""

from __future__ import annotations

import math
from dataclasses import replace

from fibc.ir.scalar import Scalar, bounds
from fibc.resolved import ReduceStep, Resolved
from fibc.typecheck.quantities import Quantities
from fibdsl.diagnostics.diagnostic import ReportedError
from fibdsl.syntax import ast
from fibdsl.types import Space


def reduce_steps(spec: Resolved, quantities: Quantities) -> tuple[ReduceStep, ...]:
    return tuple(
        replace(step, divisor=_divisor(spec.divisors[i], quantities))
        if i in spec.divisors
        else step
        for i, step in enumerate(spec.reduce)
    )


def _divisor(expr: ast.Expr, quantities: Quantities) -> Scalar | None:
    """What a step of `reduce` is divided by: a positive number."""
    try:
        scalar, space = quantities.expr(expr, what="divisor")
        if space not in (None, Space.PURE):
            raise quantities.diagnostics.bad(
                "FIB301",
                f"a sum is divided by a pure number, and this is a {space}",
                expr.span,
                "declare the parameter `: pure`",
            )
        quantities.positive(scalar, expr.span, "divisor")
        if math.isinf(bounds(scalar, quantities.ranges).low):
            raise quantities.diagnostics.bad(
                "FIB402", "this divisor is infinite", expr.span, "write a number, or delete it"
            )
    except ReportedError:
        return None
    return scalar
