"""An exponential that is proved not to overflow need not saturate."""

from __future__ import annotations

from dataclasses import replace

from fibc.analysis.proofs.ranges import Ranges
from fibc.ir import nodes as ir

# Below the exponent at which float32 saturates, by more than rounding.
_SAFE = 80


def without_overflow(program: ir.Program, ranges: Ranges) -> ir.Program:
    """Marks gated ratios that stay finite on every batch, for all params within their ranges."""
    return replace(
        program,
        ops=tuple(
            replace(op, bounded=True)
            if isinstance(op, ir.GatedRatio) and ranges.of[op.y].high <= _SAFE
            else op
            for op in program.ops
        ),
    )
