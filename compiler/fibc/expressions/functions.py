"""What functions make of their arguments, and in which units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fibc.analysis.proofs.enclosure import enclosure
from fibc.expressions.scope import ADVANTAGE, Scope, Typed
from fibc.ir.expression import Call, Const, Expr
from fibc.ir.interval import Interval
from fibc.ir.simplify import simplified
from fibc.units import LOG, PURE, RATIO, Unit, conversion, same
from fibdsl.builtins import FUNCTIONS, REDUCTIONS
from fibdsl.diagnostics.diagnostic import ReportedError, nearest
from fibdsl.syntax import ast

# Functions whose result has the one unit of their arguments.
_KEEPING = frozenset({"min", "max", "clip", "abs", "stopgrad", "truncate", "mask"})
_BOUNDING = frozenset({"min", "max", "clip", "truncate", "mask"})
_HOLDING = frozenset({"clip", "mask"})
_ESTIMATORS = frozenset({"k1", "k2", "k3"})

# What a function wants of its argument, besides numbers.
_FITS = {
    "exp": (LOG, "a log-ratio or a number"),
    "log": (RATIO, "a ratio or a number"),
    **dict.fromkeys(_ESTIMATORS, (LOG, "a log-ratio or a number")),
}


def takes_bounds(function: str, bound: bool) -> bool:
    """Whether its arguments may be `inf`; `bound`: whether it may be so itself."""
    return function in _BOUNDING or (bound and function == "by_advantage")


def check_name(call: ast.Call, scope: Scope) -> None:
    """Reports a call of what is no function here, and cells where none can be."""
    name, span = call.function.text, call.function.span
    if name in FUNCTIONS:
        if call.over is None:
            return
        raise scope.diagnostics.bad(
            "FIB302",
            f"`{name}` takes no `over`",
            call.over.span,
            "delete it; only `mean` and `sum` are taken over cells",
        )
    if name in REDUCTIONS:
        raise scope.diagnostics.bad(
            "FIB209",
            f"`{name}` cannot stand here",
            span,
            "a gate sees one cell; what it sees of it is said by `aggregate`",
        )
    if name in scope.gates:
        raise scope.diagnostics.bad(
            "FIB209",
            f"`{name}` is a gate, and no function",
            span,
            "write out what it does to the value",
        )
    if name in scope.names or name in scope.params or name in scope.lets:
        help = f"`{name}` is a number; write `{name} * ...` for a product"
    else:
        known = [*FUNCTIONS, *(REDUCTIONS if scope.aggregate is not None else ())]
        help = nearest(name, known)
    raise scope.diagnostics.bad("FIB101", f"unknown function `{name}`", span, help)


def applied(call: ast.Call, arguments: Sequence[Typed], scope: Scope) -> Typed:
    """A function of these arguments."""
    name = call.function.text
    wanted = len(FUNCTIONS[name].split(", "))
    if len(arguments) != wanted:
        raise scope.diagnostics.bad(
            "FIB302",
            f"`{name}` takes {wanted} argument{'s' if wanted > 1 else ''}, not {len(arguments)}",
            call.span,
            f"write `{name}({FUNCTIONS[name]})`",
        )
    if name != "by_advantage" and name not in _KEEPING:
        return _converted(name, *arguments[0], call.arguments[0], scope)
    values, units = [value for value, _ in arguments], [unit for _, unit in arguments]
    spans = [argument.span for argument in call.arguments]
    unit = same(f"`{name}`", units, scope.diagnostics, call.span, spans)
    if name == "by_advantage":
        return _by_advantage(call, values, scope), unit
    if name in _HOLDING:
        scope.bounds.append((name, Call("-", (values[1], values[2])), call))
    return _kept(name, values), unit


def check_bounds(
    scope: Scope, params: Mapping[str, Interval], inputs: Mapping[str, Interval]
) -> None:
    """Reports bounds of which the lower one is always above the upper one; judges each once.

    Raises:
        ReportedError: after all of them are judged.
    """
    bounds, scope.bounds = scope.bounds, []
    error: ReportedError | None = None
    for name, gap, call in bounds:
        ranges = [inputs[i] for i in scope.inputs]
        if enclosure(simplified(gap), params, ranges).positive:
            low, high = (scope.diagnostics.text(bound.span) for bound in call.arguments[1:])
            error = scope.diagnostics.bad(
                "FIB302",
                f"nothing is between these bounds of `{name}`: `{low}` is above `{high}`",
                call.span,
                f"write `{name}({FUNCTIONS[name]})`",
            )
    if error is not None:
        raise error


def _by_advantage(call: ast.Call, values: Sequence[Expr], scope: Scope) -> Expr:
    if ADVANTAGE not in scope.names:
        raise scope.diagnostics.bad(
            "FIB209", "there is no advantage here", call.span, "write the value itself"
        )
    scope.written.setdefault(ADVANTAGE, call.function.span)
    rising = Call("<=", (Const(0.0), scope.input(ADVANTAGE)))
    return Call("where", (rising, *values))


def _converted(name: str, x: Expr, unit: Unit | None, written: ast.Expr, scope: Scope) -> Typed:
    """A function whose result has another unit than its argument."""
    fits, takes = _FITS.get(name, (None, ""))
    if fits is not None and unit not in (None, PURE, fits):
        assert unit is not None
        already = {("exp", RATIO): "an exponential", ("log", LOG): "a logarithm"}
        raise scope.diagnostics.bad(
            "FIB302",
            f"`{name}` takes {takes}, and this is a {unit}",
            written.span,
            f"it is {already[name, unit]} already: leave `{name}` out"
            if (name, unit) in already
            else conversion(unit, fits),
        )
    if name in _ESTIMATORS:
        return _estimated(name, x), LOG if name == "k1" else None
    if name == "exp":
        # Of a log-ratio it is a ratio, which fits where a number does.
        return Call("exp", (x,)), None
    if name in ("log", "sqrt"):
        scope.judge(name, x, written)
    if name == "log":
        # Of a ratio it is a log-ratio; of a number, a number.
        return Call("log", (x,)), LOG if unit == RATIO else None
    if name == "sqrt":
        if unit is not None and unit.power % 2:
            raise scope.diagnostics.bad(
                "FIB302",
                f"`sqrt` takes a pure number or a square, and this is a {unit}",
                written.span,
                "divide by a quantity of the same space",
            )
        root = None if unit is None else Unit(unit.space, unit.power // 2)
        return Call("sqrt", (x,)), root
    # The sign, the sigmoid and the hyperbolic tangent of anything are bare numbers.
    return Call(name, (x,)), None


def _kept(name: str, values: Sequence[Expr]) -> Expr:
    match name:
        case "truncate":
            return Call("min", tuple(values))
        case "mask":
            w, low, high = values
            inside = Call("and", (Call("<=", (low, w)), Call("<=", (w, high))))
            return Call("where", (inside, w, Const(0.0)))
        case _:
            return Call(name, tuple(values))


def _estimated(name: str, d: Expr) -> Expr:
    """Estimators of a KL divergence from one token: k1, k2, k3 of a log-ratio."""
    match name:
        case "k1":
            return Call("*", (Const(-1.0), d))
        case "k2":
            return Call("*", (Const(0.5), Call("*", (d, d))))
        case _:
            return Call("k3", (d,))
