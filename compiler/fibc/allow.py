"""`# fib: allow[FIB602] reason`: a lint that was read and decided about.

At the end of a line it is about findings that start on that line; on a line of its own, about those
on the next line with text. It allows lints only, needs a reason, and is reported when there is
nothing to allow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fibc.lints import LINTS
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.diagnostics.rules import RULES, Rule, Severity
from fibdsl.source import Source, Span

_SMALL = """\
objective o {{
  signal ratio
  levels token < trajectory
  at token {{ base clip(0.2) pessimistic }}{}
  reduce mean over token
}}
"""

UNUSED = Rule(
    "FIB698",
    "unused-allow",
    "an `allow` of a lint that finds nothing there",
    why="It was left behind when the spec changed, or stands on the wrong line; the next finding "
    "of that kind on its line would be hidden.",
    example=_SMALL.format("  # fib: allow[FIB602] the budgets are symmetric on purpose"),
    mended=_SMALL.format(""),
)
MALFORMED = Rule(
    "FIB699",
    "malformed-allow",
    "an `allow` without a reason, or of something that is no lint",
    why="An allow without a reason cannot be reviewed, and one that names no lint allows nothing.",
    example=_SMALL.format("  # fib: allow[FIB602]"),
    mended=_SMALL.format(""),
)
RECORDS = (UNUSED, MALFORMED)

_TEXT_OR_COMMENT = re.compile(r'"[^"\n]*"|#[^\n]*')
_ALLOW = re.compile(r"#\s*fib:\s*(?P<word>\w*)\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>.*)")
_FORM = "write `# fib: allow[FIB602] why this is meant`"


@dataclass(frozen=True, slots=True)
class Allowance:
    """One code that a comment allows, and the line whose findings it is about."""

    code: str
    line: int
    span: Span


def apply(diagnostics: Diagnostics) -> None:
    """Takes allowed findings away; adds those about the comments themselves."""
    allowed = list(_allowances(diagnostics.source, diagnostics))
    used: set[Allowance] = set()
    kept = []
    for found in diagnostics.found:
        here = [a for a in allowed if (a.code, a.line) == (found.code, found.line)]
        used.update(here)
        if not here:
            kept.append(found)
    # An objective with errors is not linted, so nothing can be said about what is unused.
    judged = not diagnostics.has_errors
    diagnostics.found = kept
    for allowance in allowed:
        if judged and allowance not in used:
            others = any(a.span == allowance.span and a in used for a in allowed)
            help = f"delete `{allowance.code}` from it" if others else "delete the comment"
            diagnostics.add(UNUSED, f"no {allowance.code} is found here", allowance.span, help)


def _allowances(source: Source, diagnostics: Diagnostics) -> Iterator[Allowance]:
    lints = {lint.rule.code: lint.rule.name for lint in LINTS}
    for comment in _TEXT_OR_COMMENT.finditer(source.text):
        form = _ALLOW.fullmatch(comment.group())
        if form is None:
            continue
        span = Span(comment.start(), comment.end())
        codes = [code.strip() for code in (form["codes"] or "").split(",") if code.strip()]
        problem = _problem(form["word"], codes, form["reason"], lints)
        if problem is not None:
            diagnostics.add(MALFORMED, problem[0], span, problem[1])
            continue
        line = _line_meant(source, comment.start())
        for code in codes:
            yield Allowance(code, line, span)


def _problem(
    word: str, codes: list[str], reason: str, lints: dict[str, str]
) -> tuple[str, str] | None:
    """What is wrong with a comment, and how to mend it."""
    if word != "allow" or not codes:
        return "this is not of the form of an allowance", _FORM
    for code in codes:
        if code in RULES and RULES[code].severity is Severity.ERROR:
            return f"{code} is an error; only lints can be allowed", "mend what it finds"
        if code in (UNUSED.code, MALFORMED.code):
            return f"{code} is about comments like this one and cannot be allowed", "delete it"
        if code not in lints:
            named = next((c for c, name in lints.items() if name == code), None)
            help = f"write its code, {named}" if named else nearest(code, sorted(lints))
            return f"unknown lint `{code}`", help
    if not reason.strip():
        return "an allowance needs a reason", _FORM
    return None


def _line_meant(source: Source, start: int) -> int:
    """The comment's line if there is text before it, else the next line with text."""
    number, column = source.position(start)
    if source.line(number)[: column - 1].strip():
        return number
    last = source.position(len(source.text))[0]
    while number < last:
        number += 1
        text = source.line(number).strip()
        if text and not text.startswith("#"):
            return number
    return number
