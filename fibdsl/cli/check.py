"""`fib check`: every finding about every file, in the form its reader wants."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fibc import driver
from fibdsl.api import findings, read_source, spec_files
from fibdsl.atomic import write_text
from fibdsl.cli.options import add_values, assignment
from fibdsl.cli.output import show, with_progress
from fibdsl.cli.witnesses import write_witnesses
from fibdsl.diagnostics.render.colour import wanted
from fibdsl.diagnostics.render.formats import FORMATS
from fibdsl.diagnostics.render.report import FailOn, Report, counted
from fibdsl.settings import Settings, lint_code, project_settings
from fibdsl.source import Source

_STDIN = "-"

_EPILOG = f"""\
output formats:
{chr(10).join(f"  {form.name:8} {form.summary}" for form in FORMATS.values())}

The document goes to standard output, or to --output-file; one line about the run goes to standard
error. What a project has settled stands in its pyproject.toml, and the command line wins over it:

  [tool.fibdsl]
  fail-on = "error"
  output-format = "concise"
  ignore = ["FIB601"]
  exclude = ["drafts/**"]

A single finding is allowed by a comment at its line: # fib: allow[FIB601] why this is meant

examples:
  fib check .                                            every spec below this folder
  fib check --fail-on error .                            let warnings pass
  fib check --output-format github .                     annotations in GitHub Actions
  fib check --output-format sarif --output-file fib.sarif --exit-zero .
  fib check --output-format json - < mine.fib            for editors and scripts
  fib check --witnesses shown .                          batches on which a promise fails
  fib check --params sweep.yaml mine.fib                 promises at other values, or at each step

exit codes: 0 no finding that fails, 1 findings, 2 wrong usage or a path that cannot be read or
written, 3 a bug of fibdsl

example: fib check mine.fib specs
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "check",
        help="find what is wrong in specs",
        description="Parses and checks specs: names, levels, spaces, budgets, promises, lints. "
        "Every finding is reported at once. Needs no torch and is fast.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a .fib file, a folder to search for them, the name of a shipped spec, or `-` for "
        "standard input",
    )
    add_values(command)
    output = command.add_argument_group("output")
    output.add_argument(
        "--output-format", choices=FORMATS, help="one of those below; full if nothing is settled"
    )
    output.add_argument(
        "--output-file", metavar="FILE", help="write the document there, whole or not at all"
    )
    output.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours of full; auto: on a terminal, as NO_COLOR and FORCE_COLOR say",
    )
    output.add_argument(
        "--witnesses",
        metavar="DIR",
        help="write the batches on which promises fail there, for fib eval --batch",
    )
    outcome = command.add_argument_group("which findings count")
    fails = outcome.add_mutually_exclusive_group()
    fails.add_argument(
        "--fail-on",
        choices=[*FailOn],
        type=FailOn,
        metavar="{error,warning,never}",
        help="the least severity that makes the exit code 1; warning if nothing is settled",
    )
    fails.add_argument("--exit-zero", action="store_true", help="exit with 0 even with findings")
    outcome.add_argument(
        "--ignore",
        metavar="CODE[,CODE]",
        type=_codes,
        action="extend",
        default=[],
        help="leave out these lints, besides those the project ignores",
    )
    command.add_argument(
        "--stdin-filename", metavar="NAME", help="the name standard input is reported under"
    )
    command.add_argument("--isolated", action="store_true", help="look at no pyproject.toml")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    settings = Settings() if options.isolated else project_settings(Path.cwd())
    plan = _plan(options, settings)
    sources = _sources(options, settings)
    checked = [driver.check(source) for source in with_progress(sources, "checking", sys.stderr)]
    found = findings(checked, assignment(options))
    values = () if options.params is None else (options.params,)
    kept = [d for d in found if d.code not in plan.ignore]
    report = Report(
        files=(*(source.path for source in sources), *values),
        findings=tuple(kept),
        root=_root(),
        fail_on=plan.fail_on,
        ignored=len(found) - len(kept),
        witness_files=write_witnesses(kept, options.witnesses) if options.witnesses else {},
        colour=plan.colour,
    )
    _write(report, plan)
    return 1 if report.failed else 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the command line and the settings together ask for."""

    output_format: str
    output_file: str | None
    fail_on: FailOn
    ignore: frozenset[str]
    colour: bool


def _plan(options: argparse.Namespace, settings: Settings) -> _Plan:
    output_format = options.output_format or settings.output_format or "full"
    coloured = output_format == "full" and options.output_file is None
    if options.color == "always" and not coloured:
        raise ValueError("--color always: only `full` on standard output has colours")
    fail_on = options.fail_on or settings.fail_on or FailOn.WARNING
    return _Plan(
        output_format,
        options.output_file,
        FailOn.NEVER if options.exit_zero else fail_on,
        frozenset((*settings.ignore, *options.ignore)),
        coloured and wanted(sys.stdout, os.environ, options.color),
    )


def _codes(text: str) -> list[str]:
    try:
        return [lint_code(code.strip()) for code in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _sources(options: argparse.Namespace, settings: Settings) -> list[Source]:
    """The texts to check, each once, in the order they were asked for."""
    if options.stdin_filename is not None and _STDIN not in options.paths:
        raise ValueError("--stdin-filename names standard input, which `-` asks for")
    if options.paths.count(_STDIN) > 1:
        raise ValueError("standard input can be read only once")
    files: dict[str, None] = {}
    for path in options.paths:
        files |= dict.fromkeys([_STDIN] if path == _STDIN else _files(path, settings))
    if options.output_file is not None and _same_file(options.output_file, files):
        raise ValueError(f"--output-file {options.output_file} would overwrite a spec")
    return [
        _standard_input(options.stdin_filename or "<stdin>")
        if file == _STDIN
        else read_source(file)
        for file in files
    ]


def _files(path: str, settings: Settings) -> list[str]:
    """A path's files; excluded are those that a search finds, not one that is named."""
    found = spec_files(path)
    if not os.path.isdir(path):
        return [str(file) for file in found]
    kept = [str(file) for file in found if not settings.excludes(file)]
    if not kept:
        raise ValueError(f"{path}: every .fib file in this folder is excluded by the settings")
    return kept


def _same_file(output: str, files: dict[str, None]) -> bool:
    return os.path.exists(output) and any(
        os.path.samefile(output, file) for file in files if os.path.exists(file)
    )


def _standard_input(name: str) -> Source:
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text (byte {error.start})") from None
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"))  # as files are read


def _root() -> Path:
    """The top of the repository: GitHub's workspace, or the nearest folder with a `.git`."""
    here = Path.cwd()
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if workspace and here.is_relative_to(Path(workspace).resolve()):
        return Path(workspace).resolve()
    return next((f for f in (here, *here.parents) if (f / ".git").exists()), here)


def _write(report: Report, plan: _Plan) -> None:
    text = FORMATS[plan.output_format].document(report)
    if plan.output_file is not None:
        write_text(plan.output_file, f"{text}\n" if text else "")
    elif text:
        show(text)
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if plan.output_format == "github" and page:
        from fibdsl.diagnostics.render.github import summary

        with open(page, "a", encoding="utf-8") as file:
            file.write(summary(report))
    said = (
        f"{counted(len(report.files), 'file')} checked, {counted(len(report.findings), 'finding')}"
    )
    if report.ignored:
        said += f", {report.ignored} ignored"
    if report.witness_files:
        said += f", {counted(len(set(report.witness_files.values())), 'witness file')} written"
    print(said, file=sys.stderr)
