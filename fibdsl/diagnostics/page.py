"""docs/rules.md, made of the records of the rules; tests/docs keeps the two equal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from fibc import allow
from fibdsl.diagnostics.rules import Fix, Rule, Severity

_INTRODUCTION = """\
# Rules

Every finding of `fib check` has a code. Its first digit is the family: 0 syntax, 1 names, 2 levels,
3 spaces, 4 budgets, 5 `require`, 6 lints. Lints are warnings, legal but suspicious, and are decided
at the default values of the parameters. All others are errors: there is no loss until they are
mended.

`fib rule CODE` prints what stands here. This page is made from the same records, in
`fibdsl/diagnostics/rules` and `compiler/fibc/lints`; it is not edited by hand.

A lint that was read and decided about is allowed by a comment with the reason, at the end of its
line or on a line of its own before it:

```text
reduce mean over trajectory, mean over token  # fib: allow[FIB606] GRPO as published
```
"""

_EFFECTS = {
    Fix.SAFE: "The mend does not change the loss.",
    Fix.UNSAFE: "The mend changes the loss: whoever owns the objective decides.",
    Fix.NONE: "There is no one way to mend it.",
}


def page(rules: Iterable[Rule]) -> str:
    """The page of these rules, in Markdown: a table, then a section each."""
    rules = list(rules)
    rows = [
        f"| [{rule.code}](#{rule.code.lower()}-{rule.name}) | {rule.name} | {_cell(rule.summary)} |"
        for rule in rules
    ]
    table = "\n".join(["| code | name | what |", "|---|---|---|", *rows])
    parts = [_INTRODUCTION.rstrip(), table]
    for rule in rules:
        parts += _section(rule)
    return "\n\n".join(parts) + "\n"


def effect(rule: Rule) -> str:
    """What mending it does to the loss, in a sentence."""
    if rule.severity is Severity.ERROR and rule.fix is Fix.SAFE:
        return "A spec with an error has no loss; mending it gives it one."
    return _EFFECTS[rule.fix]


def allowable(rule: Rule) -> bool:
    """Whether a comment can allow it: lints, but not what is said of such comments."""
    return rule.severity is Severity.WARNING and rule not in allow.RECORDS


def _section(rule: Rule) -> Iterator[str]:
    yield f"## {rule.code} {rule.name}"
    yield textwrap.fill(f"{rule.severity.capitalize()}: {rule.summary}.", 100)
    yield textwrap.fill(rule.why, 100)
    if rule.example:
        kind = "fib-error" if rule.severity is Severity.ERROR else "fib-lint"
        yield f"```{kind} {rule.code}\n{rule.example}```"
    if rule.mended:
        yield "Mended:"
        yield f"```fib\n{rule.mended}```"
    if rule.severity is Severity.WARNING or rule.fix is Fix.NONE:
        yield effect(rule)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
