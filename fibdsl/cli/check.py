"""`fib check`: every finding about every file."""

from __future__ import annotations

import argparse
import sys

from fibc import driver
from fibdsl.api import read_source, spec_files
from fibdsl.diagnostics.render import concise, full

FORMATS = {"full": full.render, "concise": concise.render}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "check",
        help="find what is wrong in specs",
        description="Parses and checks specs: names, levels, spaces, budgets, promises, lints. "
        "Every finding is reported at once. Needs no torch and is fast.",
        epilog="exit codes: 0 no finding, 1 findings, 2 a path cannot be read; "
        "example: fib check mine.fib specs",
    )
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="a .fib file, or a folder to search for them"
    )
    command.add_argument(
        "--output-format",
        choices=sorted(FORMATS),
        default="full",
        help="full (the line and a caret, the default) or concise (one line a finding)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    files = spec_files(*options.paths)
    found = [d for file in files for d in driver.check(read_source(file)).diagnostics]
    if found:
        print(FORMATS[options.output_format](found))
    count = f"{len(found)} finding{'s' if len(found) != 1 else ''}" if found else "no findings"
    print(f"{len(files)} file{'s' if len(files) != 1 else ''} checked, {count}", file=sys.stderr)
    return 1 if found else 0
