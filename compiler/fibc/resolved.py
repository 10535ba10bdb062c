"""What name resolution hands on: every name is a thing, every statement stands at most once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fibc.gates.rule import GateRule
from fibc.ir.scalar import Scalar
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import Channels, Level, Signal, Space

TokenStatement = ast.Let | ast.Bypass | ast.Surrogate | ast.Weight | ast.Penalty


@dataclass(frozen=True, slots=True)
class ResolvedParam:
    """A parameter; `sound` where its space is one."""

    name: str
    space: Space
    default: ast.Expr
    range: ast.Range | None
    span: Span
    sound: bool = True


@dataclass(frozen=True, slots=True)
class ResolvedGate:
    """A gate as it is written.

    Attributes:
        span, gate_span: of its clause, and of the gate itself.
        complete: whether each argument is one that the gate takes; else what is missing may be
            what was reported.
    """

    rule: GateRule
    role: Literal["base", "fiber"]
    arguments: tuple[ast.Argument, ...]
    named: dict[str, ast.NamedArgument]
    over: str | None
    pessimistic: bool
    span: Span
    gate_span: Span
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ReduceStep:
    """One step of `reduce`, outermost first: a mean or a sum over the cells of `level`, divided by
    something besides."""

    reduction: Literal["mean", "sum"]
    level: str
    divisor: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """An objective whose names are things.

    Attributes:
        token: the statements about single tokens, in order.
        divisors: what steps of `reduce` are divided by, by their place.
        gate_names: the gates it may use.
        unknown_levels: levels that were reported.
        complete: whether its gates and levels are all that the text has.
    """

    name: str
    doc: str
    params: dict[str, ResolvedParam]
    signal: Signal
    channels: Channels
    levels: tuple[Level, ...]
    gates: dict[str, ResolvedGate]
    aggregates: dict[str, str]
    summed: frozenset[str]
    budgets: dict[str, ast.PerCell]
    after: ResolvedGate | None
    token: tuple[TokenStatement, ...]
    reduce: tuple[ReduceStep, ...]
    divisors: dict[int, ast.Expr]
    requires: tuple[ast.Require, ...]
    gate_names: frozenset[str]
    unknown_levels: frozenset[str]
    span: Span
    reduce_span: Span
    complete: bool = True
