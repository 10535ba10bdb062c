"""Options that several commands share."""

from __future__ import annotations

import argparse

from fibdsl.api import Objective, load


def add_spec(command: argparse.ArgumentParser) -> None:
    command.add_argument("spec", metavar="SPEC", help="a .fib file, or the name of a shipped spec")
    command.add_argument(
        "--objective", metavar="NAME", help="which objective, where the file holds several"
    )
    command.add_argument(
        "--set",
        metavar="PARAM=VALUE",
        action="append",
        default=[],
        type=_assignment,
        help="a value for a parameter, checked against its range; may be repeated",
    )


def load_spec(options: argparse.Namespace, promises: bool = True) -> Objective:
    """The objective that the options of `add_spec` name; `promises` as in `load`."""
    return load(
        options.spec, objective=options.objective, params=dict(options.set), promises=promises
    )


def _assignment(text: str) -> tuple[str, float]:
    name, equal, value = text.partition("=")
    try:
        if not (name.strip() and equal):
            raise ValueError
        return name.strip(), float(value)
    except ValueError:
        message = f"{text!r} is not of the form PARAM=NUMBER, as in --set epsilon=0.03"
        raise argparse.ArgumentTypeError(message) from None
