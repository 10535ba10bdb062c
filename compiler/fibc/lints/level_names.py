"""FIB610: levels in an order that their names contradict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import TRAJECTORY, Level

RULE = Rule(
    "FIB610",
    "level-names",
    "levels in an order that their names contradict",
    why="Each cell must lie in one coarser cell, so a coarser level may not have the finer key. A "
    "domain has many prompts: with the group above it, its cells are split and the first batch is "
    "refused, after the rollouts are paid for. Below the trajectory ids count within their "
    "row, so a group there is refused by nothing: each of its cells is one trajectory, and its "
    "gate sees no group.",
    example="""\
objective o {
  signal log_ratio split
  levels token < trajectory < domain by data_source < group by uid
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio split
  levels token < trajectory < group by uid < domain by data_source
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)

# By convention, fine to coarse. `task_id` is left out: it is a prompt to some, a domain to others.
_CONVENTION: tuple[tuple[str, ...], ...] = (
    ("turn", "turn_id", "step", "step_id", "segment", "segment_id", "expert", "expert_id"),
    (TRAJECTORY,),
    ("group", "group_id", "uid", "prompt", "prompt_id"),
    ("domain", "domain_id", "data_source", "dataset", "source", "task"),
)
_RANKS = {name: rank for rank, names in enumerate(_CONVENTION) for name in names}


@lint(RULE)
def level_names(facts: Facts) -> Iterator[Finding]:
    levels = facts.objective.levels
    known = [level for level in levels if _rank(level) is not None]
    for fine, coarse in itertools.pairwise(known):
        if _known_rank(fine) > _known_rank(coarse):
            yield Finding(
                facts.objective.span,
                _what_goes_wrong(fine, coarse),
                f"write `levels {' < '.join(_written(level) for level in _mended(levels))}`",
            )


def _rank(level: Level) -> int | None:
    """The place of a level by convention: its key says more about its cells than its name."""
    return _RANKS.get(level.key or "", _RANKS.get(level.name))


def _known_rank(level: Level) -> int:
    return _rank(level) or 0


def _what_goes_wrong(fine: Level, coarse: Level) -> str:
    if coarse.name == TRAJECTORY:
        return (
            f"`{fine.name}` stands below `trajectory`, where ids count within their trajectory: "
            f"each cell of `{fine.key}` is one whole trajectory"
        )
    return (
        f"`{coarse.key}` splits the cells of `{fine.name}`, which stands below `{coarse.name}`: "
        f"one `{fine.key or fine.name}` has many of them"
    )


def _mended(levels: tuple[Level, ...]) -> list[Level]:
    """The levels whose place is known in their usual order, all others where they are."""
    ordered = iter(sorted((x for x in levels if _rank(x) is not None), key=_known_rank))
    return [level if _rank(level) is None else next(ordered) for level in levels]


def _written(level: Level) -> str:
    return f"{level.name} by {level.key}" if level.key else level.name
