"""Whether a gate is odd in x: g(-x) = -g(x), as its expressions show."""

from __future__ import annotations

from typing import Literal

from fibc.gates.rule import GateRule
from fibc.ir.expression import Call, Const, Expr, Input
from fibc.ir.simplify import simplified

Parity = Literal["even", "odd", "zero", None]
"""What becomes of a value when x changes its sign: nothing, its sign changes, it is 0; None: it is
not seen."""

_OUTER = {"abs": "even", "tanh": "odd", "sign": "odd", "stopgrad": "odd"}


def unseen(rule: GateRule) -> tuple[int, Literal["condition", "value"]] | None:
    """The first case that keeps a gate from being seen to be odd, and what of it: its value is not
    odd, or whether it holds depends on the sign of x. None if the gate is odd."""
    for index, case in enumerate(rule.cases):
        if case.condition is not None and _parity(case.condition, rule) not in ("even", "zero"):
            return index, "condition"
        if _parity(case.value, rule) not in ("odd", "zero"):
            return index, "value"
    return None


def _parity(expr: Expr, rule: GateRule) -> Parity:
    match expr:
        case Const(0.0):
            return "zero"
        case Input(index):
            # What else a gate looks at at the token moves with x, in no way that is known here.
            name = rule.inputs[index]
            if name == "x":
                return "odd"
            parameters = {p.name for p in rule.parameters}
            return "even" if name in parameters or name in ("size", "tokens", "advantage") else None
        case Call(("+" | "-" | "min" | "max"), arguments):
            found = {_parity(a, rule) for a in arguments} - {"zero"}
            if expr.function in ("min", "max"):
                return "even" if found <= {"even"} else None
            return found.pop() if len(found) == 1 else None if found else "zero"
        case Call(("*" | "/"), (a, b)):
            pair = (_parity(a, rule), _parity(b, rule))
            if None in pair:
                return None
            if "zero" in pair:
                return "zero"
            return "even" if pair[0] == pair[1] else "odd"
        case Call("clip", (x, low, high)):
            opposite = simplified(Call("*", (Const(-1.0), high)))
            mirrored = low == opposite or simplified(Call("*", (Const(-1.0), low))) == high
            if mirrored and _parity(high, rule) in ("even", "zero"):
                return _parity(x, rule)
            return "even" if all(_parity(a, rule) == "even" for a in (x, low, high)) else None
        case Call("where", (condition, yes, no)):
            if _parity(condition, rule) not in ("even", "zero"):
                return None
            found = {_parity(yes, rule), _parity(no, rule)} - {"zero"}
            return found.pop() if len(found) == 1 else None if found else "zero"
        case Call(function, (argument,)) if _parity(argument, rule) == "odd":
            outer = _OUTER.get(function)
            return "odd" if outer == "odd" else "even" if outer == "even" else None
        case Call(_, arguments):
            return "even" if all(_parity(a, rule) in ("even", "zero") for a in arguments) else None
        case _:
            return "even"
