"""`fib fmt`: specs in the canonical format."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fibdsl.api import spec_files
from fibdsl.atomic import write_text
from fibdsl.cli.output import reader_left
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.errors import FibError
from fibdsl.diagnostics.render.full import render
from fibdsl.diagnostics.render.report import counted
from fibdsl.resources import shipped_specs
from fibdsl.settings import project_settings
from fibdsl.source import Source
from fibdsl.syntax.printer import format_source

_EPILOG = """\
It changes white space only: words, numbers, comments and the order of statements stay. Each result
is parsed again before it is written, and must be the same spec with the same comments. A file with
a syntax error is left as it is, and its errors are shown; the others are still formatted.

examples:
  fib fmt .                       every spec below this folder
  fib fmt --check .               for CI: list what is not formatted, write nothing
  fib fmt --diff mine.fib         show what would change
  fib fmt - < mine.fib            for editors: standard input to standard output

exit codes: 0 all is in canonical format, 1 a syntax error or, with --check or --diff, a file that
would change, 2 wrong usage or a path that cannot be read or written, 3 a bug of fibdsl

example: fib fmt mine.fib specs
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "fmt",
        help="bring specs into the canonical format",
        description="Rewrites specs in the one canonical format, which docs/language.md describes "
        "and the shipped specs show.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a .fib file, or a folder to search for them; `-`, or no path where text is piped "
        "in, formats standard input to standard output",
    )
    command.add_argument(
        "--check", action="store_true", help="write nothing, list the files that would change"
    )
    command.add_argument(
        "--diff", action="store_true", help="write nothing, print what would change"
    )
    command.add_argument(
        "--stdin-filename", metavar="NAME", help="what messages call standard input"
    )
    command.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Spec:
    """A spec before and after; `path` is its file, or what standard input is called."""

    path: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.after != self.before


def run(options: argparse.Namespace) -> int:
    if options.paths in ([], ["-"]):
        return _format_stdin(options)
    if "-" in options.paths:
        raise ValueError("`-` is standard input and stands alone")
    if options.stdin_filename is not None:
        raise ValueError("--stdin-filename is for standard input, and a path is given")
    return _format_files(options)


def _format_stdin(options: argparse.Namespace) -> int:
    name = options.stdin_filename or "<stdin>"
    specs, found = _formatted({name: _text(name, _standard_input(asked=bool(options.paths)))})
    if found:
        print(render(found), file=sys.stderr)
        return 1
    if options.check or options.diff:
        return _reported(specs, options.diff)
    _print(specs[0].after)
    return 0


def _standard_input(asked: bool) -> bytes:
    """What is piped in; `asked` says whether `-` was written.

    Raises:
        ValueError: nothing is piped in.
    """
    if sys.stdin is None or (sys.stdin.isatty() and not asked):
        content = None
    else:
        content = sys.stdin.buffer.read()
    if content is None or not (content or asked):
        raise ValueError("nothing to format: name a file or a folder, or pipe a spec in")
    return content


def _format_files(options: argparse.Namespace) -> int:
    # Everything is read and formatted before anything is written: a misspelt path changes no file.
    texts = {str(file): _text(str(file), file.read_bytes()) for file in _files(options.paths)}
    specs, found = _formatted(texts)
    if found:
        print(render(found), file=sys.stderr)
    changed = [spec for spec in specs if spec.changed]
    only_shows = options.check or options.diff
    differs = _reported(specs, options.diff) if only_shows else 0
    unwritten = 0 if only_shows else _written(changed)
    would = "would be " if only_shows else ""
    said = [f"{counted(len(changed) - unwritten, 'file')} {would}reformatted"]
    said.append(f"{len(specs) - len(changed)} left unchanged")
    if found:
        said.append(f"{len(texts) - len(specs)} with syntax errors")
    if unwritten:
        said.append(f"{unwritten} not written")
    print(", ".join(said), file=sys.stderr)
    return 2 if unwritten else 1 if found else differs


def _files(paths: Sequence[str]) -> list[Path]:
    """The files to format, each once. A search of a folder leaves out what the project excludes."""
    settings = project_settings(Path.cwd())
    files: dict[Path, Path] = {}
    for path in paths:
        if path in shipped_specs() and not os.path.exists(path):
            copy = f"start from a copy: fib specs {path} > {path}.fib"
            raise ValueError(f"{path}: no such file, and a shipped spec is not rewritten; {copy}")
        searched = os.path.isdir(path)
        for file in spec_files(path):
            if not (searched and settings.excludes(file)):
                files.setdefault(file.resolve(), file)
    return list(files.values())


def _text(name: str, content: bytes) -> str:
    """The text with its line ends as they are.

    Raises:
        OSError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OSError(f"{name} is not UTF-8 text (byte {error.start})") from None


def _formatted(texts: Mapping[str, str]) -> tuple[list[_Spec], list[Diagnostic]]:
    """The specs that parse, and what is wrong with the others."""
    specs: list[_Spec] = []
    found: list[Diagnostic] = []
    for path, text in texts.items():
        # The line ends that `fib check` sees.
        source = Source(path, text.replace("\r\n", "\n").replace("\r", "\n"))
        try:
            specs.append(_Spec(path, text, format_source(source)))
        except FibError as error:
            found += error.diagnostics
    return specs, found


# --- output -------------------------------------------------------------------------------------


def _reported(specs: Iterable[_Spec], diff: bool) -> int:
    """Prints what would change and returns the exit code."""
    changed = [spec for spec in specs if spec.changed]
    for spec in changed:
        _print(_difference(spec) if diff else f"{spec.path}\n")
    return 1 if changed else 0


def _difference(spec: _Spec) -> str:
    """A unified diff, which `patch` takes."""
    # Not str.splitlines: a comment may hold characters that it takes for line ends.
    before, after = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (spec.before, spec.after))
    lines = difflib.unified_diff(before, after, spec.path, spec.path)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _print(text: str) -> None:
    """Prints text that may become a file: in UTF-8 on any terminal, line ends as they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        reader_left()


def _written(specs: Iterable[_Spec]) -> int:
    """Writes the files that can be written and returns how many cannot."""
    failures = 0
    for spec in specs:
        try:
            if not os.path.isfile(spec.path):
                raise OSError(errno.EINVAL, "not a regular file; pipe it in")
            if not os.access(spec.path, os.W_OK):  # its folder alone would let it be replaced
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            write_text(spec.path, spec.after)
        except OSError as error:
            failures += 1
            reason = (error.strerror or str(error)).lower()
            print(f"fib fmt: {spec.path}: {reason}", file=sys.stderr)
    return failures
