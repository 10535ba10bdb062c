"""What names mean in an expression. A name stands for an input, in the order of their first use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from fibc.ir.expression import Call, Expr, Input, Param, inputs_of, show
from fibc.ir.simplify import simplified
from fibc.units import Unit
from fibdsl.builtins import ALIASES, FUNCTIONS
from fibdsl.diagnostics.diagnostic import Diagnostics, ReportedError, closest, nearest
from fibdsl.source import Span
from fibdsl.syntax import ast

Typed = tuple[Expr, Unit | None]
"""An expression and its unit; None for a bare number, which takes the unit it meets."""

ADVANTAGE = "advantage"
_EXPONENTIALS = {"ratio": "log_ratio", "prob": "logp", "old_prob": "old_logp"}


@dataclass
class Scope:
    """The names that may stand in some expressions, and what was seen of them.

    Attributes:
        names: the unit of each name that may stand here.
        params: the unit of each parameter of the objective that may.
        sign_only: whether only the sign of the advantage may be looked at.
        aggregate: makes the value of `mean(e over LEVEL)`, or None where none may stand.
        elsewhere: names that mean something in another place, and what to do about it.
        gates: names of gates, none of which is a function.
        lets: names for expressions.
        hidden: inputs that may not be reached through a let.
        silent: names of which what is wrong was said already.
        unknown: what else there is to say of a name that is not known.
        free: whether quantities of different spaces multiply, as terms of a loss do.
        inputs: the names that were used, in the order of the inputs.
        written: where each name first stands, as it is written.
        places: where a division, a logarithm or a root stands, by what it is of: its argument.
        bounds: where a value is held between two others: the function, low - high, and the call.
        said: unknown names that were reported; once is enough.
    """

    diagnostics: Diagnostics
    names: Mapping[str, Unit]
    params: Mapping[str, Unit] = field(default_factory=dict)
    sign_only: bool = False
    aggregate: Callable[[ast.Call], Typed] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    gates: Collection[str] = ()
    lets: Mapping[str, Typed] = field(default_factory=dict)
    hidden: Collection[str] = ()
    silent: Collection[str] = ()
    unknown: str | None = None
    free: bool = False
    inputs: list[str] = field(default_factory=list)
    written: dict[str, Span] = field(default_factory=dict)
    places: dict[tuple[str, str], Span] = field(default_factory=dict)
    bounds: list[tuple[str, Expr, ast.Call]] = field(default_factory=list)
    said: set[str] = field(default_factory=set)

    def input(self, name: str) -> Expr:
        if name not in self.inputs:
            self.inputs.append(name)
        return Input(self.inputs.index(name))

    def reference(self, name: str, span: Span) -> Typed:
        """What a name stands for."""
        if name in self.names:
            self.written.setdefault(name, span)
            if name == ADVANTAGE and self.sign_only:
                raise self.diagnostics.bad(
                    "FIB209",
                    "a gate sees the sign of the advantage only",
                    span,
                    "compare it with 0, or write `sign(advantage)`",
                )
            if name in _EXPONENTIALS:
                return Call("exp", (self.input(_EXPONENTIALS[name]),)), self.names[name]
            return self.input(name), self.names[name]
        if name in self.lets:
            return self._let(name, span)
        if name in self.params:
            return Param(name), self.params[name]
        raise self._nothing(name, span)

    def _let(self, name: str, span: Span) -> Typed:
        value = self.lets[name]
        for index in sorted(inputs_of(value[0])):
            if self.inputs[index] in self.hidden:
                raise self.diagnostics.bad(
                    "FIB209",
                    f"`{name}` cannot stand here, as it hangs on `gated_ratio`",
                    span,
                    self.elsewhere["gated_ratio"],
                )
        return value

    def _nothing(self, name: str, span: Span) -> ReportedError:
        """Reports a name that stands for nothing here, unless what is wrong was said."""
        if name in self.silent:
            return ReportedError()
        if name in self.elsewhere:
            return self.diagnostics.bad(
                "FIB209", f"`{name}` cannot stand here", span, self.elsewhere[name]
            )
        if name in self.said:
            return ReportedError()
        self.said.add(name)
        known = [*self.names, *self.params, *self.lets]
        close = ALIASES.get(name, closest(name, known))
        help = self.unknown or nearest(name, known)
        if name in FUNCTIONS:
            help = f"it is a function: write `{name}({FUNCTIONS[name]})`"
        if close in known:
            help = f"did you mean `{close}`?"
        return self.diagnostics.bad("FIB101", f"unknown name `{name}`", span, help)

    def is_advantage(self, expr: ast.Expr) -> bool:
        match expr:
            case ast.Reference(name, _):
                return name == ADVANTAGE and name in self.names
            case _:
                return False

    def judge(self, function: str, argument: Expr, written: ast.Expr) -> None:
        """Remembers where it is written what a division, a logarithm or a root is of."""
        key = function, show(simplified(argument), self.inputs)
        self.places.setdefault(key, written.span)
