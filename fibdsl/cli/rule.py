"""`fib rule`: what the rules are, and why."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fibdsl.diagnostics.rules import Rule


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "rule",
        help="list the rules, or explain some: why, an example, its mend",
        description="Lists the rules behind the findings of `fib check`; with codes, says of each "
        "why it matters, with an example, the example mended, what the mend does to the loss, and "
        "how to allow a lint where it is meant.",
        epilog="example: fib rule FIB602",
    )
    command.add_argument(
        "codes", nargs="*", metavar="CODE", help="a code as FIB602, or a name as kl-bias"
    )
    command.add_argument("--json", action="store_true", help="print the records as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fibdsl.diagnostics.catalogue import catalogue

    rules = [_find(code) for code in options.codes] or list(catalogue().values())
    if options.json:
        print(json.dumps({"rules": [_record(rule) for rule in rules]}, indent=2))
    elif options.codes:
        print("\n\n\n".join("\n".join(_explained(rule)) for rule in rules))
    else:
        width = max(len(rule.name) for rule in rules)
        for rule in rules:
            print(f"{rule.code}  {rule.name:{width}}  {rule.severity:7}  {rule.summary}")
    return 0


def _find(word: str) -> Rule:
    """The rule of a code or a name, in either case; ValueError for another word."""
    from fibdsl.diagnostics.catalogue import catalogue
    from fibdsl.diagnostics.diagnostic import nearest

    rules = {**catalogue(), **{rule.name: rule for rule in catalogue().values()}}
    for written in (word, word.upper(), word.lower()):
        if written in rules:
            return rules[written]
    meant = nearest(word.upper() if word[:3].upper() == "FIB" else word.lower(), rules)
    help = meant if meant.startswith("did you mean") else "`fib rule` lists them"
    raise ValueError(f"no rule '{word}'; {help}")


def _record(rule: Rule) -> dict[str, object]:
    """One rule for programs. Keys are only ever added."""
    from fibdsl.diagnostics.page import allowable

    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity.value,
        "summary": rule.summary,
        "why": rule.why,
        "example": rule.example or None,
        "mended": rule.mended or None,
        "fix": rule.fix.value,
        "allowable": allowable(rule),
    }


def _explained(rule: Rule) -> Iterator[str]:
    """One rule for people, line by line."""
    from fibdsl.diagnostics.page import allowable, effect

    yield f"{rule.code} {rule.name} ({rule.severity})"
    yield textwrap.fill(rule.summary, 80)
    yield ""
    yield textwrap.fill(rule.why, 80)
    for title, text in (("found in:", rule.example), ("mended:", rule.mended)):
        if text:
            yield from ("", title, "", textwrap.indent(text.rstrip(), "    "))
    yield from ("", effect(rule))
    if allowable(rule):
        yield "Where it is meant, say why on its line or the one before:"
        yield from ("", f"    # fib: allow[{rule.code}] the reason")
