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
    """A function of its arguments, or, with `over`, an aggregate over the cells of a level. What
    stands between bars, `|x|`, is a call of `abs`."""

    function: Name
    arguments: tuple[Expr, ...]
    over: Name | None
    span: Span


Expr = Number | Reference | Negative | Binary | Call


@dataclass(frozen=True, slots=True)
class Range:
    low: Expr
    high: Expr
    low_open: bool
    high_open: bool
    span: Span


# --- conditions and cases -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    operator: Literal["<", "<=", ">", ">="]
    left: Expr
    right: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Logical:
    operator: Literal["and", "or"]
    left: Condition
    right: Condition
    span: Span


Condition = Comparison | Logical


@dataclass(frozen=True, slots=True)
class Case:
    """`[label:] value when condition;`, or without a condition `[label:] value otherwise;`."""

    label: Name | None
    value: Expr
    condition: Condition | None
    span: Span


@dataclass(frozen=True, slots=True)
class Cases:
    """The first case that holds counts. The last one, and no other, has no condition."""

    cases: tuple[Case, ...]
    span: Span


Body = Expr | Cases


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


@dataclass(frozen=True, slots=True)
class CellEntry:
    """The budget of the cell `name`; without one, of all cells that no other entry names."""

    name: Name | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class PerCell:
    """`budget per cell { NAME: value, else: value }`."""

    entries: tuple[CellEntry, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a gate; without a space it is a budget in the space of the signal."""

    name: Name
    space: Name | None
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True)
class GateDefinition:
    """`gate name(parameters) [odd] body`; `odd` is a promise."""

    name: Name
    parameters: tuple[Parameter, ...]
    odd: bool
    body: Body
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
    after: Gate | None
    modifiers: tuple[Name, ...]
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
    clauses: tuple[GateClause | Aggregate | PerCell, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Let:
    """A name for a value at the token, for the statements after it."""

    name: Name
    body: Body
    span: Span


@dataclass(frozen=True, slots=True)
class Bypass:
    """Where the condition holds, the gated ratio is `value`."""

    condition: Condition
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True)
class Surrogate:
    body: Body
    span: Span


@dataclass(frozen=True, slots=True)
class Weight:
    body: Body
    span: Span


@dataclass(frozen=True, slots=True)
class Penalty:
    body: Body
    span: Span


@dataclass(frozen=True, slots=True)
class Step:
    reduction: Name
    level: Name
    divisor: Expr | None
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
        of: the objective that it is inherited from.
    """

    property: Name
    at: Name | None
    measure: Name | None
    bound: Expr | None
    over: Name | None
    range: Range | None
    assumed: bool
    span: Span
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Waive:
    """`waive PROPERTY ...`: the promise of the parent that is not kept."""

    require: Require
    span: Span


Statement = (
    Doc
    | Param
    | SignalStatement
    | Levels
    | At
    | Let
    | Bypass
    | Surrogate
    | Weight
    | Penalty
    | Reduce
    | Require
    | Waive
)


@dataclass(frozen=True, slots=True)
class Objective:
    name: Name
    parent: Name | None
    statements: tuple[Statement, ...]
    span: Span


# --- files --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edition:
    year: Number
    span: Span


@dataclass(frozen=True, slots=True)
class Use:
    """`use "path"`: the gates and objectives of another file."""

    path: str
    span: Span


@dataclass(frozen=True, slots=True)
class File:
    source: Source
    editions: tuple[Edition, ...]
    uses: tuple[Use, ...]
    gates: tuple[GateDefinition, ...]
    objectives: tuple[Objective, ...]
