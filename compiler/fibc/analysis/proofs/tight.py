"""The range of G with the levels of a channel, and the two channels of a token, taken together.

`ranges` takes them for independent, which is quick and nearly always exact. It is not where a
residual can only be negative if the aggregate it falls from is large, and the gate of that
aggregate does not let go of it: a base clip, say.
"""

from __future__ import annotations

from fractions import Fraction

from fibc.analysis.proofs import linear
from fibc.analysis.proofs.chain import Chain, Line
from fibc.analysis.proofs.ranges import Ranges, SignedPart, gated_ratio_of
from fibc.analysis.proofs.setting import Setting
from fibc.analysis.proofs.shape import shape, shrinks
from fibc.ir import nodes as ir
from fibc.ir.interval import Interval, Real

_ONE, _ZERO = Fraction(1), Fraction(0)


def tight_ranges(setting: Setting, loose: Ranges) -> tuple[Interval, Interval]:
    """The range of G for advantages >= 0 and for those < 0."""
    if not setting.objective.exact:
        return loose.by_advantage
    y = setting.program.by_name[linear.gated(setting.program)]
    leans = (y.up, y.down) if isinstance(y, ir.Select) else (y.name, y.name)
    signal = setting.program.signal
    found = [gated_ratio_of(_range(name, setting, loose), signal) for name in dict.fromkeys(leans)]
    return found[0], found[-1]


def _range(name: str, setting: Setting, loose: Ranges) -> Interval:
    """The range of y: what `ranges` says, and what the chains of its channels say."""
    quick = loose.of[name]
    if linear.everywhere(setting.program)[name] is not None:
        return quick  # the signal itself, or nothing of it
    high = _extreme(name, setting, loose, 1)
    low = _extreme(name, setting, loose, -1)
    return Interval(
        quick.low if low is None else max(low, quick.low),
        quick.high if high is None else min(high, quick.high),
    )


def _extreme(name: str, setting: Setting, loose: Ranges, sign: int) -> Real | None:
    """The largest (sign 1) or least (-1) y, or None where vertices do not decide."""
    op = setting.program.by_name[name]
    pick = max if sign > 0 else min
    if not isinstance(op, ir.Recombine):
        chain = _chain(name, setting, loose)
        return chain.extreme(sign, None) if chain and chain.bounded(sign) else None
    plus, minus = _chain(op.plus, setting, loose), _chain(op.minus, setting, loose)
    if plus is None or minus is None or not (plus.bounded(sign) and minus.bounded(-sign)):
        return None
    # A token is in one channel, and at 0 in the other.
    return pick(
        plus.extreme(sign, None) - minus.extreme(-sign, _ZERO),
        plus.extreme(sign, _ZERO) - minus.extreme(-sign, None),
    )


def _chain(name: str, setting: Setting, loose: Ranges) -> Chain | None:
    """The gates of a channel, coarsest first; None where one takes its budget from neighbours."""
    gates: list[ir.Gate] = []
    ops = setting.program.by_name
    op = ops[name]
    while isinstance(op, ir.Compose):
        gate, lifted = ops[op.fine], ops[op.coarse]
        assert isinstance(gate, ir.Gate)
        assert isinstance(lifted, ir.Lift)
        gates.append(gate)
        op = ops[lifted.x]
    assert isinstance(op, ir.Gate)
    gates.append(op)
    if any(gate.rule.neighbours for gate in gates):
        return None
    box = loose.of[op.x]
    lines = [_lines(gate, setting, loose) for gate in reversed(gates)]
    return Chain(tuple(lines), Interval(box.low, box.high))


def _lines(op: ir.Gate, setting: Setting, loose: Ranges) -> tuple[Line, ...]:
    return tuple(_line(op, found, setting, loose) for found in loose.parts[op.name])


def _line(op: ir.Gate, found: SignedPart, setting: Setting, loose: Ranges) -> Line:
    sign, part = found.sign, found.part
    residuals = part.inputs if sign > 0 else -part.inputs
    k = setting.bounds(op.steepness) if op.steepness is not None else Interval.point(_ONE)
    slope, intercept = part.piece.slope.at(k), part.piece.intercept.at(k)
    acts = op.side is None or (op.side == sign and shrinks(shape(op.rule), k))
    if op.side is not None and op.side != sign and shrinks(shape(op.rule), k):
        return Line(residuals, _ONE, Interval.point(_ZERO))
    if not acts or slope.low != slope.high or intercept.low != intercept.high:
        return Line(residuals, _ZERO, found.values)
    bound = op.upper if sign > 0 else op.lower
    C = setting.bounds(bound) if bound is not None else Interval.point(_ONE)
    if op.budget is not None:
        C = loose.of[op.budget]
    offset = C * intercept
    return Line(residuals, Fraction(slope.low), offset if sign > 0 else -offset)
