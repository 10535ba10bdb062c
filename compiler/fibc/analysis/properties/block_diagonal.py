"""Block structure: tokens in different cells of a level never enter each other's gated ratio."""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.proofs import linear
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Label

_TOLERANCE = 1e-9


def prove(facts: Facts, promise: Promise) -> str | None:
    assert promise.over is not None
    names = facts.objective.level_names
    reach = _reach(facts)
    if reach in names and names.index(reach) <= names.index(promise.over):
        return f"no gated ratio depends on more than its own `{reach}`"
    return None


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc.analysis.witnesses.lab import evaluate, trials

    assert promise.over is not None
    for trial in trials(facts):
        at = trial.built.at[0]
        cells = trial.built.cells[promise.over]
        foreign = np.where(cells == cells[at], 0.0, np.abs(trial.jacobian))
        taken = np.where(cells == cells[at], 0.0, np.abs(trial.penalty_jacobian))
        if taken.max() > _TOLERANCE:
            row, column = np.unravel_index(taken.argmax(), taken.shape)
            slope = trial.penalty_jacobian[row, column]
            return trial.witness(
                promise.property,
                f"the penalty of token {at} has the derivative {slope:.4g} with respect to token "
                f"{(int(row), int(column))}, in another `{promise.over}`",
            )
        if foreign.max() > _TOLERANCE:
            # One advantage only: the gradient then shows a row of the Jacobian.
            tensors = trial.built.tensors
            sign = tensors["advantages"][at]
            tensors["advantages"] = np.zeros_like(tensors["advantages"])
            tensors["advantages"][at] = sign
            shown = evaluate(facts, trial.built)
            row, column = np.unravel_index(foreign.argmax(), foreign.shape)
            if abs(shown.jacobian[row, column]) <= _TOLERANCE:
                continue
            return shown.witness(
                promise.property,
                f"only token {at} has an advantage, and d loss / d logp of token "
                f"{(int(row), int(column))}, in another `{promise.over}`, is "
                f"{shown.gradient[row, column]:.4g}",
            )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    gate = (
        facts.objective.gates.get(facts.top)
        or facts.objective.gates[facts.objective.coarsest_gated]
    )
    reach = _reach(facts)
    if facts.objective.sums and reach not in facts.objective.gates:
        delete = "delete this line"
        return Because(
            f"an aggregate couples the tokens of a whole `{reach}`",
            f"write `block_diagonal over {reach}`, or {delete}"
            if reach in facts.objective.level_names
            else delete,
        )
    return Because(
        f"the gate at `{facts.top}` couples the tokens of a whole `{facts.top}`"
        if facts.top in facts.objective.gates
        else f"a budget is shared by the tokens of a whole `{facts.top}`",
        f"write `block_diagonal over {facts.top}`, or gate no coarser level than `{promise.over}`",
        (Label(gate.span, f"looks at a whole `{facts.top}`"),),
    )


def _reach(facts: Facts) -> str:
    """The coarsest level whose whole cells a token can depend on. Rows, where the chain does not
    have them, lie in none of its cells."""
    names = facts.objective.level_names
    found = linear.reach(facts.program)
    return next(iter(found - set(names)), None) or max(found, key=names.index)


BLOCK_DIAGONAL = Property(
    "block_diagonal",
    "block_diagonal over trajectory",
    ("over",),
    "tokens in different cells of the level never enter each other's gated ratio",
    prove,
    refute,
    because,
)
