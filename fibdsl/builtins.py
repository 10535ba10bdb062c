"""The words of the language that are neither keywords nor gates (those are in
grammar/prelude.fib)."""

from __future__ import annotations

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
