"""What a gate is, whoever wrote it: its parameters, and what it does to a value.

Every gate has cases, expressions of which the first one whose condition holds counts. Where these
are pieces of an odd, piecewise-linear function of a magnitude a = |x|,

    gate(x) = sign(x) * (intercept + slope * a)     on the first piece whose bound a meets

with one budget C and at most one steepness k, the gate has `pieces` as well: about those the proofs
are exact, and the generated code and the interpreter read them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fibc.ir.expression import Call, Const, Expr, Input
from fibdsl.source import Span
from fibdsl.syntax.ast import Name
from fibdsl.types import Space

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A value computed from the budget C (input 0) and the steepness k (input 1). Works on anything
    with + - * /."""

    expr: Expr
    function: Callable[[Any, Any], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", _function(self.expr))

    def __call__(self, C: Any, k: Any) -> Any:
        return self.function(C, k)


def _function(expr: Expr) -> Callable[[Any, Any], Any]:
    match expr:
        case Const(value):
            number = int(value) if value == int(value) else value
            return lambda C, k: number
        case Input(index):
            return lambda C, k: (C, k)[index]
        case Call(operator, (a, b)):
            left, right = _function(a), _function(b)
            return lambda C, k: _operation(operator, left(C, k), right(C, k))
    raise AssertionError(expr)


def _operation(operator: str, a: Any, b: Any) -> Any:
    if operator == "-" and isinstance(a, int) and a == 0:
        return -b
    return _OPERATORS[operator](a, b)


ZERO, ONE = Formula(Const(0.0)), Formula(Const(1.0))
BUDGET, STEEPNESS = Formula(Input(0)), Formula(Input(1))


@dataclass(frozen=True, slots=True)
class Piece:
    """One linear piece of a gate: `intercept + slope * a` while `a` is below `until`.

    Attributes:
        regime: the name under which metrics report it; the first piece is always "pass".
        until: upper end of the piece, or None for the last one.
        inclusive: whether the piece includes its upper end (`a <= until`).
    """

    regime: str
    slope: Formula
    intercept: Formula
    until: Formula | None = None
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a gate is given besides x.

    Attributes:
        space: of a plain number; None for a budget, which is positive, in the space of the signal,
            and may be another one for each side.
        default: its value where none is given, an expression of `Count`s and numbers; None where
            one has to be.
    """

    name: str
    space: Space | None
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a gate: its value where the condition holds; None: otherwise."""

    regime: str
    value: Expr
    condition: Expr | None


@dataclass(frozen=True, slots=True)
class GateRule:
    """A gate of the language.

    Attributes:
        summary: its cases as text.
        source: where it is defined.
        parameters: what it takes besides x.
        inputs: what the inputs of the cases' expressions are, by name: "x", parameters, and words
            of the context (`size`, `advantage`, `prob`, ...).
        cases: what it does.
        pieces: the same as linear pieces, where it is made of those; else none.
        odd: whether it is odd in x.
        signal: the space that x has to have; None: any signal's.
        neighbours: whether it takes `over LEVEL` and its budget is what the other members of that
            cell leave (aggregational censoring).
        builtin: whether it is a gate of the language.
        x: what its definition calls the first input.
        context: what it looks at besides its parameters, as it is written.
        places: where a division, a logarithm or a root stands in its definition, by its argument.
    """

    name: str
    summary: str
    source: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    cases: tuple[Case, ...]
    pieces: tuple[Piece, ...] = ()
    odd: bool = True
    signal: Space | None = None
    neighbours: bool = False
    builtin: bool = False
    x: str = "x"
    context: tuple[Name, ...] = ()
    places: Mapping[tuple[str, str], Span] = field(default_factory=dict, compare=False)

    @property
    def budgets(self) -> tuple[str, ...]:
        """The parameters that are budgets."""
        return tuple(p.name for p in self.parameters if p.space is None)

    @property
    def steepness(self) -> Parameter | None:
        """The parameter k of a gate of pieces."""
        plain = [p for p in self.parameters if p.space is not None]
        return plain[0] if self.pieces and plain else None

    @property
    def regimes(self) -> tuple[str, ...]:
        """The names of its cases."""
        return tuple(case.regime for case in self.cases)

    @property
    def whole(self) -> Expr:
        """Its cases as one expression."""
        *conditional, last = self.cases
        value = last.value
        for case in reversed(conditional):
            assert case.condition is not None
            value = Call("where", (case.condition, case.value, value))
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs as its definition calls them."""
        return (self.x, *self.inputs[1:])

    @property
    def usage(self) -> str:
        """How it is written where it is used, for messages."""
        shown = [p.name for p in self.parameters if p.space is None]
        shown += [f"{p.name} = ..." for p in self.parameters if p.space is not None]
        shown += ["over LEVEL"] if self.neighbours else []
        return f"`{self.name}({', '.join(shown)})`" if shown else f"`{self.name}`"

    @property
    def by_advantage(self) -> bool:
        """Whether it looks at the sign of the advantage."""
        return "advantage" in self.inputs
