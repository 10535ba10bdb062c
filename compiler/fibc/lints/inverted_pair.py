"""FIB611: a pessimistic pair whose upper bound is the tighter one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.interval import Real
from fibc.lints.lint import Finding, lint
from fibc.lints.written import Side, as_ratio, bound
from fibc.typed import Budget
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import Channels, Signal

RULE = Rule(
    "FIB611",
    "inverted-pair",
    "a pessimistic pair whose upper bound is tighter than its lower one",
    why="The upper bound holds the tokens of positive advantage, the lower one those of negative. "
    "With the upper one tighter, unlikely tokens that turned out well can hardly gain "
    "probability, and entropy collapses; DAPO raises the upper bound for that reason, to 0.28 over "
    "0.2 (arXiv 2503.14476, section 3.1). Most often the two were swapped.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(+0.2, -0.28) pessimistic }
  reduce mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(+0.28, -0.2) pessimistic }
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def inverted_pair(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    if objective.channels is not Channels.NET:
        return
    # A lower bound that no ratio can reach is none: such a pair is one-sided on purpose.
    unreachable = 1 if objective.signal is Signal.RATIO else math.inf
    for gate in objective.gates.values():
        if gate.budget is None or not gate.pessimistic or gate.budget.upper == gate.budget.lower:
            continue
        pairs = _pairs(facts, gate.budget)
        if facts.value(gate.budget.lower) < unreachable and all(up < low for up, low in pairs):
            upper, lower = map(float, pairs[0])
            yield Finding(
                gate.span,
                f"the upper bound is tighter than the lower one, {upper:g} against {lower:g}",
                "swap them; DAPO raises the upper bound, to 0.28 over 0.2",
            )


def _pairs(facts: Facts, budget: Budget) -> list[tuple[Real, Real]]:
    """The upper and the lower bound in each space that one of them is written in. 1.2 and 0.8 are
    symmetric as ratios, and their logarithms are not."""
    ratios = [as_ratio(budget, side) is not None for side in (1, -1)]
    pairs = []
    if not all(ratios):
        pairs.append((facts.bounds(budget.upper).high, facts.bounds(budget.lower).high))
    if any(ratios):
        pairs.append((_from_one(facts, budget, 1), _from_one(facts, budget, -1)))
    return pairs


def _from_one(facts: Facts, budget: Budget, side: Side) -> Real:
    """How far the ratio at a bound is from 1."""
    ratio = as_ratio(budget, side)
    if ratio is not None:
        return side * (facts.bounds(ratio).high - 1)
    value = facts.value(bound(budget, side))
    return value if facts.objective.signal is Signal.RATIO else side * math.expm1(side * value)
