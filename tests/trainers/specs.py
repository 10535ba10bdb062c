"""Variants of shipped objectives, as a trainer's options ask for them."""

from __future__ import annotations

from functools import cache
from typing import Any

import fibdsl
from fibc.ir.scalar import show_scalar
from fibdsl.objective import Objective


def variant(spec: str, statements: tuple[str, ...], params: dict[str, Any]) -> Objective:
    """A shipped objective with statements replaced or added, at these values of its parameters.

    Promises are those of the shipped objective at its own values; here none is asked for.
    """
    changed = [text for text in statements if text != _reduce(spec)]
    text = _extended(spec, changed)
    return fibdsl.load_text(text, objective="parity", promises=False, **params)


@cache
def _reduce(spec: str) -> str:
    """The `reduce` statement of a shipped objective."""
    steps = fibdsl.load(spec).typed.reduce
    return "reduce " + ", ".join(
        f"{step.reduction} over {step.level}"
        + (f" / {show_scalar(step.divisor)}" if step.divisor is not None else "")
        for step in steps
    )


def _extended(spec: str, statements: list[str]) -> str:
    lines = "\n".join(f"  {statement}" for statement in statements)
    return f'use "fibdsl:{spec}.fib"\nobjective parity extends {spec} {{\n{lines}\n}}\n'
