"""JSON, GitHub's commands and JUnit: escaping, positions counted by hand, nothing found."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fibdsl._version import __version__
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render import github, junit
from fibdsl.diagnostics.render import json as json_format
from fibdsl.diagnostics.render.formats import FORMATS
from fibdsl.diagnostics.render.report import FailOn, Report
from fibdsl.source import Source, Span
from tests.render.cases import FILES, FINDINGS, LINT, NAME, report


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- nothing found ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_found(folder: Path, name: str) -> None:
    text = FORMATS[name].document(Report(("a.fib",), (), folder))
    if name in ("full", "concise", "github"):
        assert text == ""
    elif name == "junit":
        suite = ElementTree.fromstring(text)[0]
        assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    else:
        assert json.loads(text)


# --- JSON ---------------------------------------------------------------------------------------


def test_json(folder: Path) -> None:
    text = json_format.document(report(folder, witness_file="shown/w.safetensors"))
    assert text.isascii()
    content = json.loads(text)
    assert list(content) == ["version", "tool", "files", "findings", "summary"]
    assert content["version"] == 1
    assert content["tool"] == {"name": "fibdsl", "version": __version__}
    assert content["files"] == list(FILES)
    assert content["summary"] == {
        "files": 7,
        "errors": 9,
        "warnings": 1,
        "ignored": 2,
        "failed": True,
    }
    # `objective two {\n` is 16 characters; `  at trajectori { base rollback(+c_plsu, ...`
    assert content["findings"][1] == {
        "code": "FIB101",
        "name": "unknown-name",
        "severity": "error",
        "message": "unknown name `c_plsu`",
        "help": "did you mean `c_plus`?",
        "notes": [],
        "fix": "safe",
        "file": "specs/two.fib",
        "start": {"line": 2, "column": 34, "offset": 16 + 33},
        "end": {"line": 2, "column": 40, "offset": 16 + 39},
        "labels": [],
        "witness": None,
    }
    refuted = content["findings"][2]
    assert refuted["help"] is None
    assert refuted["fix"] == "none"
    assert refuted["notes"] == ["token 0 enters the ratio of token 1", "and 100% of it:\nall"]
    assert refuted["labels"][1] == {
        "message": "up",
        "start": {"line": 2, "column": 33, "offset": 19 + 32},
        "end": {"line": 2, "column": 37, "offset": 19 + 36},
    }
    assert refuted["witness"] == {
        "name": "labels.block_diagonal",
        "shows": "d G[0, 0] / d logp[0, 1] is 0.5",
        "file": "shown/w.safetensors",
    }
    whole_file = content["findings"][-1]
    assert (whole_file["start"], whole_file["end"]) == (None, None)


@pytest.mark.parametrize(
    ("fail_on", "failed"), [(FailOn.ERROR, False), (FailOn.WARNING, True), (FailOn.NEVER, False)]
)
def test_json_says_whether_it_fails(folder: Path, fail_on: FailOn, failed: bool) -> None:
    lint = next(d for d in FINDINGS if d.rule is LINT)
    content = json.loads(json_format.document(report(folder, lint, fail_on=fail_on)))
    assert content["summary"]["failed"] is failed


# --- GitHub -------------------------------------------------------------------------------------


def test_github_escapes(folder: Path) -> None:
    source = Source("a:b,c%\n.fib", "x")
    found = Diagnostic(NAME, "50%: a, b\nc\x1b", source, Span(0, 1), "::error::no")
    assert github.document(report(folder, found)) == (
        "::error file=a%3Ab%2Cc%25%0A.fib,line=1,col=1,endLine=1,endColumn=2,"
        "title=FIB101 unknown-name::50%25: a, b%0Ac␛%0Ahelp: ::error::no"
    )


def test_github_places(folder: Path) -> None:
    lines = github.document(report(folder)).split("\n")
    assert len(lines) == len(FINDINGS)
    assert all(line.startswith(("::error file=", "::warning file=")) for line in lines)
    assert "file=specs/two.fib,line=2,col=34,endLine=2,endColumn=40," in lines[1]
    # Lines 5 and 6 with their line ends; the runner takes no columns then.
    assert "file=specs/labels.fib,line=5,endLine=6,title=" in lines[2]
    assert "file=specs/tab.fib,title=" in lines[-1]


def test_github_paths_are_from_the_top_of_the_repository(folder: Path) -> None:
    [line] = github.document(report(folder.parent, FINDINGS[0])).split("\n")
    assert f"file={folder.name}/specs/two.fib," in line


def test_github_summary(folder: Path) -> None:
    assert github.summary(Report(("a.fib",), (), folder)) == "### fib check: 1 file, no findings\n"
    source = Source("a|b.fib", "x")
    found = Diagnostic(NAME, "`a|b*` <b> a_b ` c", source, Span(0, 1), "one\ntwo")
    *_, row = github.summary(report(folder, found)).splitlines()
    assert row == r"| error FIB101 | a\|b.fib:1:1 | `a\|b*` \<b\> a\_b \` c | one two |"


def test_github_summary_is_not_endless(folder: Path) -> None:
    *rows, _, last = github.summary(report(folder, *[FINDINGS[0]] * 1002)).splitlines()
    assert len(rows) == 4 + 1000
    assert last == "and 2 more findings"


# --- JUnit --------------------------------------------------------------------------------------

# What junit-10.xsd of Jenkins' xUnit plugin allows: attributes (needed ones first), children.
ALLOWED = {
    "testsuites": ([], {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        ["name", "tests", "failures", "errors"],
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        ["name"],
        {"time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ([], {"type", "message"}, set()),
    "system-out": ([], set(), set()),
}


@pytest.mark.parametrize("fail_on", FailOn)
def test_junit_is_what_jenkins_reads(folder: Path, fail_on: FailOn) -> None:
    text = junit.document(report(folder, fail_on=fail_on))
    assert text.isascii()
    for element in ElementTree.fromstring(text).iter():
        needed, optional, children = ALLOWED[element.tag]
        assert set(needed) <= set(element.keys()) <= {*needed, *optional}
        assert {child.tag for child in element} <= children


def test_junit_cases(folder: Path) -> None:
    suite = ElementTree.fromstring(junit.document(report(folder, fail_on=FailOn.ERROR)))[0]
    assert [case.get("name") for case in suite] == list(FILES)
    failing = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failing == [FILES[n] for n in (1, 2, 4, 5, 6)]
    assert (suite.get("tests"), suite.get("failures")) == ("7", "5")
    [failure] = suite[1]
    assert failure.get("message") == "FIB201: unknown level `trajectori`, and 1 more finding"
    assert failure.get("type") == "FIB201 FIB101"
    assert failure.text is not None
    assert failure.text.startswith("error[FIB201]: unknown level `trajectori`\n  --> specs/two.fib")
    assert failure.text.endswith("help: did you mean `c_plus`?")
    # A warning that does not fail is said, and is no failure.
    [said] = suite[3]
    assert said.tag == "system-out"
    assert (said.text or "").startswith("warning[FIB601]")


def test_junit_has_no_character_xml_cannot(folder: Path) -> None:
    source = Source("\x00a\x07.fib", "x\x08 \ufffe\ud800")
    found = Diagnostic(NAME, "\x1b & < > \" ' ]]> \x0c", source, Span(0, 1), "\x0b")
    made = Report((source.path,), (found,), folder)
    suite = ElementTree.fromstring(junit.document(made))[0]
    assert suite[0].get("name") == "␀a␇.fib"
    assert suite[0][0].get("message") == "FIB101: ␛ & < > \" ' ]]> ␌"
    assert " 1 | x␈ \ufffd\ufffd\n" in (suite[0][0].text or "")
