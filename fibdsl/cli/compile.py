"""`fib compile`: the torch module of a spec."""

from __future__ import annotations

import argparse
import sys

from fibdsl.cli.options import add_spec, load_spec
from fibdsl.diagnostics.render.full import render


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "compile",
        help="write the loss module of a spec",
        description="Compiles a checked spec to a readable Python module that imports only torch "
        "and holds one class, Loss: a torch.nn.Module that computes the loss and its gradient in "
        "one fused graph (torch.compile runs at its first call, not here).",
        epilog="example: fib compile fiberpo -o loss.py",
    )
    add_spec(command)
    command.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it; without it, to standard output"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    objective = load_spec(options)
    text = objective.source()
    if objective.checked.diagnostics:
        print(render(objective.checked.diagnostics), file=sys.stderr)
    if options.output is None:
        print(text, end="")
    else:
        from fibdsl.atomic import write_text

        write_text(options.output, text)
        print(f"{options.output}: class Loss of objective {objective.name}", file=sys.stderr)
    return 0
