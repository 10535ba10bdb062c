"""The range of every value of a program over all batches: intervals with rational ends.

Exact gate by gate; between gates it takes what channels and levels do for independent, which a
large enough batch makes them nearly always. So a range holds every batch, and whether its ends are
reached is for a witness to show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from fibc.analysis.proofs import linear
from fibc.analysis.proofs.enclosure import enclosure
from fibc.analysis.proofs.setting import Setting
from fibc.analysis.proofs.shape import Part, shape
from fibc.gates.leaves import LEAVES
from fibc.gates.use import total_range
from fibc.ir import nodes as ir
from fibc.ir.functions import exp_range
from fibc.ir.interval import Interval, hull
from fibdsl.types import Signal

_REALS = Interval.everything()
_NONNEGATIVE = Interval(Fraction(0), math.inf, high_open=True)


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A piece of a gate that inputs of a sign (1 or -1) can reach.

    Attributes:
        part: the piece, and what of it can be reached, as magnitudes.
        values: of the gate there, pessimism included.
    """

    sign: int
    part: Part
    values: Interval


@dataclass(frozen=True)
class Ranges:
    """Enclosures over all batches.

    Attributes:
        of: the range of each value.
        gated_ratio: the range of G.
        by_advantage: the range of G where the advantage is >= 0 and where it is < 0.
        factor: the same of what the advantage is multiplied with, the weight included.
        parts: for each gate, what it does to inputs of either sign.
    """

    of: dict[str, Interval]
    gated_ratio: Interval
    by_advantage: tuple[Interval, Interval]
    factor: tuple[Interval, Interval]
    parts: dict[str, tuple[SignedPart, ...]]


def ranges(setting: Setting) -> Ranges:
    """Ranges of all values of the reference program."""
    program = setting.program
    forms = linear.everywhere(program)
    signal = linear.signal_form(program)
    source = next(iter(signal)) if len(signal) == 1 else "log_ratio"
    of: dict[str, Interval] = {}
    parts: dict[str, tuple[SignedPart, ...]] = {}
    for op in program.ops:
        if isinstance(op, ir.Gate):
            parts[op.name] = tuple(_gate_parts(op, of, setting))
        # Where all gates pass, the sum telescopes to the signal.
        whole = forms[op.name] == signal and op.name not in signal
        if whole and source in of:
            of[op.name] = (
                of[source]
                if program.signal is Signal.LOG_RATIO or len(signal) == 1
                else Interval(Fraction(-1), math.inf, True, True)
            )
        elif isinstance(op, ir.Gate):
            of[op.name] = hull(found.values for found in parts[op.name])
        else:
            of[op.name] = _range(op, of, setting)
    up, down = (_leaning(program.gated_ratio, lean, of, setting) for lean in (1, -1))
    term = tuple(_leaning(program.factor, lean, of, setting) for lean in (1, -1))
    return Ranges(of, hull([up, down]), (up, down), (term[0], term[1]), parts)


def _leaning(name: str, lean: int, of: dict[str, Interval], setting: Setting) -> Interval:
    """The range of a value at the token where the advantage is >= 0 (1) or < 0 (-1)."""
    match setting.program.by_name[name]:
        case ir.Select(_, _, up, down):
            return _leaning(up if lean > 0 else down, lean, of, setting)
        case ir.GatedRatio(_, _, y, signal):
            return gated_ratio_of(_leaning(y, lean, of, setting), signal)
        case ir.Data(_, _, tensor):
            return data_range(tensor, setting, lean)
        case ir.Pointwise(_, _, inputs, expr):
            inside = [_leaning(i, lean, of, setting) for i in inputs]
            return enclosure(expr, setting.known, inside)
        case _:
            return of[name]


def data_range(tensor: str, setting: Setting, lean: int | None = None) -> Interval:
    """What a tensor of a batch can be; advantages of one sign for a `lean`."""
    if tensor == "advantages":
        if lean is None:
            return _REALS
        return _NONNEGATIVE if lean > 0 else Interval(-math.inf, Fraction(0), True, True)
    return LEAVES[tensor] if tensor in LEAVES else setting.known[tensor]


def _range(op: ir.Op, of: dict[str, Interval], setting: Setting) -> Interval:
    match op:
        case ir.LogRatio():
            return _REALS
        case ir.Deviation():
            return Interval(Fraction(-1), math.inf, True, True)
        case ir.Channel(_, _, x, sign):
            side = of[x] if sign > 0 else -of[x]
            if side.high <= 0:
                return Interval.point(Fraction(0))  # nothing is ever in this channel
            return Interval(Fraction(0), side.high, False, side.high_open)
        case ir.Data(_, _, tensor):
            return data_range(tensor, setting)
        case ir.LogProb():
            return data_range("logp", setting)
        case ir.Pointwise(_, _, inputs, expr):
            return enclosure(expr, setting.known, [of[name] for name in inputs])
        case ir.PushForward(_, _, x) | ir.Weighted(_, _, x, _):
            return total_range(of[x])
        case ir.Shared(_, _, x) | ir.Present(_, _, x, _):
            return of[x]
        case ir.Mean(_, _, total, _):
            return of[setting.program.summed(total)]
        case ir.Lift(_, _, x):
            return of[x]
        case ir.Residual(_, _, x, coarse):
            return of[x] - of[coarse]
        case ir.Compose(_, _, coarse, fine):
            return of[coarse] + of[fine]
        case ir.Recombine(_, _, plus, minus):
            return of[plus] - of[minus]
        case ir.Magnitude(_, _, x):
            return Interval(Fraction(0), max(of[x].high, -of[x].low))
        case ir.Select(_, _, up, down):
            return hull([of[up], of[down]])
        case ir.GatedRatio(_, _, y, signal):
            return gated_ratio_of(of[y], signal)
        case ir.Ratio() | ir.KL() | ir.NeighbourBudget():
            return _NONNEGATIVE if not isinstance(op, ir.KL) else _REALS
        case ir.Count():
            return Interval(Fraction(1), math.inf, high_open=True)
        case _:
            return _REALS


def _gate_parts(op: ir.Gate, of: dict[str, Interval], setting: Setting) -> Iterator[SignedPart]:
    """For each sign of the input, the pieces it can reach."""
    x = of[op.x]
    k = setting.bounds(op.steepness) if op.steepness is not None else Interval.point(Fraction(1))
    for sign, magnitudes in ((1, x), (-1, -x)):
        if magnitudes.high < 0 or (magnitudes.high == 0 and sign < 0):
            continue
        a = Interval(Fraction(0), magnitudes.high, False, magnitudes.high_open)
        if op.budget is not None:
            C = of[op.budget]
        else:
            bound = op.upper if sign > 0 else op.lower
            C = setting.bounds(bound) if bound is not None else Interval.point(Fraction(1))
        for part in shape(op.rule).parts(C, k, a):
            values = part.values
            if op.side is not None:
                values = _where_it_acts(part, sign * op.side)
            yield SignedPart(sign, part, values if sign > 0 else -values)


def _where_it_acts(part: Part, side: int) -> Interval:
    """The smaller (side 1) or the larger (side -1) of a gate and its input, as magnitudes."""
    pick = min if side > 0 else max
    return Interval(
        pick(part.inputs.low, part.values.low),
        pick(part.inputs.high, part.values.high),
    )


def gated_ratio_of(y: Interval, signal: Signal) -> Interval:
    """The range of G, given that of y."""
    # Infinities, and the 0 of an exponential, are approached and never reached.
    if signal is Signal.RATIO:
        G = y + Interval.point(Fraction(1))
        return replace(G, low_open=math.isinf(G.low), high_open=math.isinf(G.high))
    return exp_range(y)
