"""FIB612: ratios written where deviations are meant."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.ir.scalar import references
from fibc.lints.lint import Finding, lint
from fibc.lints.written import as_ratio, text
from fibdsl.diagnostics.rules import Fix, Rule
from fibdsl.types import Signal

RULE = Rule(
    "FIB612",
    "ratio-as-deviation",
    "a pair of ratios taken as deviations",
    why="On `signal ratio` a budget is a deviation, r - 1. The pair 1.2, 0.8 then lets r run from "
    "0.2 to 2.2 and clips next to nothing; clip_low and clip_high of some trainers are ratios, and "
    "those of others deviations.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(+1.2, -0.8) pessimistic }
  reduce mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(+ratio(1.2), -ratio(0.8)) pessimistic }
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)

_MIRROR = 3
"""Of bounds around 1 neither is farther from it than this many times the other."""


@lint(RULE)
def ratio_as_deviation(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    if objective.signal is not Signal.RATIO:
        return
    for gate in objective.gates.values():
        if gate.budget is None or gate.budget.upper == gate.budget.lower:
            continue
        if as_ratio(gate.budget, 1) is not None or as_ratio(gate.budget, -1) is not None:
            continue
        bounds = (gate.budget.upper, gate.budget.lower)
        upper, lower = (facts.bounds(bound).high for bound in bounds)
        if not (1 < upper < 2 and 0.5 < lower < 1):
            continue
        above, below = upper - 1, 1 - lower
        if max(above, below) > _MIRROR * min(above, below):
            continue
        pair = f"+ratio({text(bounds[0], float(upper))}), -ratio({text(bounds[1], float(lower))})"
        declare = "declare them `: ratio` and " if any(map(references, bounds)) else ""
        yield Finding(
            gate.span,
            f"+{float(upper):g} and -{float(lower):g} are deviations here: r may be anything from "
            f"{float(below):g} to {float(1 + upper):g}",
            f"if they are ratios, {declare}write `{pair}`",
        )
