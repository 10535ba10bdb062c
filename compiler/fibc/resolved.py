"""What name resolution hands on: every name is a thing, every statement stands at most once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fibdsl.builtins import GateRule
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import Channels, Level, Signal, Space


@dataclass(frozen=True, slots=True)
class ResolvedParam:
    name: str
    space: Space
    default: ast.Expr
    range: ast.Range | None
    span: Span


@dataclass(frozen=True, slots=True)
class ResolvedGate:
    rule: GateRule
    role: Literal["base", "fiber"]
    arguments: tuple[ast.Argument, ...]
    steepness: ast.Expr | None
    over: str | None
    pessimistic: bool
    span: Span
    gate_span: Span


@dataclass(frozen=True, slots=True)
class ReduceStep:
    """One step of `reduce`, outermost first: a mean or a sum over the cells of `level`."""

    reduction: Literal["mean", "sum"]
    level: str


@dataclass(frozen=True, slots=True)
class Resolved:
    name: str
    doc: str
    params: dict[str, ResolvedParam]
    signal: Signal
    channels: Channels
    levels: tuple[Level, ...]
    gates: dict[str, ResolvedGate]
    aggregates: dict[str, str]
    reduce: tuple[ReduceStep, ...]
    requires: tuple[ast.Require, ...]
    span: Span
    reduce_span: Span
