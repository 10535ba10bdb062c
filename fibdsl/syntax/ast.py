"""The syntax tree: one frozen type per node, names still unresolved, every node with its span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fibdsl.source import Source, Span


@dataclass(frozen=True, slots=True)
class Name:
    text: str
    span: Span


# --- arithmetic ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    span: Span


@dataclass(frozen=True, slots=True)
class Reference:
    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    operator: Literal["+", "-", "*", "/"]
    left: Expr
    right: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    function: Name
    argument: Expr
    span: Span


Expr = Number | Reference | Negative | Binary | Call


@dataclass(frozen=True, slots=True)
class Range:
    low: Expr
    high: Expr
    low_open: bool
    high_open: bool
    span: Span


# --- gates --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a gate; `kind` says how it was written (`+a`, `-a`, `a`)."""

    kind: Literal["upper", "lower", "value"]
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class NamedArgument:
    name: Name
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Over:
    level: Name
    span: Span


@dataclass(frozen=True, slots=True)
class Gate:
    name: Name
    arguments: tuple[Argument | NamedArgument | Over, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class GateClause:
    role: Literal["base", "fiber"]
    gate: Gate
    modifiers: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Aggregate:
    reduction: Name
    over: Name
    span: Span


# --- statements ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Doc:
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Param:
    name: Name
    space: Name
    default: Expr
    range: Range | None
    span: Span


@dataclass(frozen=True, slots=True)
class SignalStatement:
    signal: Name
    channels: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class LevelEntry:
    name: Name
    key: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class Levels:
    entries: tuple[LevelEntry, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class At:
    level: Name
    clauses: tuple[GateClause | Aggregate, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Step:
    reduction: Name
    level: Name
    span: Span


@dataclass(frozen=True, slots=True)
class Reduce:
    steps: tuple[Step, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Require:
    """A promise: `require PROPERTY ...`, or `assume PROPERTY ...` where it need not be proved.

    Attributes:
        at: the level after `at`.
        measure, bound: of `trust_region tv <= bound`.
    """

    property: Name
    at: Name | None
    measure: Name | None
    bound: Expr | None
    over: Name | None
    range: Range | None
    assumed: bool
    span: Span


Statement = Doc | Param | SignalStatement | Levels | At | Reduce | Require


@dataclass(frozen=True, slots=True)
class Objective:
    name: Name
    statements: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Edition:
    year: Number
    span: Span


@dataclass(frozen=True, slots=True)
class File:
    source: Source
    editions: tuple[Edition, ...]
    objectives: tuple[Objective, ...]
