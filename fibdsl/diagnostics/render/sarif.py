"""SARIF 2.1.0 (OASIS, errata 01), what code scanning reads.

Columns count code points, as spans do. There are no character offsets: those of SARIF count in the
file's bytes as they lie there, and a text read from a file has one character for `\\r\\n`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fibdsl._version import __version__
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.report import Report
from fibdsl.diagnostics.rules import Rule
from fibdsl.source import Source, Span

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT = "%SRCROOT%"


def document(report: Report) -> str:
    rules = {d.code: d.rule for d in sorted(report.findings, key=lambda d: d.code)}
    run = {
        "tool": {
            "driver": {
                "name": "fibdsl",
                "semanticVersion": __version__,
                "rules": [_rule(rule) for rule in rules.values()],
            }
        },
        "columnKind": "unicodeCodePoints",
        # Whoever reads this knows where the repository lies; an absolute path would be of no use.
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The top of the repository."}}},
        "invocations": [{"executionSuccessful": True}],
        "artifacts": [
            {"location": _location(report, file), "encoding": "utf-8"} for file in report.files
        ],
        "results": _results(report, list(rules)),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why or rule.summary},
        "help": {"text": _help(rule, markdown=False), "markdown": _help(rule, markdown=True)},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"problem.severity": rule.severity.value, "fix": rule.fix.value},
    }


def _help(rule: Rule, *, markdown: bool) -> str:
    """What is found, why it matters, a spec with it and one without."""
    parts = [f"{rule.code} {rule.name}: {rule.summary}.", rule.why]
    for title, spec in (("Found in", rule.example), ("Mended", rule.mended)):
        if spec:
            text = spec.rstrip("\n")
            parts.append(f"{title}:\n\n```fib\n{text}\n```" if markdown else f"{title}:\n\n{text}")
    return "\n\n".join(part for part in parts if part)


def _results(report: Report, codes: Sequence[str]) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    results = []
    for d in report.findings:
        # The line's text and not its number: a finding stays itself when lines are added above.
        line = d.source.line(d.line).strip() if d.span else ""
        print_of = "\0".join((d.code, report.in_root(d.source.path) or d.source.path, line))
        seen[print_of] += 1
        digest = hashlib.sha256(f"{print_of}\0{seen[print_of]}".encode(errors="replace"))
        results.append(
            {
                "ruleId": d.code,
                "ruleIndex": codes.index(d.code),
                "level": d.severity.value,
                "message": {"text": _message(d)},
                "locations": [{"physicalLocation": _place(report, d.source, d.span)}],
                "partialFingerprints": {"fibFinding/v1": digest.hexdigest()},
                **_labels(report, d),
                **_witness(report, d),
            }
        )
    return results


def _message(d: Diagnostic) -> str:
    return "\n".join((d.message, *d.notes, *([f"help: {d.help}"] if d.help else [])))


def _labels(report: Report, d: Diagnostic) -> dict[str, Any]:
    related = [
        {
            "id": number,
            "physicalLocation": _place(report, d.source, label.span),
            "message": {"text": label.text},
        }
        for number, label in enumerate(d.labels, 1)
    ]
    return {"relatedLocations": related} if related else {}


def _witness(report: Report, d: Diagnostic) -> dict[str, Any]:
    if d.witness is None:
        return {}
    shown = {"properties": {"witness": {"name": d.witness.name, "shows": d.witness.shows}}}
    file = report.witness_file(d)
    if file is None:
        return shown
    attachment = {
        "description": {"text": d.witness.shows},
        "artifactLocation": _location(report, file),
    }
    return {**shown, "attachments": [attachment]}


def _place(report: Report, source: Source, span: Span | None) -> dict[str, Any]:
    """Where in which file; what is about a whole file is put at its first line, since code
    scanning takes nothing without a line."""
    region = {"startLine": 1}
    if span is not None:
        start, end = source.position(span.start), source.position(span.end)
        region = {
            "startLine": start[0],
            "startColumn": start[1],
            "endLine": end[0],
            "endColumn": end[1],  # the column behind the last character, as SARIF has it
        }
    return {"artifactLocation": _location(report, source.path), "region": region}


def _location(report: Report, file: str) -> dict[str, str]:
    inside = report.in_root(file)
    if inside is None:
        return {"uri": Path(file).resolve().as_uri()}
    return {"uri": quote(inside), "uriBaseId": _ROOT}
