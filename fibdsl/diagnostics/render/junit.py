"""JUnit XML, by the rules of Jenkins' junit-10.xsd: a test suite a run, a test case a file.

All of a file's findings are in one failure, for most readers show only the first. Findings that do
not make the run fail are the test case's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.full import document as full
from fibdsl.diagnostics.render.report import Report, counted
from fibdsl.diagnostics.render.text import safe


def document(report: Report) -> str:
    suite = ElementTree.Element("testsuite", name="fib check", tests=str(len(report.files)))
    failures = 0
    for file, found in report.by_file().items():
        case = ElementTree.SubElement(suite, "testcase", classname="fib check", name=safe(file))
        failing = [d for d in found if report.fail_on.fails(d)]
        if failing:
            failures += 1
            codes = list(dict.fromkeys(d.code for d in failing))
            first, more = failing[0], len(failing) - 1
            message = f"{first.code}: {first.message}" + (
                f", and {counted(more, 'more finding')}" if more else ""
            )
            failure = ElementTree.SubElement(
                case, "failure", message=safe(message), type=" ".join(codes)
            )
            failure.text = _text(report, failing)
        passing = [d for d in found if not report.fail_on.fails(d)]
        if passing:
            ElementTree.SubElement(case, "system-out").text = _text(report, passing)
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    suite.set("skipped", "0")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    # ASCII with character references: right in whatever encoding the standard output has.
    text: bytes = ElementTree.tostring(suites, encoding="us-ascii", xml_declaration=True)
    return text.decode("ascii")


def _text(report: Report, findings: Sequence[Diagnostic]) -> str:
    """What people read of these findings."""
    return full(replace(report, findings=tuple(findings), colour=False))
