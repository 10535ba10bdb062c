"""Linear forms: values that are linear in aggregates, and which cells values depend on.

Aggregates are symbols. A gate that is the identity hands its input on, so a hierarchy whose gates
all are telescopes to the signal, and cancels what it took from the cells above.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from fibc.analysis.proofs.shape import shape
from fibc.ir import nodes as ir
from fibc.ir.scalar import Const
from fibdsl.types import TOKEN, Signal

Form = Mapping[str, Fraction]
"""A linear combination of symbols: names of the operations that are not themselves linear."""

_ONE = Fraction(1)


def everywhere(program: ir.Program) -> dict[str, Form | None]:
    """The form of every value that is linear in aggregates on every batch; None of the others."""
    forms: dict[str, Form | None] = {}
    for op in program.ops:
        forms[op.name] = _form(op, forms)
    return forms


def signal_form(program: ir.Program) -> Form:
    """What y is if nothing is gated: the signal itself."""
    channels = {op.sign: op.name for op in program.ops if isinstance(op, ir.Channel)}
    if channels:
        return {channels[1]: _ONE, channels[-1]: -_ONE}
    kind = ir.LogRatio if program.signal is Signal.LOG_RATIO else ir.Deviation
    return {next(op.name for op in program.ops if isinstance(op, kind)): _ONE}


def gated(program: ir.Program) -> str:
    """The name of y, of which the gated ratio is made."""
    return next(op.y for op in program.ops if isinstance(op, ir.GatedRatio))


def _form(op: ir.Op, forms: Mapping[str, Form | None]) -> Form | None:
    match op:
        case ir.LogRatio() | ir.Deviation() | ir.Channel() | ir.Mean() | ir.PushForward():
            return {op.name: _ONE}
        case ir.Lift(_, _, x):
            return forms[x]
        case ir.Residual(_, _, x, coarse):
            return _sum(forms[x], forms[coarse], -_ONE)
        case ir.Compose(_, _, coarse, fine):
            return _sum(forms[coarse], forms[fine], _ONE)
        case ir.Recombine(_, _, plus, minus):
            return _sum(forms[plus], forms[minus], -_ONE)
        case ir.Select(_, _, up, down):
            return forms[up] if forms[up] == forms[down] else None
        case ir.Gate():
            return _gate(op, forms[op.x])
        case _:
            return None


def _gate(op: ir.Gate, x: Form | None) -> Form | None:
    gate = shape(op.rule)
    if gate.zero and op.side is None:
        return {}
    unbounded = op.upper == op.lower == Const(float("inf"))
    return x if gate.identity or (unbounded and gate.identity_at_zero) else None


def _sum(a: Form | None, b: Form | None, factor: Fraction) -> Form | None:
    if a is None or b is None:
        return None
    total = {s: a.get(s, Fraction(0)) + factor * b.get(s, Fraction(0)) for s in {**a, **b}}
    return {s: c for s, c in total.items() if c}


def reach(program: ir.Program) -> set[str]:
    """The levels whose whole cells a token's term can depend on (its gated ratio, its weight, its
    penalty), in log-ratios other than its own; `token` where it depends on nothing but its own."""
    forms = everywhere(program)
    symbols: dict[str, frozenset[str]] = {}
    for op in program.ops:
        form = forms[op.name]
        if form is not None:
            symbols[op.name] = frozenset(form)
        elif isinstance(op, ir.Count | ir.NonNegativeAdvantage | ir.Data | ir.Shared):
            symbols[op.name] = frozenset()
        else:
            symbols[op.name] = frozenset().union(*(symbols[name] for name in op.operands))
    [term] = [op for op in program.ops if isinstance(op, ir.Term)]
    found = frozenset().union(*(symbols[name] for name in term.operands))
    # Where every gate drops, G is 1 and depends on nothing.
    return {program.by_name[symbol].level for symbol in found} or {TOKEN}
