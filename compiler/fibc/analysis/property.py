"""What a property is: how it is written, proved, and refuted.

A proof holds for every batch and every parameter value the facts allow. A refutation is a batch on
which the reference interpreter shows that the property fails; without one nothing is refuted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from fibc.analysis.facts import Facts
from fibc.analysis.witnesses.witness import Witness
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Label

Status = Literal["proved", "refuted", "unknown"]

DELETE = "delete this line"
"""How helps say that a promise may go; one that is inherited is waived instead."""


@dataclass(frozen=True, slots=True)
class Because:
    """Why a property fails or is undecided, how to mend it, and the gates it hangs on."""

    reason: str
    help: str
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a property. A refuted one has a witness."""

    status: Status
    reason: str
    help: str | None = None
    labels: tuple[Label, ...] = ()
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Property:
    """A property of objectives.

    Attributes:
        name: the word after `require`.
        usage: how it is written, for messages.
        takes: which of "at", "over", "in", "tv" it needs.
        may_take: which it may have besides.
        summary: what it says, in one line.
        prove: a reason that holds for every batch, or None.
        refute: a batch on which it fails, at the facts' one set of parameter values, or None.
        because: why it is not proved.
    """

    name: str
    usage: str
    takes: tuple[str, ...]
    summary: str
    prove: Callable[[Facts, Promise], str | None]
    refute: Callable[[Facts, Promise], Witness | None]
    because: Callable[[Facts, Promise], Because]
    may_take: tuple[str, ...] = ()

    def decide(self, facts: Facts, promise: Promise) -> Verdict:
        """Proved, refuted with a witness, or unknown; never guessed."""
        proof = self.prove(facts, promise)
        if proof is not None:
            return Verdict("proved", proof)
        because = self.because(facts, promise)
        for point in facts.samples:
            witness = self.refute(point, promise)
            if witness is not None:
                if point.values != facts.values and point.values != facts.objective.defaults:
                    at = ", ".join(f"{name} = {v:g}" for name, v in (point.values or {}).items())
                    witness = replace(witness, shows=f"{witness.shows}, at {at}")
                return Verdict("refuted", because.reason, because.help, because.labels, witness)
        return Verdict("unknown", because.reason, because.help, because.labels)
