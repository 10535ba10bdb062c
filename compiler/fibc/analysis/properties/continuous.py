"""Continuity: G is a continuous function of the log-ratios.

Everything but the gates is continuous. A gate is continuous for every budget and every k if its
jumps, rational functions of k, are identically 0.
"""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.continuity import continuous
from fibc.analysis.proofs.shape import shape
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Promise, TypedGate
from fibdsl.diagnostics.diagnostic import Label

# Two cells this far apart, relative to where the gate jumps, whose gated ratios differ by more than
# any slope of a gate on a small batch makes of it.
_STEP, _JUMP = 1e-9, 1e-4


def prove(facts: Facts, promise: Promise) -> str | None:
    gates = [*facts.objective.gates.values()]
    gates += [] if facts.objective.after is None else [facts.objective.after]
    if any(shape(gate.rule).jumps for gate in gates):
        return None
    if facts.objective.exact and facts.objective.surrogate is facts.objective.weight is None:
        return "every gate is continuous, for every budget and every k"
    if continuous(facts.program):
        return "it is made of continuous functions of the log-ratios"
    return None


def refute(facts: Facts, promise: Promise) -> Witness | None:
    from fibc.analysis.witnesses.designs import build, single_deviations
    from fibc.analysis.witnesses.lab import evaluate

    for level, gate in facts.objective.gates.items():
        for size in (2, 3, 5, 8):
            for end in _jumps(facts, gate, size):
                near = {level: [end * (1 - _STEP), end * (1 + _STEP)]}
                paths = list(single_deviations(facts.objective, near, facts.top))
                half = len(paths) // 2
                for (*_, below), (*_, above) in zip(paths[:half], paths[half:], strict=True):
                    built = build(facts.objective, [below, above], facts.top, minimum={level: size})
                    if built is None:
                        continue
                    trial = evaluate(facts, built)
                    values = [trial.token(trial.gated_ratio, path) for path in (0, 1)]
                    if abs(values[0] - values[1]) > _JUMP:
                        return trial.witness(
                            promise.property,
                            f"tokens {built.at[0]} and {built.at[1]} drift alike to {_STEP:g}, "
                            f"but G is {values[0]:.6g} and {values[1]:.6g}",
                        )
    return None


def _jumps(facts: Facts, gate: TypedGate, size: int) -> list[float]:
    """The magnitudes at which the gate jumps in a cell of `size` children."""
    from fibc.ir.scalar import evaluate, leaning

    budgets = gate.budget.bounds if gate.budget else ()
    k = 1.0
    if gate.steepness is not None:
        assert facts.values is not None
        k = float(
            evaluate(leaning(gate.steepness, 1), facts.values, {"size": size, "tokens": size})
        )
    return [
        float(piece.until(facts.value(budget), k))
        for budget in budgets
        for piece in gate.rule.pieces
        if piece.until is not None
    ]


def because(facts: Facts, promise: Promise) -> Because:
    for level, gate in facts.objective.gates.items():
        for before, after, _ in shape(gate.rule).jumps:
            return Because(
                f"`{gate.rule.name}` at `{level}` jumps between `{before}` and `{after}`",
                "use a gate whose pieces meet",
                (Label(gate.span, "this gate"),),
            )
    return Because(
        "a case begins where its neighbour may have another value",
        "write it with `min`, `max` or `clip`, or delete this line",
    )


CONTINUOUS = Property(
    "continuous",
    "continuous",
    (),
    "G is a continuous function of the log-ratios",
    prove,
    refute,
    because,
)
