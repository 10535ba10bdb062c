"""One record per rule. The first digit is the family: 0 syntax, 1 names, 2 levels, 3 spaces,
4 budgets, 5 refuted `require`, 6 lints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    code: str
    name: str
    summary: str

    @property
    def severity(self) -> Severity:
        return Severity.WARNING if self.code.startswith("FIB6") else Severity.ERROR


RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("FIB001", "syntax-error", "the text is not of the language's form"),
        Rule("FIB002", "unknown-character", "a character the language does not use"),
        Rule("FIB003", "unknown-edition", "an edition this version does not know"),
        Rule("FIB004", "no-objective", "a file with no objective, or not the one asked for"),
        Rule("FIB101", "unknown-name", "a name that is not declared here"),
        Rule("FIB102", "unknown-gate", "a gate or modifier the language does not have"),
        Rule("FIB103", "duplicate", "a statement or name that may stand only once"),
        Rule("FIB104", "reserved-name", "a name the language keeps for itself"),
        Rule("FIB105", "missing-statement", "a statement every objective needs"),
        Rule("FIB106", "unknown-word", "a word that is not one of the few allowed here"),
        Rule("FIB107", "override", "a parameter override that names or sets nothing valid"),
        Rule("FIB201", "unknown-level", "a level that is not in `levels`"),
        Rule("FIB202", "level-order", "levels that do not form one chain from token upwards"),
        Rule("FIB203", "level-key", "a missing, superfluous or repeated key of a level"),
        Rule("FIB204", "base-or-fiber", "base where fiber belongs, or the other way round"),
        Rule("FIB205", "ungated-level", "a level below the coarsest gated one without a gate"),
        Rule("FIB206", "reduce-order", "reduce steps that are not nested, coarse to fine"),
        Rule("FIB207", "aggregate-level", "an aggregate over a level that is not finer"),
        Rule("FIB208", "neighbour-level", "a censor over a level that is not coarser"),
        Rule("FIB301", "space-mismatch", "a quantity of one space where another belongs"),
        Rule("FIB302", "space-arithmetic", "arithmetic between spaces that do not combine"),
        Rule("FIB303", "conversion", "`ratio(...)` where it is not a whole bound"),
        Rule("FIB304", "signal-mismatch", "a gate that does not fit the signal or its channels"),
        Rule("FIB401", "budget-count", "missing, superfluous or unpaired arguments of a gate"),
        Rule("FIB402", "budget-sign", "a budget or steepness that is not certainly positive"),
        Rule("FIB403", "param-range", "a default or value outside the parameter's range"),
        Rule("FIB404", "empty-range", "a range with no number in it"),
        Rule("FIB405", "ratio-bound", "a ratio bound on the wrong side of 1"),
        Rule("FIB406", "steepness", "a rollback that has no children to take k from"),
        Rule("FIB501", "refuted", "a `require` that does not hold"),
        Rule("FIB502", "undecided", "a `require` that could not be decided"),
        Rule("FIB503", "unknown-property", "a `require` of a property the checker does not have"),
        Rule("FIB504", "property-arguments", "a `require` with the wrong arguments"),
        Rule("FIB601", "unused-param", "a parameter that no gate uses"),
        Rule("FIB602", "kl-bias", "C- is not below C+, though S- exceeds S+ on average"),
        Rule("FIB603", "token-budget", "the token clip does not act before the coarser gates"),
    )
}
