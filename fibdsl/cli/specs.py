"""`fib specs`: the shipped objectives."""

from __future__ import annotations

import argparse

from fibdsl.api import load
from fibdsl.diagnostics.diagnostic import nearest
from fibdsl.resources import shipped_specs


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "specs",
        help="list the shipped objectives, or print one",
        description="Lists the shipped objectives with their sources; with a name, prints that "
        "spec, to start your own from.",
        epilog="example: fib specs fiberpo > mine.fib",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="print this spec")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    specs = shipped_specs()
    if options.name is None:
        width = max(map(len, specs))
        for name in specs:
            print(f"{name:{width}}  {load(specs[name]).doc}")
        return 0
    if options.name not in specs:
        raise ValueError(f"no shipped spec '{options.name}'; {nearest(options.name, specs)}")
    print(specs[options.name].read_text(encoding="utf-8"), end="")
    return 0
