"""FIB602: C- should be below C+.

log-ratios are negative on average (their mean estimates -KL), so S- exceeds S+; with C- >= C+ the
- channel, which moves more, is also held less (arXiv 2604.03044, section 3.3).
"""

from __future__ import annotations

from fibc.ir.scalar import evaluate
from fibc.typed import TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.types import TOKEN, Channels


def kl_bias(objective: TypedObjective, diagnostics: Diagnostics) -> None:
    if objective.channels is not Channels.SPLIT:
        return
    for level, gate in objective.gates.items():
        if level == TOKEN or gate.budget is None:
            continue
        plus = evaluate(gate.budget.upper, objective.defaults, {})
        minus = evaluate(gate.budget.lower, objective.defaults, {})
        if minus >= plus:
            diagnostics.add(
                "FIB602",
                f"at `{level}` C- = {minus:g} is not below C+ = {plus:g}",
                gate.span,
                "S- exceeds S+ on average; give the - channel the smaller budget",
            )
