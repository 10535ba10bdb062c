"""The range of G with the levels of a channel, and the two channels of a token, taken together.

`ranges` takes them for independent, which is quick and nearly always exact. It is not where a
residual can only be negative if the aggregate it falls from is large, and the gate of that
aggregate does not let go of it: a base clip, say.
"""

from __future__ import annotations

from fractions import Fraction

from fibc.analysis import linear
from fibc.analysis.chain import Chain, Line
from fibc.analysis.facts import Facts
from fibc.analysis.ranges import SignedPart, gated_ratio_of
from fibc.analysis.shape import shape, shrinks
from fibc.ir import nodes as ir
from fibc.ir.interval import Interval, Real
from fibdsl.builtins import GATES

_ONE, _ZERO = Fraction(1), Fraction(0)


def tight_ranges(facts: Facts) -> tuple[Interval, Interval]:
    """The range of G for advantages >= 0 and for those < 0."""
    y = facts.program.by_name[linear.gated(facts.program)]
    leans = (y.up, y.down) if isinstance(y, ir.Select) else (y.name, y.name)
    signal = facts.program.signal
    found = [gated_ratio_of(_range(name, facts), signal) for name in dict.fromkeys(leans)]
    return found[0], found[-1]


def _range(name: str, facts: Facts) -> Interval:
    """The range of y: what `ranges` says, and what the chains of its channels say."""
    loose = facts.ranges.of[name]
    if facts.forms[name] is not None:
        return loose  # the signal itself, or nothing of it
    high = _extreme(name, facts, 1)
    low = _extreme(name, facts, -1)
    return Interval(
        loose.low if low is None else max(low, loose.low),
        loose.high if high is None else min(high, loose.high),
    )


def _extreme(name: str, facts: Facts, sign: int) -> Real | None:
    """The largest (sign 1) or least (-1) y, or None where vertices do not decide."""
    op = facts.program.by_name[name]
    pick = max if sign > 0 else min
    if not isinstance(op, ir.Recombine):
        chain = _chain(name, facts)
        return chain.extreme(sign, None) if chain and chain.bounded(sign) else None
    plus, minus = _chain(op.plus, facts), _chain(op.minus, facts)
    if plus is None or minus is None or not (plus.bounded(sign) and minus.bounded(-sign)):
        return None
    # A token is in one channel, and at 0 in the other.
    return pick(
        plus.extreme(sign, None) - minus.extreme(-sign, _ZERO),
        plus.extreme(sign, _ZERO) - minus.extreme(-sign, None),
    )


def _chain(name: str, facts: Facts) -> Chain | None:
    """The gates of a channel, coarsest first; None where one takes its budget from neighbours."""
    gates: list[ir.Gate] = []
    ops = facts.program.by_name
    op = ops[name]
    while isinstance(op, ir.Compose):
        gate, lifted = ops[op.fine], ops[op.coarse]
        assert isinstance(gate, ir.Gate)
        assert isinstance(lifted, ir.Lift)
        gates.append(gate)
        op = ops[lifted.x]
    assert isinstance(op, ir.Gate)
    gates.append(op)
    if any(gate.budget is not None for gate in gates):
        return None
    box = facts.ranges.of[op.x]
    lines = [_lines(gate, facts) for gate in reversed(gates)]
    return Chain(tuple(lines), Interval(box.low, box.high))


def _lines(op: ir.Gate, facts: Facts) -> tuple[Line, ...]:
    return tuple(_line(op, found, facts) for found in facts.ranges.parts[op.name])


def _line(op: ir.Gate, found: SignedPart, facts: Facts) -> Line:
    sign, part = found.sign, found.part
    residuals = part.inputs if sign > 0 else -part.inputs
    k = facts.bounds(op.steepness) if op.steepness is not None else Interval.point(_ONE)
    slope, intercept = part.piece.slope.at(k), part.piece.intercept.at(k)
    acts = op.side is None or (op.side == sign and shrinks(shape(GATES[op.kind]), k))
    if op.side is not None and op.side != sign and shrinks(shape(GATES[op.kind]), k):
        return Line(residuals, _ONE, Interval.point(_ZERO))
    if not acts or slope.low != slope.high or intercept.low != intercept.high:
        return Line(residuals, _ZERO, found.values)
    bound = op.upper if sign > 0 else op.lower
    C = facts.bounds(bound) if bound is not None else Interval.point(_ONE)
    offset = C * intercept
    return Line(residuals, Fraction(slope.low), offset if sign > 0 else -offset)
