"""Invariance under splits: the loss of a batch is the sum of the losses of its parts, whole rows
each, computed with the normalizers of the whole batch."""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.split import split
from fibc.analysis.property import Because, Property
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Promise

_TOLERANCE = 1e-9


def prove(facts: Facts, promise: Promise) -> str | None:
    if split(facts.program).adds_up:
        return "nothing is computed of more than one row but sums, which add up"
    return None


def refute(facts: Facts, promise: Promise) -> Witness | None:
    import numpy as np

    from fibc import interp
    from fibc.analysis.witnesses.lab import batch_of, trials
    from fibdsl.types import BATCH

    assert facts.values is not None
    program = facts.program
    for trial in trials(facts):
        tensors = trial.built.tensors
        rows = len(tensors["mask"])
        if rows < 2:
            continue
        normalizers = {}
        if program.outermost is not None:
            count = f"n.{program.outermost}.{BATCH}"
            normalizers = {program.outermost: float(trial.run.values[count][0])}
        parts, first = 0.0, (rows + 1) // 2
        for half in np.array_split(np.arange(rows), 2):
            batch = batch_of(facts, {n: t[half] for n, t in tensors.items()})
            parts += interp.run(program, batch, facts.values, normalizers).loss
        whole = trial.run.loss
        if abs(parts - whole) > _TOLERANCE * max(1.0, abs(whole)):
            return trial.witness(
                promise.property,
                f"the loss is {whole:.6g}; those of row{'s' if first > 1 else ''} "
                f"0{f' to {first - 1}' if first > 1 else ''} and of the others, with the "
                f"normalizers of all, add up to {parts:.6g}",
            )
    return None


def because(facts: Facts, promise: Promise) -> Because:
    found = split(facts.program)
    return Because(
        f"a part of a `{found.level}` is taken for the whole",
        f"keep each `{found.level}` in one call, gate no level coarser than `trajectory`, "
        "or delete this line",
    )


SPLIT_INVARIANT = Property(
    "split_invariant",
    "split_invariant",
    (),
    "the losses of parts of a batch, whole rows each, add up to the loss of the batch",
    prove,
    refute,
    because,
)
