"""The passes: plain functions from program to program, in the order of ONE tuple."""

from __future__ import annotations

from collections.abc import Callable

from fibc.ir import nodes as ir
from fibc.ir.verify import verify
from fibc.passes.common_values import common_values
from fibc.passes.dead_values import dead_values
from fibc.passes.fold_constants import fold_constants
from fibc.passes.own_channel import own_channel
from fibc.passes.simplify_gates import simplify_gates

PASSES: tuple[Callable[[ir.Program], ir.Program], ...] = (
    fold_constants,
    simplify_gates,
    own_channel,
    common_values,
    dead_values,
)


def optimise(program: ir.Program) -> ir.Program:
    """Runs all passes; the program is verified after each."""
    for step in PASSES:
        program = verify(step(program), step.__name__)
    return program
