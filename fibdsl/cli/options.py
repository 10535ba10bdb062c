"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

from fibdsl.api import loaded, read_source
from fibdsl.objective import Objective
from fibdsl.parameters import Assignment


def add_spec(command: argparse.ArgumentParser, step: bool = False) -> None:
    """One spec, and values for its parameters; with `step`, also the step of schedules."""
    command.add_argument("spec", metavar="SPEC", help="a .fib file, or the name of a shipped spec")
    command.add_argument(
        "--objective", metavar="NAME", help="which objective, where the file holds several"
    )
    add_values(command, step)


def add_values(command: argparse.ArgumentParser, step: bool = False) -> None:
    """Values for parameters."""
    values = command.add_argument_group("values of parameters, checked against their ranges")
    values.add_argument(
        "--set",
        metavar="PARAM=VALUE",
        action=_Values,
        default={},
        type=_assignment,
        help="a value for a parameter; once for each, and wins over --params",
    )
    values.add_argument(
        "--params",
        metavar="FILE.yaml",
        help="values and schedules by name, or by objective and name; see docs/language.md",
    )
    if step:
        values.add_argument(
            "--step",
            metavar="N",
            type=_step,
            help="the step of the schedules in --params (default: 0)",
        )


def assignment(options: argparse.Namespace) -> Assignment:
    """What the options of `add_values` set."""
    return Assignment(options.params, options.set)


def add_cells(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cell",
        metavar="KEY.NAME=ID",
        action="append",
        default=[],
        type=_cell,
        help="which id a cell has that the spec has a budget for by name; once for each name",
    )


def cells_of(options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """What `--cell` says, as `cells` of the Python interface.

    Raises:
        ValueError: a name comes twice.
    """
    found: dict[str, dict[str, int]] = {}
    for key, name, number in options.cell:
        if name in found.setdefault(key, {}):
            raise ValueError(f"--cell says twice which id {key}.{name} has")
        found[key][name] = number
    return found


def load_spec(options: argparse.Namespace, promises: bool = True) -> Objective:
    """The objective that the options of `add_spec` name; `promises` as in `load`."""
    source = read_source(options.spec)
    return loaded(source, options.objective, assignment(options), promises)


def load_at_step(options: argparse.Namespace) -> tuple[Objective, int | None]:
    """The objective, whatever it promises, and the step that its values are of, if they are of one.

    Raises:
        ValueError: a step without schedules.
    """
    objective = load_spec(options, promises=False)
    if options.step is not None:
        return objective.at_step(options.step), options.step
    return objective, 0 if objective.schedules else None


class _Values(argparse.Action):
    """Collects values by name, of which a second one would leave the first without effect."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, value = values
        given = getattr(namespace, self.dest)
        if name in given:
            parser.error(f"{option_string} gives {name} twice: {given[name]:g} and {value:g}")
        setattr(namespace, self.dest, {**given, name: value})


def _assignment(text: str) -> tuple[str, float]:
    name, equal, value = text.partition("=")
    try:
        if not (name.strip() and equal):
            raise ValueError
        return name.strip(), float(value)
    except ValueError:
        message = f"{text!r} is not of the form PARAM=NUMBER, as in --set epsilon=0.03"
        raise argparse.ArgumentTypeError(message) from None


def _step(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _cell(text: str) -> tuple[str, str, int]:
    cell, equal, value = text.partition("=")
    key, dot, name = cell.strip().partition(".")
    try:
        if not (key and dot and name and equal):
            raise ValueError
        return key, name, int(value)
    except ValueError:
        message = f"{text!r} is not of the form KEY.NAME=ID, as in --cell data_source.math=0"
        raise argparse.ArgumentTypeError(message) from None
