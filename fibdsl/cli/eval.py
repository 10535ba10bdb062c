"""`fib eval`: a spec on a batch, by the reference interpreter."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fibdsl.cli.options import add_cells, add_spec, cells_of, load_at_step
from fibdsl.diagnostics.render.full import render
from fibdsl.objective import Objective
from fibdsl.types import TRAJECTORY

_TOKENS = ("logp", "old_logp", "advantages", "mask")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "eval",
        help="evaluate a spec on a batch: loss, what each level did, gradient",
        description="Evaluates a spec on a batch of rollouts with the reference interpreter, in "
        "float64 and without torch: the loss, a table of what each level's gate did, and on "
        "request gated ratios and gradient.",
        epilog="A batch file (.safetensors or .npz) holds logp, old_logp, advantages, mask, "
        "(B, T) padded or (N,) packed with cu_seqlens, and the integer ids of each key the spec "
        "names, (B,) or token-shaped. Where the spec has budgets per cell, --cell says which ids "
        "its names have, or the file holds the budgets, budgets.LEVEL, (B,) or token-shaped. Other "
        "entries are not looked at. A spec that breaks a promise is evaluated all the same: the "
        "findings follow, and the exit code is 1; "
        "example: fib eval fiberpo --batch rollouts.safetensors",
    )
    add_spec(command, step=True)
    add_cells(command)
    command.add_argument("--batch", required=True, metavar="FILE", help="the batch file")
    command.add_argument(
        "--out",
        metavar="FILE",
        help="write gated_ratio and gradient (d loss / d logp), float64, shaped like logp",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fibc.batch import budget_entry
    from fibdsl.files import read_tensors, write_tensors
    from fibdsl.report import report, table

    # A witness shows a promise broken only if the spec that breaks it can be evaluated.
    objective, step = load_at_step(options)
    wanted = [*_TOKENS, *objective.tensors]
    entries = {budget_entry(level): level for level in objective.program.budgets}
    tensors = read_tensors(
        options.batch, [*wanted, *objective.keys], ["cu_seqlens", TRAJECTORY, *entries]
    )
    batch: dict[str, Any] = {name: tensors[name] for name in wanted}
    # Rows of equal `trajectory` are pieces of one.
    named = [*objective.keys, *(key for key in (TRAJECTORY,) if key in tensors)]
    batch["keys"] = {key: tensors[key] for key in named}
    batch["cu_seqlens"] = tensors.get("cu_seqlens")
    batch["budgets"] = {entries[name]: tensors[name] for name in entries if name in tensors}
    batch["cells"] = cells_of(options)
    _need_cells(objective, batch["cells"], batch["budgets"])
    evaluation = objective.evaluate(**batch)
    if options.out:
        write_tensors(
            options.out, {"gated_ratio": evaluation.gated_ratio, "gradient": evaluation.gradient}
        )
    result = report(objective, objective.batch(**batch).sizes, evaluation, step, batch["budgets"])
    print(result.model_dump_json(indent=2) if options.json else table(result))
    if objective.broken_promises:
        print(render(objective.broken_promises), file=sys.stderr)
        return 1
    return 0


def _need_cells(
    objective: Objective, cells: dict[str, dict[str, int]], given: dict[str, Any]
) -> None:
    """Says, in the words of the command, what is missing where nothing is said of named cells."""
    missing = [
        f"--cell {budget.key}.{name}=ID"
        for level, budget in objective.program.budgets.items()
        for name in budget.entries
        if budget.key not in cells and level not in given
    ]
    if missing:
        raise ValueError(
            f"{objective.name} has budgets for cells by name; say which ids they have: "
            + " ".join(missing)
        )
