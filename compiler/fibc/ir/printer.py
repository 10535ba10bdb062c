"""The IR as text, for people and for tests."""

from __future__ import annotations

from dataclasses import fields

from fibc.gates.rule import GateRule
from fibc.ir import nodes as ir
from fibc.ir.expression import show as show_expression
from fibc.ir.scalar import Binary, Const, Count, Log, Negate, Param, show_scalar


def show(program: ir.Program) -> str:
    """One line an operation: `%value : level = operation operands attributes`."""
    lines = [f"program {program.name}"]
    chain = " < ".join(
        level.name + (f" by {level.key}" if level.key else "") for level in program.levels
    )
    lines.append(f"levels {chain}")
    lines += [f"%{op.name} : {op.level} = {show_op(op)}" for op in program.ops]
    lines.append(f"gated_ratio %{program.gated_ratio}")
    lines.append(f"objective %{program.objective}")
    for metric in program.metrics:
        operands = " ".join(f"%{name}" for name in metric.operands)
        lines.append(f"metric {metric.name} = {type(metric).__name__} {operands}")
    return "\n".join(lines)


def show_op(op: ir.Op) -> str:
    if isinstance(op, ir.Pointwise):
        return f"Pointwise {show_expression(op.expr, [f'%{name}' for name in op.inputs])}"
    parts = [type(op).__name__]
    for f in fields(op):
        value = getattr(op, f.name)
        if f.name in ("name", "level") or value is None or value is False:
            continue
        if f.name in op.OPERANDS:
            shown = f"%{value}"
        elif isinstance(value, GateRule):
            shown = value.name
        elif isinstance(value, Const | Param | Count | Negate | Binary | Log):
            shown = show_scalar(value)
        else:
            shown = str(value)
        parts.append(shown if f.name in ("x", "coarse", "fine") else f"{f.name}={shown}")
    return " ".join(parts)
