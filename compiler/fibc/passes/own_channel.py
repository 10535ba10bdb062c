"""With a split signal a token is in one of two channels, and in the other it is 0.

There its residual is -S, the same for all tokens of a cell, so that channel is gated once a cell.
What is left at the token is one residual and one gate:

    y = K y+ + g(x+ - K S+)  -  K y- - g(x- - K S-)
      = own(K (y+ - y- + g(S-)), K (g(S+) - y+ + y-)) + g(x - own(K S+, K S-))

where own(a, b) is a where x >= 0 and -b elsewhere; gates are odd.
"""

from __future__ import annotations

from fibc.ir import nodes as ir
from fibc.passes.rewrite import rebuild


def own_channel(program: ir.Program) -> ir.Program:
    ops = program.by_name
    written: list[ir.Op] = []
    for op in program.ops:
        pair = _channels(op, ops)
        written += [op] if pair is None else _in_one(op, *pair, ops)
    return rebuild(program, written, {})


class _Channel:
    """One channel at the token: y = K y_above + g(x_channel - K S)."""

    def __init__(self, x: str, above: str, S: str, gate: ir.Gate) -> None:
        self.x = x
        self.above = above
        self.S = S
        self.gate = gate


def _channels(op: ir.Op, ops: dict[str, ir.Op]) -> tuple[_Channel, _Channel] | None:
    """The two channels of a recombination, if each is gated at the token by the same gate."""
    if not isinstance(op, ir.Recombine):
        return None
    plus, minus = _channel(op.plus, 1, ops), _channel(op.minus, -1, ops)
    if plus is None or minus is None or plus.x != minus.x:
        return None
    a, b = plus.gate, minus.gate
    alike = (a.rule, a.upper, a.lower) == (b.rule, b.upper, b.lower) and a.upper == a.lower
    return (plus, minus) if alike else None


def _channel(name: str, sign: ir.Sign, ops: dict[str, ir.Op]) -> _Channel | None:
    match ops[name]:
        case ir.Compose(_, _, coarse, fine):
            lifted, gate = ops[coarse], ops[fine]
        case _:
            return None
    if not isinstance(lifted, ir.Lift) or not isinstance(gate, ir.Gate):
        return None
    if gate.side is not None or gate.budget is not None or gate.steepness is not None:
        return None
    residual = ops[gate.x]
    if not isinstance(residual, ir.Residual):
        return None
    x, S = ops[residual.x], ops[residual.coarse]
    if not (isinstance(x, ir.Channel) and x.sign == sign and isinstance(S, ir.Lift)):
        return None
    return _Channel(x.x, lifted.x, S.x, gate)


def _in_one(op: ir.Op, plus: _Channel, minus: _Channel, ops: dict[str, ir.Op]) -> list[ir.Op]:
    own = f"own.{op.name}"
    token, level = op.level, ops[plus.S].level
    gate = plus.gate

    def gated(name: str, x: str, level: str) -> ir.Gate:
        return ir.Gate(name, level, x, gate.rule, gate.upper, gate.lower)

    return [
        # Each cell, once: what its tokens of either channel get from the other one.
        ir.Residual(f"{own}.base", level, plus.above, minus.above),
        gated(f"{own}.g.plus", plus.S, level),
        gated(f"{own}.g.minus", minus.S, level),
        ir.Compose(f"{own}.rise", level, f"{own}.base", f"{own}.g.minus"),
        ir.Residual(f"{own}.fall", level, f"{own}.g.plus", f"{own}.base"),
        ir.Lift(f"{own}.K.rise", token, f"{own}.rise"),
        ir.Lift(f"{own}.K.fall", token, f"{own}.fall"),
        ir.OwnChannel(f"{own}.y", token, plus.x, f"{own}.K.rise", f"{own}.K.fall"),
        # Each token.
        ir.Lift(f"{own}.K.S.plus", token, plus.S),
        ir.Lift(f"{own}.K.S.minus", token, minus.S),
        ir.OwnChannel(f"{own}.S", token, plus.x, f"{own}.K.S.plus", f"{own}.K.S.minus"),
        ir.Residual(f"{own}.u", token, plus.x, f"{own}.S"),
        gated(f"{own}.g", f"{own}.u", token),
        ir.Compose(op.name, token, f"{own}.y", f"{own}.g"),
    ]
