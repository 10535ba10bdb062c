"""The regimes of every gate: where they are, what they do to a gradient, whether they are reached.

Reachable is shown by a batch, unreachable is proved by ranges; anything else is unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.rational import Rational
from fibc.analysis.proofs.shape import Shape, ShapePiece, shape, shrinks
from fibc.gates.use import cell_budget_name
from fibc.ir import nodes as ir
from fibc.ir.interval import Interval
from fibc.ir.scalar import leaning, show_scalar
from fibc.lower.values import AFTER
from fibdsl.types import Channels

Reach = Literal["reachable", "unreachable", "unknown"]


@dataclass(frozen=True, slots=True)
class Regime:
    """One piece of one gate, for inputs of one sign.

    Attributes:
        level: where the gate stands.
        channel: "+" or "-" of a split signal, "" of a net one.
        sign: of the input, "+" or "-".
        advantage: ">= 0" or "< 0" where the gate depends on it, else "".
        name: of the piece; what metrics call it.
        inputs: the magnitudes it is about, as a formula.
        slope: of the gate there, as a formula; "1" where a pessimistic gate does not act.
        restorative: whether the gate falls there, so that the gradient points back.
        reach: whether a batch gets there.
    """

    level: str
    channel: str
    sign: str
    advantage: str
    name: str
    inputs: str
    slope: str
    restorative: bool
    reach: Reach


def regimes(facts: Facts) -> tuple[Regime, ...]:
    """All regimes of all gates, coarsest level first, at the facts' parameter values."""
    seen = _seen(facts)
    found = []
    for op in facts.program.ops:
        if not isinstance(op, ir.Gate) or op.name.startswith(AFTER):
            continue
        gate = shape(op.rule)
        reached = facts.ranges.parts[op.name]
        parts = {(found.sign, found.part.piece.regime) for found in reached}
        signs = sorted({sign for sign, _ in parts}, reverse=True)
        for sign in (1, -1) if facts.objective.channels is Channels.NET else signs:
            for index, piece in enumerate(gate.pieces):
                acts = op.side in (None, sign) or not shrinks(gate, _steepness(op, facts))
                possible = (sign, piece.regime) in parts and (acts or index == 0)
                reach: Reach = "unknown" if possible else "unreachable"
                if (op.name, sign, index) in seen:
                    reach = "reachable"
                found.append(_regime(op, gate, piece, sign, facts, acts, reach))
    names = facts.objective.level_names
    # The two leans of an objective share what is not pessimistic.
    once = list(dict.fromkeys(found))
    once.sort(key=lambda r: -names.index(r.level))
    return tuple(once)


def _regime(
    op: ir.Gate, gate: Shape, piece: ShapePiece, sign: int, facts: Facts, acts: bool, reach: Reach
) -> Regime:
    bound = op.upper if sign > 0 else op.lower
    C = _computed(op, sign, facts) if op.budget is not None else ""
    if bound is not None:
        C = f"{facts.value(bound):.6g}"
    k = _steepness(op, facts)
    lean = op.name.rpartition(".")[2]
    return Regime(
        op.level,
        "+" if ".plus" in op.name else "-" if ".minus" in op.name else "",
        "+" if sign > 0 else "-",
        {"up": ">= 0", "down": "< 0"}.get(lean, "") if op.side is not None else "",
        piece.regime,
        _inputs(piece, C, k) if acts else "all |x|" if piece is gate.pieces[0] else "no x",
        _formula(piece.slope, k) if acts else "1",
        acts and piece.slope.at(k).high < 0,
        reach,
    )


def _computed(op: ir.Gate, sign: int, facts: Facts) -> str:
    """A computed budget: C, or of what it is made of the budget of its cell."""
    budget = facts.objective.gates[op.level].budget
    if op.rule.neighbours or budget is None:
        return "C"
    upper = ".plus" in op.name if facts.objective.channels is Channels.SPLIT else sign > 0
    lean = -1 if op.name.endswith(".down") else 1
    scalar = leaning(budget.upper if upper else budget.lower, lean)
    text = show_scalar(scalar).replace(cell_budget_name(op.level), "budget")
    return re.sub(r"\d+\.\d{6,}", lambda number: f"{float(number[0]):.6g}", text)


def _steepness(op: ir.Gate, facts: Facts) -> Interval:
    return facts.bounds(op.steepness) if op.steepness is not None else Interval.exact(1.0)


def _seen(facts: Facts) -> set[tuple[str, int, int]]:
    """The regimes that candidate batches get into: gate, sign of its input, piece."""
    from fibc import interp
    from fibc.analysis.witnesses.extremes import extreme_trials

    gates = [op for op in facts.program.ops if isinstance(op, ir.Gate)]
    found: set[tuple[str, int, int]] = set()
    for trial in extreme_trials(facts):
        for op in gates:
            x = trial.run.values[op.x]
            state = interp.gate_state(op, trial.run)
            found |= {
                (op.name, 1 if value >= 0 else -1, int(index))
                for value, index in zip(x, state.regime, strict=True)
            }
    return found


# --- formulas -----------------------------------------------------------------------------------


def _inputs(piece: ShapePiece, C: str, k: Interval) -> str:
    low = "" if piece.start.constant == 0 else f"{_times(piece.start, C, k)} < "
    high = "" if piece.until is None else f" <= {_times(piece.until, C, k)}"
    return f"{low}|x|{high}" if low or high else "all |x|"


def _times(factor: Rational, C: str, k: Interval) -> str:
    shown = _formula(factor, k)
    if shown == "1":
        return C
    try:
        return f"{float(shown) * float(C):.6g}"
    except ValueError:
        return f"{C} {shown}"


def _formula(value: Rational, k: Interval) -> str:
    """A number where k is one, else a formula in k."""
    if value.constant is not None:
        return f"{float(value.constant):g}"
    if k.low == k.high:
        return f"{float(value.at(k).low):g}"
    denominator = _polynomial(value.denominator)
    over = "" if denominator == "1" else f" / {denominator}"
    return f"{_polynomial(value.numerator)}{over}"


def _polynomial(coefficients: tuple[Fraction, ...]) -> str:
    terms: list[str] = []
    for power, c in reversed(list(enumerate(coefficients))):
        if c:
            letter = ("", "k", f"k^{power}")[min(power, 2)]
            size = "" if letter and abs(c) == 1 else f"{float(abs(c)):g}"
            sign = "-" if c < 0 else "+" if terms else ""
            terms.append(f"{sign}{' ' if terms else ''}{size}{letter}")
    text = " ".join(terms) or "0"
    return f"({text})" if len(terms) > 1 else text
