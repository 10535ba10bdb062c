"""Decides the promises of an objective: each is proved, refuted by a witness, or undecided."""

from __future__ import annotations

from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibdsl.diagnostics.diagnostic import Diagnostics


def decide_promises(facts: Facts, diagnostics: Diagnostics) -> None:
    """Reports every `require` that is not proved at the facts' parameter values, and every `assume`
    that is refuted."""
    for promise in facts.objective.promises:
        verdict = PROPERTIES[promise.property].decide(facts, promise)
        if verdict.status == "refuted":
            assert verdict.witness is not None
            diagnostics.add(
                "FIB501",
                f"`{promise.property}` does not hold: {verdict.reason}",
                promise.span,
                verdict.help,
                labels=verdict.labels,
                notes=(f"witness: {verdict.witness.shows}",),
                witness=verdict.witness,
            )
        elif verdict.status == "unknown" and not promise.assumed:
            diagnostics.add(
                "FIB502",
                f"`{promise.property}` could not be proved: {verdict.reason}",
                promise.span,
                f"{verdict.help}; or `assume` it",
                labels=verdict.labels,
            )
