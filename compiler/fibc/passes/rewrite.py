"""What the passes share: rebuilding a program with some values replaced by others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fibc.ir import nodes as ir


def rebuild(program: ir.Program, ops: Iterable[ir.Op], names: dict[str, str]) -> ir.Program:
    """`program` with `ops`, its roots renamed by `names` (old value to the one that stands in)."""

    def new(name: str) -> str:
        return names.get(name, name)

    return replace(
        program,
        ops=tuple(ops),
        gated_ratio=new(program.gated_ratio),
        objective=new(program.objective),
        metrics=tuple(_renamed(metric, names) for metric in program.metrics),
    )


def _renamed(metric: ir.Metric, names: dict[str, str]) -> ir.Metric:
    def new(name: str) -> str:
        return names.get(name, name)

    def maybe(name: str | None) -> str | None:
        return None if name is None else new(name)

    match metric:
        case ir.MeanOf(_, value, members):
            return replace(metric, value=new(value), members=maybe(members))
        case ir.RegimeShare():
            return replace(
                metric,
                gate=new(metric.gate),
                down=maybe(metric.down),
                up_share=maybe(metric.up_share),
                members=maybe(metric.members),
            )
        case ir.TokensClipped():
            return replace(metric, up=tuple(map(new, metric.up)), down=tuple(map(new, metric.down)))
