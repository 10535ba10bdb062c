"""Variants of shipped objectives, as a trainer's options ask for them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import fibdsl
from fibdsl.api import Objective
from fibdsl.resources import shipped_specs

def variant(spec: str, statements: tuple[str, ...], params: dict[str, Any]) -> Objective:
    """A shipped objective with statements replaced or added, at these values of its parameters.

    Promises are those of the shipped objective at its own values; here none is asked for.
    """
    changed = [text for text in statements if text != _reduce(spec)]
    text = _extended(spec, changed)
    return fibdsl.load_text(text, objective="parity", promises=False, **params)


@cache
def _reduce(spec: str) -> str:
    """The `reduce` statement of a shipped spec."""
    text = shipped_specs()[spec].read_text(encoding="utf-8")
    [found] = re.findall(r"^ *(reduce [^#\n]*[^#\s]) *(?:#.*)?$", text, re.MULTILINE)
    return str(found)


def _extended(spec: str, statements: list[str]) -> str:
    lines = "\n".join(f"  {statement}" for statement in statements)
    return f'use "fibdsl:{spec}.fib"\nobjective parity extends {spec} {{\n{lines}\n}}\n'
