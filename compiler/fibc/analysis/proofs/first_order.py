"""What a program is around r = 1, exactly: every value there, and how it follows the log-ratios.

A value is an interval, often a point; its derivative a linear combination of symbols: the token's
own log-ratio, its channels, and aggregates. So a hierarchy whose gates all pass telescopes to the
log-ratio, and a surrogate of several cases is that of the case that r = 1 is in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from fibc.analysis.proofs.enclosure import enclosure
from fibc.analysis.proofs.ranges import data_range
from fibc.analysis.proofs.setting import Setting
from fibc.analysis.proofs.shape import shape
from fibc.ir import nodes as ir
from fibc.ir.expression import Const
from fibc.ir.functions import derivative, exp_range
from fibc.ir.interval import Interval
from fibdsl.types import Signal

Form = Mapping[str, Fraction]
"""A linear combination of symbols, the names of values."""

_ONE = Fraction(1)
_ZERO = Interval.point(Fraction(0))
_REALS = Interval.everything()


def agrees(setting: Setting) -> bool:
    """Whether at r = 1 what multiplies a token's advantage follows its own log-ratio with slope 1,
    and no other's: for advantages of either sign, the weight aside."""
    return all(_AtOne(setting, lean).agrees() for lean in (1, -1))


class _AtOne:
    def __init__(self, setting: Setting, lean: int) -> None:
        self.setting = setting
        self.lean = lean
        self.values: dict[str, Interval] = {}
        self.forms: dict[str, Form | None] = {}
        for op in setting.program.ops:
            self.values[op.name] = self.value(op)
            self.forms[op.name] = self.form(op)

    def agrees(self) -> bool:
        program = self.setting.program
        [source] = [op.name for op in program.ops if isinstance(op, ir.LogRatio)]
        return self.forms[program.factor] == {source: _ONE}

    # --- values ---------------------------------------------------------------------------------

    def value(self, op: ir.Op) -> Interval:
        v = self.values
        if op.name == "weight":
            return Interval.point(_ONE)  # a weight is of the data, and put aside
        match op:
            case ir.LogRatio() | ir.Deviation() | ir.Channel() | ir.KL():
                return _ZERO
            case ir.Ratio():
                return Interval.point(_ONE)
            case ir.LogProb():
                return data_range("logp", self.setting)
            case ir.Data(_, _, tensor):
                if tensor == "advantages":
                    # Of an advantage of 0 no surrogate matters.
                    side = Interval(Fraction(0), float("inf"), True, True)
                    return side if self.lean > 0 else -side
                return data_range(tensor, self.setting)
            case ir.Shared(_, _, x) | ir.Lift(_, _, x) | ir.Present(_, _, x, _):
                return v[x]
            case ir.Weighted(_, _, x, _) | ir.PushForward(_, _, x):
                return _ZERO if v[x] == _ZERO else _REALS
            case ir.Mean(_, _, total, _):
                return v[self.setting.program.summed(total)]
            case ir.Residual(_, _, x, coarse) | ir.Recombine(_, _, x, coarse):
                return v[x] - v[coarse]
            case ir.Compose(_, _, coarse, fine):
                return v[coarse] + v[fine]
            case ir.Magnitude(_, _, x):
                return _ZERO if v[x] == _ZERO else _REALS
            case ir.Select(_, _, up, down):
                return v[up if self.lean > 0 else down]
            case ir.Gate():
                zero = shape(op.rule).identity_at_zero or shape(op.rule).zero
                return _ZERO if v[op.x] == _ZERO and zero else _REALS
            case ir.GatedRatio(_, _, y, signal):
                if signal is Signal.RATIO:
                    return v[y] + Interval.point(_ONE)
                return exp_range(v[y])
            case ir.Pointwise(_, _, inputs, expr):
                return enclosure(expr, self.setting.known, [v[name] for name in inputs])
            case ir.Count():
                return Interval(_ONE, float("inf"), high_open=True)
            case _:
                return _REALS

    # --- derivatives ----------------------------------------------------------------------------

    def form(self, op: ir.Op) -> Form | None:
        forms = self.forms
        match op:
            case ir.LogRatio():
                return {op.name: _ONE}
            case ir.Deviation(_, _, x) | ir.LogProb(_, _, x) | ir.Ratio(_, _, x):
                return forms[x]  # d exp(x) is dx where x is 0
            case ir.Channel():
                return {op.name: _ONE}
            case ir.Mean() | ir.PushForward():
                return {op.name: _ONE}
            case ir.Data() | ir.Shared() | ir.Count() | ir.NonNegativeAdvantage():
                return {}
            case ir.Lift(_, _, x):
                return forms[x]
            case ir.Residual(_, _, x, coarse):
                return _sum(forms[x], forms[coarse], -_ONE)
            case ir.Recombine(_, _, plus, minus):
                return self.joined(_sum(forms[plus], forms[minus], -_ONE))
            case ir.Compose(_, _, coarse, fine):
                return _sum(forms[coarse], forms[fine], _ONE)
            case ir.Select(_, _, up, down):
                return forms[up if self.lean > 0 else down]
            case ir.Gate():
                # Budgets are positive (typecheck); what a censor's neighbours leave is n delta.
                gate = shape(op.rule)
                if gate.zero and op.side is None:
                    return {}
                at_zero = self.values[op.x] == _ZERO
                return forms[op.x] if gate.identity_at_zero and at_zero else None
            case ir.GatedRatio(name, _, y, signal):
                one = signal is Signal.RATIO or self.values[name] == Interval.point(_ONE)
                return forms[y] if one else None
            case ir.Pointwise():
                return self.pointwise(op)
            case _:
                return None

    def pointwise(self, op: ir.Pointwise) -> Form | None:
        values = [self.values[name] for name in op.inputs]
        total: Form | None = {}
        for index, name in enumerate(op.inputs):
            slope = derivative(op.expr, index)
            if slope == Const(0.0) or self.forms[name] == {}:
                continue
            found = enclosure(slope, self.setting.known, values)
            if found.low != found.high or math.isinf(found.low):
                return None
            if found.low != 0:
                total = _sum(total, self.forms[name], Fraction(found.low))
        return total

    def joined(self, form: Form | None) -> Form | None:
        """Both channels of a value, with opposite signs, are the value."""
        if form is None:
            return None
        found = dict(form)
        channels = {op.sign: op for op in self.setting.program.ops if isinstance(op, ir.Channel)}
        if len(channels) == 2:
            plus, minus = channels[1], channels[-1]
            slope = found.get(plus.name)
            if slope is not None and found.get(minus.name) == -slope:
                del found[plus.name], found[minus.name]
                return _sum(found, self.forms[plus.x], slope)
        return found


def _sum(a: Form | None, b: Form | None, factor: Fraction) -> Form | None:
    if a is None or b is None:
        return None
    total = {s: a.get(s, Fraction(0)) + factor * b.get(s, Fraction(0)) for s in {**a, **b}}
    return {s: c for s, c in total.items() if c}
