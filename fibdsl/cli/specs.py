"""`fib specs`: the shipped objectives."""

from __future__ import annotations

import argparse
import json
from itertools import groupby

from fibdsl.diagnostics.diagnostic import nearest
from fibdsl.resources import shipped_specs


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "specs",
        help="list the shipped objectives, or print one",
        description="Lists the shipped objectives with their sources, by what a token's term looks "
        "at; with a name, prints that spec, to start your own from.",
        epilog="example: fib specs fiberpo > mine.fib",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="print this spec")
    command.add_argument(
        "--markdown",
        action="store_true",
        help="print docs/objectives.md: formulas, properties, what a batch must bring",
    )
    command.add_argument(
        "--parity",
        metavar="FILE",
        help="with --markdown: how they compare with trainers, as `make trainers-test` records it",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.name is not None and options.markdown:
        raise ValueError("--markdown is about all of them; leave out the name")
    if options.parity is not None and not options.markdown:
        raise ValueError("--parity goes with --markdown")
    if options.name is not None:
        print(_text(options.name), end="")
    elif options.markdown:
        print(_page(options.parity), end="")
    else:
        print(_list())
    return 0


def _text(name: str) -> str:
    specs = shipped_specs()
    if name not in specs:
        raise ValueError(f"no shipped spec '{name}'; {nearest(name, specs)}")
    return specs[name].read_text(encoding="utf-8")


def _list() -> str:
    from fibdsl.shipped import shipped

    width = max(map(len, shipped_specs()))
    families = [
        "\n".join([family, *(f"  {o.name:{width}}  {o.objective.doc}" for o in members)])
        for family, members in groupby(shipped(), key=lambda o: o.family)
    ]
    return "\n\n".join(families)


def _page(parity: str | None) -> str:
    from fibdsl.objectives_page import page
    from fibdsl.shipped import shipped

    results = None
    if parity is not None:
        with open(parity, encoding="utf-8") as file:
            try:
                results = json.load(file)
            except ValueError as error:
                raise ValueError(f"{parity}: {error}") from None
        if not (isinstance(results, dict) and {"versions", "cases"} <= results.keys()):
            raise ValueError(f"{parity}: no record of parity with trainers")
    return page(shipped(), results)
