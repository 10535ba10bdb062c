"""Decides the promises of an objective: each is proved, refuted by a witness, or undecided."""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibc.analysis.property import DELETE
from fibdsl.diagnostics.diagnostic import Diagnostics, Label


def decide_promises(facts: Facts, diagnostics: Diagnostics) -> None:
    """Reports every `require` that is not proved at the facts' parameter values, and every `assume`
    that is refuted."""
    for promise in facts.objective.promises:
        verdict = PROPERTIES[promise.property].decide(facts, promise)
        if verdict.status == "proved" or (verdict.status == "unknown" and promise.assumed):
            continue
        place, name, help, labels = promise.span, f"`{promise.property}`", verdict.help, []
        if promise.of is not None:
            # Whoever broke it stands here, and can waive it but not delete it.
            place, name = facts.objective.span, f"`{promise}`"
            waive = f"`waive {promise}`"
            help = help or waive
            help = help.replace(DELETE, waive) if DELETE in help else f"{help}, or {waive}"
            labels = [Label(promise.span, f"promised by `{promise.of}`")]
        if verdict.status == "refuted":
            assert verdict.witness is not None
            diagnostics.add(
                "FIB501",
                f"{name} does not hold: {verdict.reason}",
                place,
                help,
                labels=(*verdict.labels, *labels),
                notes=(f"witness: {verdict.witness.shows}",),
                witness=verdict.witness,
            )
        else:
            diagnostics.add(
                "FIB502",
                f"{name} could not be proved: {verdict.reason}",
                place,
                f"{help}; or `assume` it" if promise.of is None else help,
                labels=(*verdict.labels, *labels),
            )
