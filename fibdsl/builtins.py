"""ONE table of gates, and the other names the language knows.

A gate is an odd, piecewise-linear function given by what it does to a magnitude a = |x|:

    gate(x) = sign(x) * (intercept + slope * a)     on the first piece whose bound a meets

The reference interpreter, the generated torch code, the regimes reported as metrics and the
proofs all read these pieces, so a gate is added by adding a record here (and a test).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Formula = Callable[[Any, Any], Any]
"""A value computed from (C, k): the budget and the steepness. Works on anything with + - * /."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One linear piece of a gate: `intercept + slope * a` while `a` is below `until`.

    Attributes:
        regime: the name under which metrics report it; the first piece is always "pass".
        until: upper end of the piece, or None for the last one.
        inclusive: whether the piece includes its upper end (`a <= until`).
    """

    regime: str
    slope: Formula
    intercept: Formula
    until: Formula | None = None
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class GateRule:
    """A gate of the language.

    Attributes:
        budgets: whether it takes budgets (`+a, -b`, or one number for both sides).
        steepness: whether it takes `k`; its default is the number of children of the cell.
        neighbours: whether it takes `over LEVEL` and its budget is what the other members of
            that cell leave (aggregational censoring).
    """

    name: str
    summary: str
    source: str
    pieces: tuple[Piece, ...]
    budgets: bool = True
    steepness: bool = False
    neighbours: bool = False


def _zero(C: Any, k: Any) -> Any:
    return 0


def _one(C: Any, k: Any) -> Any:
    return 1


def _budget(C: Any, k: Any) -> Any:
    return C


_PASS = Piece("pass", slope=_one, intercept=_zero, until=_budget, inclusive=True)
_CLIPPED = Piece("clipped", slope=_zero, intercept=_budget)
# What neighbours leave can be nothing at all; then no x passes, 0 included, and the slope is 0.
_PASS_BELOW = Piece("pass", slope=_one, intercept=_zero, until=_budget)

GATES: dict[str, GateRule] = {
    rule.name: rule
    for rule in (
        GateRule(
            "rollback",
            "pass up to C, then fall with slope -k back to zero at (1 + 1/k) C, then stay zero",
            "g^agg of arXiv 2603.08239; arXiv 2604.03044, eq. 3",
            (
                _PASS,
                Piece(
                    "rollback",
                    slope=lambda C, k: -k,
                    intercept=lambda C, k: (k + 1) * C,
                    until=lambda C, k: (1 + 1 / k) * C,
                ),
                Piece("zeroed", slope=_zero, intercept=_zero),
            ),
            steepness=True,
        ),
        GateRule(
            "clip",
            "pass up to the budget, constant beyond it",
            "PPO, arXiv 1707.06347, eq. 7; logclip of arXiv 2604.03044",
            (_PASS, _CLIPPED),
        ),
        GateRule(
            "censor",
            "clip to what the other members of the cell leave of its budget, "
            "max(0, n * delta - sum of the others' |x|)",
            "APC-Obj, arXiv 2603.08239, definition 3.2",
            (_PASS_BELOW, _CLIPPED),
            neighbours=True,
        ),
        GateRule(
            "pass",
            "the identity: the level is not gated",
            "arXiv 2603.08239, section 4",
            (Piece("pass", slope=_one, intercept=_zero),),
            budgets=False,
        ),
        GateRule(
            "drop",
            "zero: what reaches this level is dropped",
            "GSPO, arXiv 2507.18071 (the token residual is not used)",
            (Piece("dropped", slope=_zero, intercept=_zero),),
            budgets=False,
        ),
    )
}

MODIFIERS: dict[str, str] = {
    "pessimistic": "the gate acts only where it lowers the objective, by the sign of the advantage",
}

REDUCTIONS: dict[str, str] = {
    "mean": "divide by the number of non-empty members",
    "sum": "do not divide",
}

CELL_COUNTS: dict[str, str] = {
    "size": "the number of non-empty children of the cell",
    "tokens": "the number of tokens of the cell",
}

EDITIONS: tuple[int, ...] = (2026,)
