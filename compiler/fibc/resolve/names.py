"""Names of things that are defined elsewhere: words of the language, levels, gates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fibc.gates.rule import GateRule
from fibc.link import Gates
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.syntax import ast


@dataclass
class Names:
    """Looks names up, and reports those that stand for nothing.

    Attributes:
        gates: those that the objective may use.
        unknown_levels: levels that were reported as unknown; once is enough.
        complete: whether every gate and level of the text is known; what is missing was reported.
    """

    gates: Gates
    diagnostics: Diagnostics
    unknown_levels: set[str] = field(default_factory=set)
    complete: bool = True

    def word(self, name: ast.Name, known: Iterable[str], what: str, code: str = "FIB106") -> bool:
        choices = list(known)
        if name.text in choices:
            return True
        self.diagnostics.add(
            code, f"unknown {what} `{name.text}`", name.span, nearest(name.text, choices)
        )
        return False

    def level(self, name: ast.Name, known: Iterable[str]) -> bool:
        if name.text in self.unknown_levels:
            return False
        good = self.word(name, known, "level", "FIB201")
        if not good:
            self.unknown_levels.add(name.text)
        return good

    def rule(self, name: ast.Name) -> GateRule | None:
        """What a gate does; None where that is not known, which is reported once."""
        rules = self.gates.rules
        if self.gates.reported(name.text) or not self.word(name, rules, "gate", "FIB102"):
            self.complete = False
            return None
        return rules[name.text]
