"""Two lines of the channels of a split signal as one: x⁺ and x⁻ as x±."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fibc.formula.algebra import ZERO, Aggregate, Apply, Factors, Sum, Symbol, Tree, minus
from fibc.formula.cases import Case, Cases

T = TypeVar("T")

PLUS, MINUS, SIGNED = "⁺", "⁻", "±"


def merged_cases(plus: Cases, minus: Cases) -> Cases | None:
    """The cases of both channels in one, or None where they differ by more than the channel and
    its budgets."""
    try:
        return tuple(
            Case(merged(a.value, b.value), _all(a.conditions, b.conditions))
            for a, b in zip(plus, minus, strict=True)
        )
    except ValueError:
        return None


def merged(a: Tree, b: Tree) -> Tree:
    """One tree for both channels; ValueError if there is none."""
    match a, b:
        case Symbol(left), Symbol(right) if left.endswith(PLUS) and right.endswith(MINUS):
            if left.removesuffix(PLUS) == right.removesuffix(MINUS):
                return Symbol(left.removesuffix(PLUS) + SIGNED)
        case Apply("rollback", (x, c, c_too, k)), Apply("rollback", (y, d, d_too, n)):
            if (c, d) == (c_too, d_too):
                return Apply("rollback", (merged(x, y), c, d, merged(k, n)))
        case Apply("clip", (x, low, c)), Apply("clip", (y, low_too, d)) if c != d:
            if (low, low_too) == (minus(ZERO, c), minus(ZERO, d)):
                return Apply("bound", (merged(x, y), c, d))
        case Apply(function, given), Apply(other, given_too) if function == other:
            return Apply(function, _all(given, given_too))
        case Aggregate(kind, body, of, over, weight), Aggregate():
            if (kind, of, over, weight) == (b.kind, b.of, b.over, b.weight):
                return Aggregate(kind, merged(body, b.body), of, over, weight)
        case Sum(terms), Sum(terms_too):
            pairs = zip(terms, terms_too, strict=True)
            return Sum(tuple((_same(c, d), _product(f, g)) for (c, f), (d, g) in pairs))
        case _ if a == b:
            return a
    raise ValueError


def _all(a: Sequence[Tree], b: Sequence[Tree]) -> tuple[Tree, ...]:
    return tuple(merged(x, y) for x, y in zip(a, b, strict=True))


def _product(a: Factors, b: Factors) -> Factors:
    return tuple((merged(x, y), _same(p, q)) for (x, p), (y, q) in zip(a, b, strict=True))


def _same(a: T, b: T) -> T:
    if a != b:
        raise ValueError
    return a
