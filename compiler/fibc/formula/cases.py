"""What a name stands for: an expression, or several of which the first whose condition holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fibc.formula.algebra import ZERO, Apply, Tree, subtrees
from fibc.formula.functions import ADVANTAGE

FAVOURED = Apply("<=", (ZERO, ADVANTAGE))
OTHER = Apply("<", (ADVANTAGE, ZERO))
_POSITIVE = Apply("<", (ZERO, ADVANTAGE))


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        conditions: all of them hold where it counts; none: everywhere else.
    """

    value: Tree
    conditions: tuple[Tree, ...] = ()


Cases = tuple[Case, ...]


def by_lean(up: Tree, down: Tree) -> Cases:
    """The cases of a value that is `up` where the advantage is >= 0 and `down` where it is < 0."""
    (*first, rest), (*second, other) = flattened(up), flattened(down)
    common = []
    while first and second and first[0] == second[0]:
        common.append(first.pop(0))
        second.pop(0)
    if rest == other:
        return (*common, *_where(FAVOURED, first), *_where(OTHER, second), rest)
    return (*common, *_where(FAVOURED, [*first, rest]), *_where(OTHER, [*second, other]))


def flattened(tree: Tree) -> Cases:
    """Choices of choices as one list."""
    match tree:
        case Apply("where", (condition, yes, no)):
            conditions = _conjuncts(condition)
            inside = (Case(c.value, conditions + c.conditions) for c in flattened(yes))
            return (*inside, *flattened(no))
        case _:
            return (Case(tree),)


def _conjuncts(condition: Tree) -> tuple[Tree, ...]:
    match condition:
        case Apply("and", (a, b)):
            return _conjuncts(a) + _conjuncts(b)
        case _:
            return (condition,)


def _where(lean: Tree, cases: list[Case]) -> Cases:
    return tuple(
        case
        if lean == FAVOURED and _POSITIVE in case.conditions
        else Case(case.value, (lean, *case.conditions))
        for case in cases
    )


def changed(cases: Cases, change: Callable[[Tree], Tree]) -> Cases:
    """The cases with their values and conditions changed."""
    return tuple(Case(change(c.value), tuple(map(change, c.conditions))) for c in cases)


def trees(cases: Cases) -> tuple[Tree, ...]:
    """All trees in it, the innermost first, as often as they stand there."""
    roots = [tree for case in cases for tree in (case.value, *case.conditions)]
    return tuple(tree for root in roots for tree in subtrees(root))
