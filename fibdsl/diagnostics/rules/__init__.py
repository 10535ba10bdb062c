"""The rules of the language, all errors: a module a family, by the first digit of their codes.

0 syntax, 1 names, 2 levels, 3 spaces, 4 budgets, 5 `require`. The record of a lint, FIB6xx, stands
with the lint (`fibc.lints`), and `fibdsl.diagnostics.catalogue` has all of them.
"""

from __future__ import annotations

from fibdsl.diagnostics.rules import budgets, levels, names, require, spaces, syntax
from fibdsl.diagnostics.rules.rule import Fix, Rule, Severity

__all__ = ["PROMISES", "RULES", "Fix", "Rule", "Severity"]

RULES: dict[str, Rule] = {
    rule.code: rule
    for family in (syntax, names, levels, spaces, budgets, require)
    for rule in family.RULES
}

PROMISES = frozenset({"FIB501", "FIB502"})
"""Errors about what a spec promises: what it means is clear all the same."""
