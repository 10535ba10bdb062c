"""Decides `require` statements: each property is proved, refuted or undecided, never guessed.

A property is a function from a typed objective (and parameter values) to a `Verdict`; the table
below names them. Everything but proved is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fibc.ir.interval import Interval
from fibc.ir.scalar import evaluate
from fibc.typed import TypedGate, TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.syntax import ast
from fibdsl.types import Channels, Signal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a property, why, and how a spec that lacks it can be mended."""

    status: Literal["proved", "refuted", "unknown"]
    reason: str
    help: str | None = None


def decide_requires(
    objective: TypedObjective, params: Mapping[str, float], diagnostics: Diagnostics
) -> None:
    """Reports every `require` that is not proved at these parameter values."""
    for require in objective.requires:
        name = require.property.text
        if name not in PROPERTIES:
            diagnostics.add(
                "FIB503",
                f"unknown property `{name}`",
                require.property.span,
                nearest(name, PROPERTIES),
            )
            continue
        takes = PROPERTIES[name].takes
        given = [w for w, value in (("over", require.over), ("in", require.range)) if value]
        if given != list(takes):
            wanted = f"`require {PROPERTIES[name].usage}`"
            diagnostics.add(
                "FIB504", f"`{name}` is not written like this", require.span, f"write {wanted}"
            )
            continue
        if require.range is not None:
            interval = _interval(require.range)
            if interval is None or interval.empty:
                code, message, help = (
                    ("FIB504", "a range to prove is made of numbers only", "write the numbers out")
                    if interval is None
                    else ("FIB404", f"no number is in {interval}", "write the smaller end first")
                )
                diagnostics.add(code, message, require.range.span, help)
                continue
        verdict = PROPERTIES[name].decide(objective, params, require)
        if verdict.status == "refuted":
            message = f"`{name}` does not hold: {verdict.reason}"
            diagnostics.add("FIB501", message, require.span, verdict.help)
        elif verdict.status == "unknown":
            message = f"`{name}` could not be proved: {verdict.reason}"
            diagnostics.add("FIB502", message, require.span, verdict.help)


def _interval(range: ast.Range) -> Interval | None:
    """The range, or None where its ends are not plain numbers."""
    ends = [_number(range.low), _number(range.high)]
    if ends[0] is None or ends[1] is None:
        return None
    return Interval(ends[0], ends[1], range.low_open, range.high_open)


def _number(expr: ast.Expr) -> float | None:
    match expr:
        case ast.Number(value, _):
            return value
        case ast.Reference("inf", _):
            return math.inf
        case _:
            return None


# --- properties ---------------------------------------------------------------------------------


def first_order_agreement(
    objective: TypedObjective, params: Mapping[str, float], require: ast.Require
) -> Verdict:
    """dG/dr is the identity at r = 1: every gate is the identity around 0 (arXiv 2603.08239)."""
    for level, gate in objective.gates.items():
        first = gate.rule.pieces[0]
        # Budgets are positive (typecheck), so a first piece x -> x holds on a neighbourhood of 0.
        if first.slope(1.0, 1.0) != 1 or first.intercept(1.0, 1.0) != 0:
            return Verdict(
                "refuted",
                f"`{gate.rule.name}` at `{level}` has slope {first.slope(1.0, 1.0):g} at r = 1, "
                "and the policy gradient has 1",
                f"use a gate at `{level}` that passes small deviations, or delete this line",
            )
    return Verdict("proved", "every gate is the identity around 0")


def block_diagonal(
    objective: TypedObjective, params: Mapping[str, float], require: ast.Require
) -> Verdict:
    """Tokens in different cells of the level never enter each other's gated ratio."""
    assert require.over is not None
    names = objective.level_names
    reach = objective.coarsest_gated
    for gate in objective.gates.values():
        if gate.over is not None and names.index(gate.over) > names.index(reach):
            reach = gate.over
    if names.index(reach) <= names.index(require.over.text):
        return Verdict("proved", f"no gate looks beyond `{reach}`")
    if objective.gates[objective.coarsest_gated].rule.name == "pass":
        return Verdict(
            "unknown",
            f"`pass` at `{reach}` looks at a whole `{reach}`, though it gates nothing",
            f"delete the gate at `{reach}`, and give the next finer one `base`",
        )
    return Verdict(
        "refuted",
        f"the gate at `{reach}` couples the tokens of a whole `{reach}`",
        f"write `require block_diagonal over {reach}`, or gate no coarser level than "
        f"`{require.over.text}`",
    )


def gated_ratio(
    objective: TypedObjective, params: Mapping[str, float], require: ast.Require
) -> Verdict:
    """G stays in a range for every batch: the sum of the ranges of the gates lies in it."""
    assert require.range is not None
    low, high = _bounds_of_y(objective, params)
    if objective.signal is Signal.LOG_RATIO:
        low, high = (math.exp(v) if v < 700 else math.inf for v in (low, high))
    else:
        # A ratio is positive, and gates never take a deviation past its own value or 0.
        low, high = max(1.0 + low, 0.0), 1.0 + high
    wanted = _interval(require.range)
    assert wanted is not None
    inside = low in wanted and high in wanted
    return Verdict(
        "proved" if inside else "unknown",
        f"the gates keep it in [{low:.6g}, {high:.6g}]",
        "widen the range or narrow the budgets; a `pessimistic` gate holds one side only",
    )


def _bounds_of_y(objective: TypedObjective, params: Mapping[str, float]) -> tuple[float, float]:
    """An interval that holds the recombined y of every token of every batch."""
    low, high = math.inf, -math.inf
    for lean in (1, -1):
        if objective.channels is Channels.SPLIT:
            plus = _channel_bounds(objective, params, 1, lean)
            minus = _channel_bounds(objective, params, -1, lean)
            own = (plus[0] - minus[1], plus[1] - minus[0])
        else:
            own = _channel_bounds(objective, params, None, lean)
        low, high = min(low, own[0]), max(high, own[1])
    return low, high


def _channel_bounds(
    objective: TypedObjective, params: Mapping[str, float], sign: int | None, lean: int
) -> tuple[float, float]:
    low = high = 0.0
    for level, gate in objective.gates.items():
        # An aggregate of one sign channel is never negative; a residual can be.
        nonnegative = sign is not None and level == objective.coarsest_gated
        own = _gate_bounds(gate, params, sign, lean * (sign or 1))
        low += max(own[0], 0.0) if nonnegative else own[0]
        high += own[1]
    return low, high


def _gate_bounds(
    gate: TypedGate, params: Mapping[str, float], sign: int | None, side: int
) -> tuple[float, float]:
    if gate.rule.name == "drop":
        return 0.0, 0.0
    if gate.budget is None or gate.rule.neighbours:
        # What a censored cell leaves depends on its size.
        return -math.inf, math.inf
    upper = float(evaluate(gate.budget.upper, params, {}))
    lower = float(evaluate(gate.budget.lower, params, {}))
    if sign is not None:
        upper = lower = upper if sign > 0 else lower
    if gate.pessimistic:
        return (-math.inf, upper) if side > 0 else (-lower, math.inf)
    return -lower, upper


@dataclass(frozen=True, slots=True)
class Property:
    usage: str
    takes: tuple[str, ...]
    decide: Callable[[TypedObjective, Mapping[str, float], ast.Require], Verdict]


PROPERTIES: dict[str, Property] = {
    "first_order_agreement": Property("first_order_agreement", (), first_order_agreement),
    "block_diagonal": Property("block_diagonal over trajectory", ("over",), block_diagonal),
    "gated_ratio": Property("gated_ratio in [0.7, 1.4]", ("in",), gated_ratio),
}
