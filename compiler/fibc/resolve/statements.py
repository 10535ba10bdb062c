"""The statements of an objective: which may stand once, and which it cannot do without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from fibc.resolved import TokenStatement
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.syntax import ast

Node = TypeVar("Node", bound=ast.Statement)


@dataclass(frozen=True)
class Statements:
    """The statements of one objective, by their kind."""

    objective: ast.Objective
    diagnostics: Diagnostics

    def all(self, kind: type[Node]) -> list[Node]:
        return [s for s in self.objective.statements if isinstance(s, kind)]

    def only(self, kind: type[Node], example: str | None = None) -> Node | None:
        """The one statement of a kind; a second one is an error.

        Args:
            example: of one, where having none is an error too.
        """
        found = self.all(kind)
        word = "signal" if kind is ast.SignalStatement else kind.__name__.lower()
        for extra in found[1:]:
            self.diagnostics.add(
                "FIB103", f"a second `{word}`", extra.span, "an objective has one; delete this one"
            )
        if example is not None and not found:
            name = self.objective.name
            self.diagnostics.add(
                "FIB105",
                f"objective `{name.text}` has no `{word}`",
                name.span,
                f"add one, for example `{example}`",
            )
        return found[0] if found else None

    def token(self) -> tuple[TokenStatement, ...]:
        """The statements about single tokens."""
        for kind in (ast.Surrogate, ast.Weight, ast.Penalty):
            self.only(kind)
        return tuple(s for s in self.objective.statements if isinstance(s, TokenStatement))
