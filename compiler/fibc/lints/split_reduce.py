"""FIB609: a mean inside cells that a micro-batch does not hold whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.split import levels_in_a_row
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB609",
    "split-reduce",
    "`reduce` divides by the size of cells that micro-batches and ranks cut",
    why="Trainers scatter the rows of a group over micro-batches and ranks by length. A mean "
    "inside a group is then divided by the number of rows that happen to be there, so the loss "
    "depends on the split. (A gate at such a level is split too; `require split_invariant` says "
    "so.)",
    example="""\
objective o {
  signal ratio
  levels token < trajectory < group by uid
  at token { base clip(0.2) pessimistic }
  reduce mean over group, mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory < group by uid
  at token { base clip(0.2) pessimistic }
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def split_reduce(facts: Facts) -> Iterator[Finding]:
    rows = levels_in_a_row(facts.objective.level_names)
    for outer, inner in itertools.pairwise(facts.objective.reduce):
        if inner.reduction == "mean" and outer.level not in rows:
            yield Finding(
                facts.objective.reduce_span,
                f"the mean over `{inner.level}` divides by its number in a `{outer.level}`, of "
                "which a micro-batch holds a part",
                f"keep each `{outer.level}` in one call and allow this, or average over the batch",
            )
