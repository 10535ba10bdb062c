"""Functions of formulas, made simpler where that says the same: exp(log r) is r, a clip without a
lower bound a minimum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from fibc.formula import algebra
from fibc.formula.algebra import (
    INFINITY,
    MINUS_INFINITY,
    ONE,
    ZERO,
    Aggregate,
    Apply,
    Param,
    Sum,
    Symbol,
    Tree,
    constant,
    divided,
    minus,
    number,
    plus,
    subtrees,
    times,
)
from fibc.gates.use import total_range
from fibc.ir.functions import FUNCTIONS
from fibc.ir.interval import Interval

LOG_RATIO, LOGP, ADVANTAGE = Symbol("log r"), Symbol("log π"), Symbol("A")
RATIO, PROB = Symbol("r"), Symbol("π")
TENSORS = {
    "advantages": ADVANTAGE,
    "old_logp": Symbol("log π_old"),
    "ref_logp": Symbol("log π_ref"),
    "rollout_logp": Symbol("log π_rollout"),
}
_EXPONENTIALS: dict[Tree, Symbol] = {
    symbol: Symbol(symbol.name.removeprefix("log "))
    for symbol in (LOG_RATIO, LOGP, *TENSORS.values())
    if symbol.name.startswith("log ")
}
_LOGARITHMS: dict[Tree, Tree] = {exp: log for log, exp in _EXPONENTIALS.items()}
_DATA = {*TENSORS.values(), *(_EXPONENTIALS.get(t, t) for t in TENSORS.values()), INFINITY}

_COMPARISONS = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b}


@dataclass(frozen=True, slots=True)
class Functions:
    """Applies functions.

    Attributes:
        ranges: what the parameters can be, by name.
        lean: 1 where the advantage is known to be >= 0, -1 where it is known to be below.
    """

    ranges: Mapping[str, Interval]
    lean: int | None = None

    def apply(self, function: str, *arguments: Tree) -> Tree:
        """The function of these arguments; operators too."""
        match function, arguments:
            case (("+" | "-" | "*" | "/"), (a, b)):
                return {"+": plus, "-": minus, "*": times, "/": divided}[function](a, b)
            case "exp", (x,):
                return exp(x)
            case "expm1", (x,):
                return minus(exp(x), ONE)
            case "k3", (x,):
                return minus(minus(exp(x), ONE), x)
            case "log", (x,):
                return log(x)
            case "stopgrad", (x,):
                stopped = isinstance(x, Apply) and x.function == function
                return x if stopped or _is_data(x) else Apply(function, (x,))
            case "abs", (x,):
                return x if self.enclosure(x).low >= 0 else Apply(function, (x,))
            case "sign", (x,) if x == ADVANTAGE and self.lean is not None:
                return number(self.lean)
            case "min", (a, b):
                return self.least(a, b)
            case "max", (a, b):
                return self.greatest(a, b)
            case "clip", (x, low, high):
                return self.least(self.greatest(x, low), high)
            case (("<" | "<="), (a, b)):
                return self.compared(function, a, b)
            case (("and" | "or"), (a, b)):
                return _joined(function, a, b)
            case "where", (condition, yes, no):
                return _where(condition, yes, no)
            case _:
                return Apply(function, arguments)

    def least(self, a: Tree, b: Tree) -> Tree:
        a, b = _bound_last(a, b)
        x, y = self.enclosure(a), self.enclosure(b)
        if a == b or x.high <= y.low:
            return a
        if y.high <= x.low:
            return b
        match a:
            case Apply("max", (inside, low)):
                return Apply("clip", (inside, low, b))
            case _:
                return Apply("min", (a, b))

    def greatest(self, a: Tree, b: Tree) -> Tree:
        a, b = _bound_last(a, b)
        x, y = self.enclosure(a), self.enclosure(b)
        if a == b or x.low >= y.high:
            return a
        return b if y.low >= x.high else Apply("max", (a, b))

    def compared(self, operator: str, a: Tree, b: Tree) -> Tree:
        x, y = constant(a), constant(b)
        if x is not None and y is not None:
            return number(int(_COMPARISONS[operator](x, y)))
        # Where the advantage is >= 0 it is not known whether it is 0.
        below = (a, b) == (ADVANTAGE, ZERO) and (operator == "<" or self.lean == -1)
        above = (a, b) == (ZERO, ADVANTAGE) and (operator == "<=" or self.lean == -1)
        if self.lean is not None and (below or above):
            return number(int(above == (self.lean > 0)))
        return Apply(operator, (a, b))

    def enclosure(self, tree: Tree) -> Interval:
        """What a tree can be; everything where that is not seen."""
        match tree:
            case Sum(found):
                total = Interval.point(Fraction(0))
                for coefficient, factors in found:
                    product = Interval.point(coefficient)
                    for factor, power in factors:
                        one = self.enclosure(factor)
                        for _ in range(abs(power)):
                            product = product * one if power > 0 else product / one
                    total = total + product
                return total
            case Param(name):
                return self.ranges[name].exactly()
            case Symbol(name) if tree in _LOGARITHMS:
                highest = math.inf if name == "r" else Fraction(1)
                return Interval(Fraction(0), highest, True, math.isinf(highest))
            case Symbol("∞"):
                return Interval.point(math.inf)
            case Aggregate("n"):
                return Interval(Fraction(1), math.inf, high_open=True)
            case Aggregate(kind, body):
                one = self.enclosure(body)
                return one if kind == "mean" else total_range(one)
            case Apply(function, arguments) if function in FUNCTIONS:
                return FUNCTIONS[function].range(*map(self.enclosure, arguments))
            case _:
                return Interval.everything()


def _bound_last(a: Tree, b: Tree) -> tuple[Tree, Tree]:
    return (b, a) if is_fixed(a) and not is_fixed(b) else (a, b)


# --- exponentials and logarithms ----------------------------------------------------------------


def exp(x: Tree) -> Tree:
    """exp of a tree: of a sum of logarithms a product, and inside a minimum where that helps."""
    match x:
        case Apply("where", (condition, yes, no)):
            return Apply("where", (condition, exp(yes), exp(no)))
        case Apply(("min" | "max" | "clip") as function, arguments):
            images = tuple(map(exp, arguments))
            left = sum(isinstance(one, Apply) and one.function == "exp" for one in images)
            return Apply(function, images) if left <= 1 else Apply("exp", (x,))
        case _ if x in (INFINITY, MINUS_INFINITY):
            return INFINITY if x == INFINITY else ZERO
    product: Tree = ONE
    for coefficient, factors in algebra.terms(x):
        match factors:
            case ((factor, 1),) if abs(coefficient) == 1 and _power(factor) is not None:
                power = _power(factor)
                assert power is not None
                product = (times if coefficient > 0 else divided)(product, power)
            case _:
                return Apply("exp", (x,))
    return product


def _power(factor: Tree) -> Tree | None:
    """What a factor is the logarithm of."""
    match factor:
        case Apply("log", (inside,)):
            return inside
        case _:
            return _EXPONENTIALS.get(factor)


def log(x: Tree) -> Tree:
    match x:
        case Apply("exp", (inside,)):
            return inside
        case _:
            return ZERO if x == ONE else _LOGARITHMS.get(x, Apply("log", (x,)))


def one_plus(x: Tree) -> Tree:
    """1 + x, inside minima and choices."""
    match x:
        case Apply("where", (condition, yes, no)):
            return Apply("where", (condition, one_plus(yes), one_plus(no)))
        case Apply(("min" | "max" | "clip") as function, arguments):
            return Apply(function, tuple(map(one_plus, arguments)))
        case _:
            return x if x in (INFINITY, MINUS_INFINITY) else plus(ONE, x)


# --- conditions ---------------------------------------------------------------------------------


def _joined(operator: str, a: Tree, b: Tree) -> Tree:
    for one, other in ((a, b), (b, a)):
        decided = constant(one)
        if decided is not None:
            return other if bool(decided) == (operator == "and") else one
    return Apply(operator, (a, b))


def _where(condition: Tree, yes: Tree, no: Tree) -> Tree:
    decided = constant(condition)
    if decided is not None:
        return yes if decided else no
    match condition:
        # A pessimistic gate: the gated value where that is the lower one, or the higher one.
        case Apply("<", (a, b)) if (a, b) == (yes, no):
            return Apply("min", (b, a))
        case Apply("<", (a, b)) if (b, a) == (yes, no):
            return Apply("max", (a, b))
        case _:
            return yes if yes == no else Apply("where", (condition, yes, no))


def is_fixed(x: Tree) -> bool:
    """Whether it is the same for all tokens."""
    return not any(isinstance(t, Symbol | Aggregate) for t in subtrees(x))


def _is_data(x: Tree) -> bool:
    """Whether no gradient flows through it anyway."""
    leaves = [t for t in subtrees(x) if not isinstance(t, Sum | Apply | Aggregate)]
    return all(isinstance(t, Param) or t in _DATA for t in leaves)
