"""Restorative gates: a cell that drifts out of its budget is pulled back.

Just beyond its budget, wherever it acts, the gate of the level falls: its slope is negative, so for
an advantage that favours the drift the gradient points back (arXiv 2604.03044, eq. 3).
"""

from __future__ import annotations

import math

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.shape import shape
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.ir import nodes as ir
from fibc.ir.interval import Interval
from fibc.lower.values import AFTER
from fibc.typed import Promise, TypedGate
from fibdsl.diagnostics.diagnostic import Label


def prove(facts: Facts, promise: Promise) -> str | None:
    gates = [op for op in facts.program.ops if _stands_at(op, promise)]
    falls = False
    for op in gates:
        assert isinstance(op, ir.Gate)
        if op.rule.neighbours:
            return None
        k = facts.bounds(op.steepness) if op.steepness else Interval.exact(1.0)
        pieces = shape(op.rule).pieces
        for found in facts.ranges.parts[op.name]:
            # A pessimistic gate acts on one side of 0; a rollback beyond its budget lowers.
            acts = op.side in (None, found.sign)
            if len(pieces) < 2 or not shape(op.rule).identity_at_zero:
                return None
            piece = found.part.piece
            beyond = acts and piece is pieces[1] and found.part.inputs.low < math.inf
            if beyond and not (-piece.slope.at(k)).positive:
                return None
            falls = falls or beyond
    # A gate that no drift takes out of its budget pulls nothing back.
    return f"beyond its budget the gate at `{promise.at}` falls" if falls else None


def _stands_at(op: ir.Op, promise: Promise) -> bool:
    return isinstance(op, ir.Gate) and op.level == promise.at and not op.name.startswith(AFTER)


def refute(facts: Facts, promise: Promise) -> Witness | None:
    from fibc import interp
    from fibc.analysis.witnesses.designs import build, single_deviations
    from fibc.analysis.witnesses.lab import evaluate, gate_ops, magnitudes

    assert promise.at is not None
    sizes = {promise.at: magnitudes(facts).get(promise.at, [1.0])}
    gate = facts.objective.gates.get(promise.at)
    for level, _, path in single_deviations(facts.objective, sizes, facts.top):
        for advantage, lean in ((1.0, ".up"), (-1.0, ".down")):
            built = build(facts.objective, [path], facts.top, [advantage])
            if built is None:
                continue
            trial = evaluate(facts, built)
            cell = int(built.cells[level][built.at[0]])
            for op in gate_ops(facts, level):
                if op.name.endswith((".up", ".down")) and not op.name.endswith(lean):
                    continue
                x = float(trial.run.values[op.x][cell])
                state = interp.gate_state(op, trial.run)
                # Further out than the piece just beyond the budget it need not fall: it is zeroed.
                acts = op.side is None or (x >= 0) == (op.side > 0)
                acts = acts and int(state.regime[cell]) <= 1
                end = _first_end(facts, gate, x, op)
                if op.budget is not None:
                    end = float(trial.run.values[op.budget][cell])
                if acts and abs(x) > end and state.slope[cell] >= 0:
                    drift = "drifts" if level == facts.objective.coarsest_gated else "deviates"
                    regime = op.rule.pieces[int(state.regime[cell])].regime
                    return trial.witness(
                        promise.property,
                        f"the `{level}` of token {built.at[0]} {drift} by {x:.4g} and its gate, "
                        f"in `{regime}`, has slope {state.slope[cell]:g}",
                    )
    return None


def _first_end(facts: Facts, gate: TypedGate | None, x: float, op: ir.Gate) -> float:
    """The end of the first piece on the side of x; 0 for a gate of one piece."""
    if gate is None or gate.budget is None or len(gate.rule.pieces) < 2:
        return 0.0
    bound = op.upper if x >= 0 else op.lower
    return facts.value(bound if bound is not None else gate.budget.upper)


def because(facts: Facts, promise: Promise) -> Because:
    gate = facts.objective.gates.get(promise.at or "")
    if gate is None:
        return Because(
            f"`{promise.at}` has no gate",
            f"give `{promise.at}` a `rollback`, or delete this line",
        )
    return Because(
        f"`{gate.rule.name}` at `{promise.at}` does not fall beyond its budget",
        f"use `rollback` at `{promise.at}`, or delete this line",
        (Label(gate.span, "this gate"),),
    )


RESTORATIVE = Property(
    "restorative",
    "restorative at trajectory",
    ("at",),
    "a cell of the level that drifts out of its budget is pulled back",
    prove,
    refute,
    because,
)
