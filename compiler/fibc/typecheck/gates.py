"""Gates where they stand: what they look at, what they are given, whether they have a value."""

from __future__ import annotations

import math
from dataclasses import replace

from fibc.analysis.proofs.enclosure import doubts
from fibc.gates.use import gate_inputs
from fibc.ir.expression import inputs_of, show
from fibc.ir.scalar import bounds
from fibc.no_value import DOES, no_value
from fibc.resolved import Resolved, ResolvedGate
from fibc.typecheck.arguments import gate_arguments
from fibc.typecheck.quantities import Quantities
from fibc.typed import Budget, TypedGate
from fibdsl.builtins import CELL_COUNTS, GATE_WORDS
from fibdsl.diagnostics.diagnostic import Label, ReportedError
from fibdsl.types import TOKEN, Channels, Signal, Space


def typed_gate(
    level: str, gate: ResolvedGate, spec: Resolved, quantities: Quantities, after: bool = False
) -> TypedGate | None:
    """A gate that fits where it stands, with what it is given; None where something is wrong.

    Args:
        after: whether it stands before the levels, as what `after` says.
    """
    good = True
    if gate.rule.neighbours:
        good = _shares(level, gate, spec, quantities)
    good = _sees(level, gate, spec, quantities, after) and good
    arguments: dict[str, Budget] = {}
    try:
        arguments = gate_arguments(level, gate, spec, quantities)
    except ReportedError:
        good = False
    if not good:
        return None
    rule = gate.rule
    k = rule.steepness
    if k is not None and not rule.builtin:
        # What is known of pieces is known for steepnesses that are positive and finite.
        given = bounds(arguments[k.name].upper, quantities.ranges)
        if not given.positive or math.isinf(given.low):
            rule = replace(rule, pieces=())
    typed = TypedGate(rule, gate.role, arguments, gate.over, gate.pessimistic, gate.span)
    return typed if _defined(gate, typed, quantities) else None


def _sees(
    level: str, gate: ResolvedGate, spec: Resolved, quantities: Quantities, after: bool
) -> bool:
    """Whether the gate looks at nothing that is not where it stands."""
    rule = gate.rule
    wanted = spec.signal.space
    if rule.signal is not None and rule.signal is not wanted:
        other = Signal.LOG_RATIO if rule.signal is Space.LOG else Signal.RATIO
        quantities.diagnostics.add(
            "FIB304",
            f"`{rule.name}` gates a {rule.signal}, and the signal here is `{spec.signal}`",
            gate.gate_span,
            f"use `signal {other}`, or another gate",
        )
        return False
    for word in rule.context:
        if word.text in CELL_COUNTS and level == TOKEN:
            code, has = "FIB406", "of a cell, and a token has none"
            help = "use it at a coarser level"
        elif word.text in GATE_WORDS and (level != TOKEN or after):
            where = f"at `{level}`" if level != TOKEN else "before the levels"
            code, has = "FIB209", f"of a token, and stands {where}"
            help = "use it at `token`"
        else:
            continue
        quantities.diagnostics.add(
            code,
            f"`{rule.name}` looks at `{word.text}` {has}",
            gate.gate_span,
            help,
            labels=(Label(word.span, f"here it looks at `{word.text}`"),),
        )
        return False
    return True


def _shares(level: str, gate: ResolvedGate, spec: Resolved, quantities: Quantities) -> bool:
    """Whether a gate that bounds whole cells can do so here."""
    good = True
    if (spec.signal, spec.channels) != (Signal.RATIO, Channels.NET):
        quantities.diagnostics.add(
            "FIB304",
            f"`{gate.rule.name}` bounds total variation, a sum of |r - 1|, "
            f"but the signal is `{spec.signal} {spec.channels}`",
            gate.gate_span,
            "use `signal ratio`",
        )
        good = False
    if gate.over is None and gate.complete:
        names = [level.name for level in spec.levels]
        coarser = names[names.index(level) + 1 :]
        quantities.diagnostics.add(
            "FIB401",
            f"`{gate.rule.name}` needs the cell whose budget it shares",
            gate.gate_span,
            f"write `{gate.rule.name}(0.1, over {coarser[0] if coarser else 'state'})`",
        )
        good = False
    return good and gate.complete


def _defined(gate: ResolvedGate, typed: TypedGate, quantities: Quantities) -> bool:
    """Whether the gate has a value whatever it is given; pieces always have one."""
    rule = typed.rule
    if rule.pieces:
        return True
    for sign in (1, -1):
        inputs = gate_inputs(typed, quantities.ranges, sign)
        for function, argument, found in doubts(rule.whole, {}, inputs):
            shown = show(argument, rule.names)
            place = rule.places.get((function, shown))
            labels: tuple[Label, ...] = ()
            if place is not None:
                shown = quantities.diagnostics.text(place)
                labels = (Label(place, f"`{rule.name}` {DOES[function]} this"),)
            given = {i for i, name in enumerate(rule.inputs) if name in typed.arguments}
            message, help = no_value(
                function, shown, found, f"`{rule.name}`", inputs_of(argument) <= given
            )
            quantities.diagnostics.add("FIB305", message, gate.gate_span, help, labels=labels)
            return False
    return True
