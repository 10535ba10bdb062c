"""Formulas as trees, written in one way: sums of products with exact coefficients.

`x - x` is gone, `1 + (x - 1)` is x, and `0.5 * b` and `b / 2` are the same tree. The order of what
is added and multiplied is that in which it was first written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from fibc.ir.interval import Real, exact


@dataclass(frozen=True, slots=True)
class Symbol:
    """A value by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the objective."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """A function: those of `fibc.ir.functions` besides arithmetic, `channel` (the + or - part),
    `rollback` (of x, its two budgets and k), `bound` (clip with a budget for each channel), and
    `is` (whether a cell has a name)."""

    function: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A mean or a sum over the members of each cell of a level, or their number.

    Attributes:
        kind: "mean", "sum", or "n", the number of members, whose body is 1.
        of: the level of the members, each of which counts once.
        weight: what a member counts instead, in a mean: how many cells of this level it holds.
    """

    kind: str
    body: Tree
    of: str
    over: str
    weight: str | None = None


Factors = tuple[tuple["Tree", int], ...]
Term = tuple[Fraction, Factors]


@dataclass(frozen=True, slots=True)
class Sum:
    """Products with coefficients, added up. Numbers are sums, too; () is 0."""

    terms: tuple[Term, ...]


Tree = Symbol | Param | Apply | Aggregate | Sum

ZERO, ONE = Sum(()), Sum(((Fraction(1), ()),))
INFINITY = Symbol("∞")
MINUS_INFINITY = Sum(((Fraction(-1), ((INFINITY, 1),)),))


def number(value: Real) -> Tree:
    """A number, which is the decimal that it is written as."""
    if math.isinf(value):
        return INFINITY if value > 0 else MINUS_INFINITY
    return _sum([(Fraction(exact(value)), ())])


def constant(tree: Tree) -> Fraction | None:
    """The number that a tree is, or None."""
    match tree:
        case Sum(()):
            return Fraction(0)
        case Sum(((coefficient, ()),)):
            return coefficient
        case _:
            return None


def terms(tree: Tree) -> tuple[Term, ...]:
    """What is added up in it."""
    return tree.terms if isinstance(tree, Sum) else ((Fraction(1), ((tree, 1),)),)


def plus(a: Tree, b: Tree) -> Tree:
    return _sum([*terms(a), *terms(b)])


def minus(a: Tree, b: Tree) -> Tree:
    return plus(a, times(number(-1), b))


def times(a: Tree, b: Tree) -> Tree:
    x, y = terms(a), terms(b)
    for one, other in ((x, y), (y, x)):
        # A sign goes into a sum; other factors stay before it.
        if one in (((Fraction(-1), ()),), ONE.terms):
            return _sum([(one[0][0] * c, factors) for c, factors in other])
    if not x or not y:
        return ZERO
    (c, left), (d, right) = _product(a), _product(b)
    powers: dict[Tree, int] = {}
    for factor, power in (*left, *right):
        powers[factor] = powers.get(factor, 0) + power
    return _sum([(c * d, tuple((f, p) for f, p in powers.items() if p))])


def divided(a: Tree, b: Tree) -> Tree:
    coefficient, factors = _product(b)
    if coefficient == 0:
        return times(a, _sum([(Fraction(1), ((ZERO, -1),))]))
    return times(a, _sum([(1 / coefficient, tuple((f, -p) for f, p in factors))]))


def _product(tree: Tree) -> Term:
    """A tree as one product; a sum of several is a factor, its first term with a +."""
    found = terms(tree)
    if len(found) == 1:
        return found[0]
    if not found:
        return Fraction(0), ()
    if found[0][0] < 0:
        return Fraction(-1), ((_sum([(-c, factors) for c, factors in found]), 1),)
    return Fraction(1), ((tree, 1),)


def _sum(found: Iterable[Term]) -> Tree:
    gathered: dict[frozenset[tuple[Tree, int]], Term] = {}
    for coefficient, factors in found:
        key = frozenset(factors)
        before, first = gathered.get(key, (Fraction(0), factors))
        gathered[key] = before + coefficient, first
    left = tuple((c, factors) for c, factors in gathered.values() if c)
    match left:
        case ((Fraction(numerator=1, denominator=1), ((factor, 1),)),):
            return factor
        case _:
            return Sum(left)


# --- walking ------------------------------------------------------------------------------------


def parts(tree: Tree) -> Iterator[Tree]:
    """What a tree is directly made of."""
    match tree:
        case Apply(_, arguments):
            yield from arguments
        case Aggregate(_, body, _, _, _):
            yield body
        case Sum(found):
            for _, factors in found:
                for factor, _ in factors:
                    yield factor


def subtrees(tree: Tree) -> Iterator[Tree]:
    """The tree and all it is made of, the innermost first."""
    for part in parts(tree):
        yield from subtrees(part)
    yield tree


def rebuilt(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """The tree with its direct parts changed."""
    match tree:
        case Apply(function, arguments):
            return Apply(function, tuple(map(change, arguments)))
        case Aggregate():
            return replace(tree, body=change(tree.body))
        case Sum(found):
            total: Tree = ZERO
            for coefficient, factors in found:
                product = number(coefficient)
                for factor, power in factors:
                    for _ in range(abs(power)):
                        product = (times if power > 0 else divided)(product, change(factor))
                total = plus(total, product)
            return total
        case _:
            return tree


def replaced(tree: Tree, by: dict[Tree, Tree]) -> Tree:
    """The tree with some of its subtrees replaced, the innermost first."""
    new = rebuilt(tree, lambda part: replaced(part, by))
    return by.get(new, by.get(tree, new))
