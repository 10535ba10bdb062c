"""What an expression can be, given what its inputs can be: intervals, case by case.

In a case the inputs are what its condition leaves of them, so that a gate written in cases is about
as well known as one of the table.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from fibc.ir.expression import (
    Call,
    Const,
    Expr,
    Input,
    Param,
    inputs_of,
    params_of,
    parts,
    replaced,
)
from fibc.ir.functions import FUNCTIONS
from fibc.ir.interval import Interval, Real, hull

Inputs = tuple[Interval, ...]
_ZERO = Interval.point(Fraction(0))


def enclosure(expr: Expr, params: Mapping[str, Interval], inputs: Sequence[Interval]) -> Interval:
    """An interval that holds every value of `expr`."""
    found = _Enclosure(params)
    whole = found.of(expr, tuple(inputs))
    several = _repeated(expr, inputs)
    if not several or whole.low == whole.high:
        return whole
    if len(several) > 1:
        # As a function of what they stand in together: k3 is one of a difference.
        inner = _together(expr, several)
        if inner is None:
            return whole
        outer = replaced(expr, inner, Input(len(inputs)))
        return enclosure(outer, params, [*inputs, enclosure(inner, params, inputs)])
    return Interval(
        -_largest(found, expr, tuple(inputs), several[0], -1),
        _largest(found, expr, tuple(inputs), several[0], 1),
        whole.low_open,
        whole.high_open,
    )


def _repeated(expr: Expr, inputs: Sequence[Interval]) -> list[int]:
    """The inputs that stand several times, so that intervals are wider than what they can do."""
    counts = [0] * len(inputs)
    for part in parts(expr):
        if isinstance(part, Input):
            counts[part.index] += inputs[part.index].low != inputs[part.index].high
    return [index for index, number in enumerate(counts) if number > 1]


def _together(expr: Expr, several: Sequence[int]) -> Expr | None:
    """The largest part that stands several times and has all of these inputs, which stand nowhere
    else."""
    counts = Counter(part for part in parts(expr) if isinstance(part, Call))
    for part, number in counts.items():  # from the outside in
        if number > 1 and inputs_of(part).issuperset(several):
            rest = inputs_of(replaced(expr, part, Const(0.0)))
            if rest.isdisjoint(several):
                return part
    return None


# How often a range is cut, how narrow it has to be, and where infinite ones are cut first.
_CUTS, _NARROW, _FAR = 120, Fraction(1, 1000), (-40, -4, -1, 0, 1, 4, 40)


def _largest(found: _Enclosure, expr: Expr, inputs: Inputs, index: int, sign: int) -> Real:
    """A bound above sign * expr: the range of one input is cut where the bound is largest."""

    def bound(part: Interval) -> Real:
        values = found.of(expr, (*inputs[:index], part, *inputs[index + 1 :]))
        return values.high if sign > 0 else -values.low

    x = inputs[index]
    marks = [Fraction(m) for m in _FAR if x.low < m < x.high]
    ends = [x.low, *marks, x.high]
    parts = [
        (bound(part), part)
        for low, high in itertools.pairwise(ends)
        if not (part := replace(x, low=low, high=high)).empty
    ]
    for _ in range(_CUTS):
        parts.sort(key=lambda pair: pair[0])
        _, part = parts[-1]
        if math.isinf(part.low) or math.isinf(part.high) or part.high - part.low < _NARROW:
            break
        parts.pop()
        middle = (Fraction(part.low) + Fraction(part.high)) / 2
        parts += [
            (bound(half), half) for half in (replace(part, high=middle), replace(part, low=middle))
        ]
    return max(pair[0] for pair in parts)


def doubts(
    expr: Expr, params: Mapping[str, Interval], inputs: Sequence[Interval]
) -> Iterator[tuple[str, Expr, Interval]]:
    """Where an expression may have no value: the function, the argument, and what that can be."""
    yield from _Enclosure(params).doubts(expr, tuple(inputs))


class _Enclosure:
    def __init__(self, params: Mapping[str, Interval]) -> None:
        self.params = params

    def of(self, expr: Expr, inputs: Inputs) -> Interval:
        match expr:
            case Const(value):
                return Interval.exact(value)
            case Param(name):
                return self.params[name].exactly()
            case Input(index):
                return inputs[index]
            case Call("where", (condition, yes, no)):
                return self.where(condition, yes, no, inputs)
            case Call("*", (a, b)) if a == b:
                square = self.of(a, inputs)
                product = square * square
                if product.low > 0:
                    return product
                return replace(product, low=Fraction(0), low_open=0 not in square)
            case Call("-", (a, b)) if _value_of(a) == _value_of(b):
                return _ZERO
            case Call(function, arguments):
                return FUNCTIONS[function].range(*(self.of(a, inputs) for a in arguments))

    def where(self, condition: Expr, yes: Expr, no: Expr, inputs: Inputs) -> Interval:
        parts = [
            self.of(value, there)
            for value, there in zip((yes, no), self.branches(condition, inputs), strict=True)
            if there is not None
        ]
        return hull(parts)

    def branches(self, condition: Expr, inputs: Inputs) -> tuple[Inputs | None, Inputs | None]:
        """The inputs where a condition holds and where it does not; None where that never is."""
        decided = self.of(condition, inputs)
        if decided.low == 1:
            return inputs, None
        if decided.high == 0:
            return None, inputs
        return self.narrowed(condition, inputs, True), self.narrowed(condition, inputs, False)

    def narrowed(self, condition: Expr, inputs: Inputs, holds: bool) -> Inputs | None:
        match condition:
            case Call(("and" | "or") as operator, (left, right)):
                if (operator == "and") != holds:
                    return inputs
                first = self.narrowed(left, inputs, holds)
                return None if first is None else self.narrowed(right, first, holds)
            case Call(("<" | "<=") as operator, (a, b)):
                strict = operator == "<"
                if not holds:
                    a, b, strict = b, a, not strict
                return self.below(a, b, strict, inputs)
            case _:
                return inputs

    def below(self, a: Expr, b: Expr, strict: bool, inputs: Inputs) -> Inputs | None:
        """The inputs for which a < b, or a <= b."""
        end, start = self.of(b, inputs), self.of(a, inputs)
        narrowed = self.cut(a, Interval.everything(), end, strict, inputs)
        if narrowed is None:
            return None
        return self.cut(b, start, Interval.everything(), strict, narrowed)

    def cut(
        self, expr: Expr, above: Interval, below: Interval, strict: bool, inputs: Inputs
    ) -> Inputs | None:
        """The inputs for which `expr` is above the least of one interval and below the largest of
        another."""
        limits = Interval(
            above.low, below.high, above.low_open or strict, below.high_open or strict
        )
        match expr:
            case Input(index):
                return _with(inputs, index, limits)
            case Call("exp", (Input(index),)):
                low = limits.low if limits.low > 0 else Fraction(0)
                if limits.high <= 0:
                    return None
                within = Interval(low, limits.high, limits.low_open, limits.high_open)
                return _with(inputs, index, within.log())
            case Call("abs", (Input(index),)):
                if below.high < 0:
                    return None
                if above.low <= 0:
                    return _with(
                        inputs,
                        index,
                        Interval(-limits.high, limits.high, limits.high_open, limits.high_open),
                    )
                # Beyond a magnitude on one side only, if the other one cannot be.
                x = inputs[index]
                if x.low > -above.low:
                    return _with(inputs, index, limits)
                return _with(inputs, index, -limits) if x.high < above.low else inputs
            case _:
                return inputs

    # --- where there is no value ----------------------------------------------------------------

    def doubts(self, expr: Expr, inputs: Inputs) -> Iterator[tuple[str, Expr, Interval]]:
        match expr:
            case Call("where", (condition, yes, no)):
                yield from self.doubts(condition, inputs)
                branches = self.branches(condition, inputs)
                for value, there in zip((yes, no), branches, strict=True):
                    if there is not None:
                        yield from self.doubts(value, there)
                    else:
                        yield from self.numbers(value)
            case Call(function, arguments):
                for argument in arguments:
                    yield from self.doubts(argument, inputs)
                yield from self.doubt(function, arguments[-1], inputs)

    def doubt(
        self, function: str, argument: Expr, inputs: Inputs
    ) -> Iterator[tuple[str, Expr, Interval]]:
        if function in ("/", "log", "sqrt"):
            judged = self.of(argument, inputs)
            # The root of 0 has a value, and no derivative.
            if not (judged.positive or (function == "/" and (-judged).positive)):
                yield function, argument, judged

    def numbers(self, expr: Expr) -> Iterator[tuple[str, Expr, Interval]]:
        """The same of numbers that stand in a case that never holds: they are computed all the
        same."""
        match expr:
            case Call(function, arguments):
                for argument in arguments:
                    yield from self.numbers(argument)
                if not inputs_of(arguments[-1]) and not params_of(arguments[-1]):
                    yield from self.doubt(function, arguments[-1], ())


def _value_of(expr: Expr) -> Expr:
    """The expression without what only stops gradients."""
    match expr:
        case Call("stopgrad", (inner,)):
            return _value_of(inner)
        case Call(function, arguments):
            return Call(function, tuple(map(_value_of, arguments)))
        case _:
            return expr


def _with(inputs: Inputs, index: int, limits: Interval) -> Inputs | None:
    """The inputs with one of them within limits; None if it cannot be."""
    held = inputs[index]
    if limits.low > held.low:
        held = replace(held, low=limits.low, low_open=limits.low_open)
    elif limits.low == held.low:
        held = replace(held, low_open=held.low_open or limits.low_open)
    if limits.high < held.high:
        held = replace(held, high=limits.high, high_open=limits.high_open)
    elif limits.high == held.high:
        held = replace(held, high_open=held.high_open or limits.high_open)
    return None if held.empty else (*inputs[:index], held, *inputs[index + 1 :])
