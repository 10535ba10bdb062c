"""The steps of `reduce`: each over the cells of a level inside the one before, tokens last."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, cast

from fibc.resolve.names import Names
from fibc.resolved import ReduceStep
from fibdsl.builtins import REDUCTIONS
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, TRAJECTORY


def reduce_steps(
    statement: ast.Reduce, chain: Sequence[str], names: Names
) -> tuple[ReduceStep, ...]:
    """The steps, outermost first; none where one of them is wrong.

    Args:
        chain: the levels, fine to coarse.
    """
    # A row of the batch can always be named, also where the chain does not nest in it.
    known = chain if TRAJECTORY in chain else [*chain, TRAJECTORY]
    steps: list[ReduceStep] = []
    for step in statement.steps:
        good = names.word(step.reduction, REDUCTIONS, "reduction")
        if names.level(step.level, known) and good:
            reduction = cast(Literal["mean", "sum"], step.reduction.text)
            steps.append(ReduceStep(reduction, step.level.text))
    if len(steps) < len(statement.steps):
        return ()
    order = {name: rank for rank, name in enumerate(chain)}
    for (outer, inner), step in zip(itertools.pairwise(steps), statement.steps[1:], strict=False):
        nested = (
            inner.level == TOKEN != outer.level
            if TRAJECTORY not in order and TRAJECTORY in (outer.level, inner.level)
            else order[inner.level] < order[outer.level]
        )
        if not nested:
            names.diagnostics.add(
                "FIB206",
                f"`{inner.level}` does not nest in `{outer.level}`",
                step.level.span,
                "write the steps coarse to fine, each level inside the one before",
            )
            return ()
    if steps[-1].level != TOKEN:
        names.diagnostics.add(
            "FIB206",
            f"the last step is over `{steps[-1].level}`, but the objective is a sum of tokens",
            statement.steps[-1].level.span,
            "end with `mean over token`",
        )
    return tuple(steps)
