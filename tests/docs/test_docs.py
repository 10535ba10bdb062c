"""What the documentation shows is true: specs check, commands print it, Python runs."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import fibc
import fibdsl
from fibc import driver
from fibc.emit.stages import STAGES
from fibc.gates.builtin import builtin_gates
from fibc.grammar import CONTEXTUAL
from fibc.ir.printer import show
from fibdsl.cli.main import main
from fibdsl.diagnostics.catalogue import catalogue
from fibdsl.diagnostics.page import page
from fibdsl.diagnostics.rules import Severity
from fibdsl.resources import folder, shipped_specs
from fibdsl.source import Source
from fibdsl.syntax.printer import format_source

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
    )
}


@dataclass(frozen=True)
class Block:
    """A fenced block: the file it is in, its line, the words after the fence, its text."""

    file: str
    line: int
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def _blocks(file: str) -> list[Block]:
    fence = re.compile(r"^```(?P<words>[^\n`]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Block(file, FILES[file].count("\n", 0, m.start()) + 1, tuple(m["words"].split()), m["text"])
        for m in fence.finditer(FILES[file])
    ]


BLOCKS = [block for file in FILES for block in _blocks(file)]


def of_kind(kind: str, file: str | None = None) -> list[Block]:
    return [b for b in BLOCKS if b.words[0] == kind and file in (None, b.file)]


@pytest.mark.parametrize("block", of_kind("fib"), ids=str)
def test_specs_are_clean(block: Block, tour: Path) -> None:
    named = block.words[-1].endswith(".fib")
    # One that has a name stands in a file, beside those it uses.
    checked = driver.check(Source(str(tour / block.words[-1]) if named else str(block), block.text))
    assert [f"{d.line}: {d.code} {d.message}" for d in checked.diagnostics] == []
    assert checked.objectives


@pytest.mark.parametrize("block", of_kind("fib-error"), ids=str)
def test_wrong_specs_are_wrong_as_said(block: Block) -> None:
    said = {word for word in block.words if re.fullmatch(r"FIB\d\d\d", word)}
    found = driver.check(Source(str(block), block.text)).diagnostics
    assert said
    assert {d.code for d in found} == said


@pytest.mark.parametrize("block", of_kind("fib-lint"), ids=str)
def test_suspicious_specs_are_suspicious_as_said(block: Block) -> None:
    said = set(block.words[1:])
    found = driver.check(Source(str(block), block.text)).diagnostics
    assert said
    assert said <= {d.code for d in found}
    assert {d.severity for d in found} == {Severity.WARNING}


@pytest.mark.parametrize(
    "block",
    [b for k in ("fib", "fib-error", "fib-lint") for b in of_kind(k) if b.file != "rules.md"],
    ids=str,
)
def test_specs_are_in_canonical_format(block: Block) -> None:
    assert format_source(Source(str(block), block.text)) == block.text


@pytest.fixture
def tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's files in it and the examples beside them, the working one."""
    for block in [*of_kind("fib", "README.md"), *of_kind("fib-error", "README.md")]:
        if block.words[-1].endswith(".fib"):
            (tmp_path / block.words[-1]).write_text(block.text, encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", of_kind("console"), ids=str)
def test_commands_print_what_is_shown(
    block: Block, tour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert commands.pop(0) == ""
    for text in commands:
        command, _, shown = text.partition("\n")
        program, *arguments = shlex.split(command)
        assert program == "fib"
        main(arguments)
        printed = capsys.readouterr()
        assert (printed.out + printed.err).rstrip() == shown.rstrip()


@pytest.mark.parametrize("block", of_kind("excerpt"), ids=str)
def test_commands_print_what_is_shown_of_them(
    block: Block, tour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line `...` stands for lines that are left out."""
    command, _, shown = block.text.partition("\n")
    assert command.startswith("$ fib ")
    main(shlex.split(command)[2:])
    printed = capsys.readouterr()
    rest = printed.out + printed.err
    for part in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE):
        _, found, rest = rest.partition(part)
        assert found, part


def test_readme_python_runs(
    tour: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "mine.fib", "-o", "loss.py"]) == 0
    capsys.readouterr()
    monkeypatch.syspath_prepend(tour)
    blocks = of_kind("python", "README.md")
    source = "".join(block.text for block in blocks)
    # Eagerly: what is tested here is the text, not Inductor.
    source = source.replace(".compile()", ".compile(backend=None)")
    source = source.replace("Loss()", "Loss(backend=None)")
    try:
        exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
    finally:
        sys.modules.pop("loss", None)
    said = re.findall(r"print\(.*\)  # (.+)", source)
    assert said
    assert capsys.readouterr().out.split() == said


def test_the_python_of_its_page_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    source = "".join(block.text for block in of_kind("python", "python.md"))
    # Eagerly, as above.
    source = source.replace(".compile(", ".compile(backend=None, ")
    exec(compile(source, "python.md", "exec"), {"__name__": "page"})
    said = re.findall(r"print\(.*\)  # (.+)", source)
    assert len(said) == 8
    assert capsys.readouterr().out.splitlines() == said


def test_the_page_of_python_names_what_there_is() -> None:
    """Every public name, every public attribute of an objective."""
    page = FILES["python.md"]
    for name in set(fibdsl.__all__) - {"__version__", "InternalError", "PackageError"}:
        assert re.search(rf"\b{name}\b", page), name
    for name in vars(fibdsl.Objective):
        if not name.startswith("_") and name not in ("checked", "typed", "program", "batch"):
            assert re.search(rf"`{name}\b|`{name}\(", page), name


def test_every_gate_is_in_the_table() -> None:
    rows = _rows(FILES["language.md"], "gate")
    assert [row[0].strip("`") for row in rows] == list(builtin_gates())
    for row in rows:
        for piece in builtin_gates()[row[0].strip("`")].pieces:
            assert f"`{piece.regime}`" in row[1]


def test_the_page_of_rules_is_that_of_the_records(request: pytest.FixtureRequest) -> None:
    file = ROOT / "docs" / "rules.md"
    text = page(catalogue().values())
    if request.config.getoption("--update-goldens"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def test_every_rule_is_on_the_page() -> None:
    """Those whose codes stand in the source, each with its row and its section."""
    places = (Path(fibdsl.__path__[0]) / "diagnostics" / "rules", Path(fibc.__path__[0]))
    sources = "".join(
        file.read_text(encoding="utf-8") for place in places for file in place.rglob("*.py")
    )
    codes = sorted(set(re.findall(r'^ +"(FIB\d\d\d)",$', sources, re.MULTILINE)))
    rows = _rows(FILES["rules.md"], "code")
    assert [row[0][1:7] for row in rows] == codes
    assert re.findall(r"^## (FIB\d\d\d) ", FILES["rules.md"], re.MULTILINE) == codes


def test_only_rules_that_exist_are_named() -> None:
    for text in FILES.values():
        assert set(re.findall(r"\bFIB\d\d\d\b", text)) <= set(catalogue())


def test_every_shipped_spec_is_in_the_readme() -> None:
    _, _, after = FILES["README.md"].partition("## Shipped specs\n")
    lists = re.findall(r"^- [\w ]+: `([^`]+)`", after.partition("\n## ")[0], re.MULTILINE)
    assert sorted(" ".join(lists).split()) == sorted(shipped_specs())


def test_every_metric_is_in_the_documents() -> None:
    """Metric names of all shipped specs, with their variable parts replaced."""
    for name in shipped_specs():
        objective = fibdsl.load(name)
        levels = "|".join(level.name for level in objective.typed.levels)
        for metric in objective.program.metrics:
            pattern = re.sub(rf"^(regime|drift)/({levels})", r"\1/LEVEL", metric.name)
            pattern = re.sub(r"(?<=LEVEL/)(plus|minus)", "SIGN", pattern)
            pattern = re.sub(r"(?<=SIGN/)\w+", "REGIME", pattern)
            if metric.name in objective.typed.labelled:
                pattern = f"{metric.name.partition('/')[0]}/LABEL"
            assert f"`{pattern}`" in FILES["semantics.md"], pattern


def test_keywords_of_the_grammar_are_in_the_reference() -> None:
    grammar = (folder("grammar") / "fib.lark").read_text(encoding="utf-8")
    keywords = set(re.findall(r'"([a-z]+)"', grammar))
    [ebnf] = of_kind("ebnf")
    assert keywords == set(re.findall(r'"([a-z]+)"', ebnf.text))
    [reserved] = re.findall(r"cannot be names: `([^`]+)`", FILES["language.md"])
    [names] = re.findall(r"where only a name can stand,[^:]*: `([^`]+)`", FILES["language.md"])
    contextual = {word.lower() for word in CONTEXTUAL}
    assert keywords - contextual == set(reserved.split())
    assert contextual == set(names.split()) < keywords


@pytest.mark.parametrize("block", of_kind("ir"), ids=str)
def test_the_shown_program_is_the_real_one(block: Block) -> None:
    program = show(fibdsl.load(block.words[1]).program).splitlines()
    assert [line for line in block.text.splitlines() if line not in program] == []


def test_stages_are_the_real_ones() -> None:
    rows = _rows(FILES["architecture.md"], "stage")
    assert [row[0].strip("`") for row in rows] == list(STAGES)


@pytest.mark.parametrize("file", FILES)
def test_links_lead_somewhere(file: str) -> None:
    folder_of = ROOT / "docs" if (ROOT / "docs" / file).exists() else ROOT
    for target in re.findall(r"\]\(([^)]+)\)", FILES[file]):
        path, _, anchor = target.partition("#")
        linked = folder_of / path if path else folder_of / file
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("file", FILES)
def test_no_forbidden_words(file: str) -> None:
    """No absolute paths, no addresses of hosts but the repository's, no notes to self, no hype."""
    text = FILES[file]
    assert re.findall(r"(?<![\w.)`/*])/[a-z]\w*/[\w./-]+", text) == []
    hosts = r"https?://(?!github\.com/OWNER/)\S+|\blocalhost\b|\b\d+\.\d+\.\d+\.\d+\b"
    assert re.findall(hosts, text) == []
    assert re.findall(r"\b(?:TODO|FIXME|XXX)\b", text) == []
    hype = r"\b(?:blazing\w*|seamless\w*|powerful|revolutionary|effortless\w*|state-of-the-art)\b"
    assert re.findall(hype, text, re.IGNORECASE) == []


def _rows(text: str, heading: str) -> list[list[str]]:
    """The rows of the tables whose first column has that heading."""
    tables = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for table in tables
        for line in table.splitlines()
    ]
