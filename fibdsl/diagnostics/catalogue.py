"""All rules: those of the language and those of the lints."""

from __future__ import annotations

from functools import cache

from fibc import allow
from fibc.lints import LINTS
from fibdsl.diagnostics.rules import RULES, Rule


@cache
def catalogue() -> dict[str, Rule]:
    """Every rule by its code, in order."""
    rules = [*RULES.values(), *(lint.rule for lint in LINTS), *allow.RECORDS]
    return {rule.code: rule for rule in sorted(rules, key=lambda rule: rule.code)}
