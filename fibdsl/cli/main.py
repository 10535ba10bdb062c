"""`fib`: picks the subcommand and turns what goes wrong into an exit code.

0 clean; 1 findings about a spec; 2 usage, a file that cannot be read, or a bad batch; 3 our bug.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence

from fibdsl._version import __version__
from fibdsl.cli import check, compile, diff, eval, explain, fmt, rule, specs
from fibdsl.cli.output import reader_left
from fibdsl.diagnostics.errors import FibError
from fibdsl.diagnostics.render.colour import wanted
from fibdsl.diagnostics.render.full import render

COMMANDS = (check, compile, diff, eval, explain, fmt, rule, specs)

_EPILOG = """\
a first session:
  fib specs                                    list the shipped objectives
  fib specs fiberpo > mine.fib                 start from one of them
  fib check mine.fib                           every mistake at once, with a caret
  fib rule FIB602                              what a finding means, and how to mend it
  fib fmt mine.fib                             bring it into the canonical format
  fib explain mine.fib                         its formula, regimes, range of G, properties
  fib diff fiberpo mine.fib                    what your changes do to the loss
  fib eval mine.fib --batch rollouts.safetensors
  fib compile mine.fib -o loss.py              a torch module that needs only torch

exit codes: 0 clean, 1 findings, 2 usage or input/output, 3 a bug of fibdsl
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="fib",
        description="Policy losses for language-model RL: check, evaluate and compile .fib specs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"fib {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
        return code
    except FibError as error:
        colour = wanted(sys.stderr, os.environ)
        print(render(error.diagnostics, colour), file=sys.stderr)
        return 1
    except BrokenPipeError:
        reader_left()
        return 0
    except (OSError, ValueError) as error:
        print(f"fib {options.command}: {_reason(error)}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        print(
            "fib: this is a bug of fibdsl; please report it with the spec and the lines above",
            file=sys.stderr,
        )
        return 3


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)


def entry() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character of the spec still shows the rest.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
