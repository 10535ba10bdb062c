"""FIB605: nothing holds G from above where the advantage asks for more."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.shape import shape
from fibc.analysis.properties.bounded import what_bounds
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.diagnostic import Label
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB605",
    "unbounded",
    "G has no upper bound for advantages >= 0",
    why="Where the advantage is positive the objective grows with G, and the optimiser follows it "
    "without end: the ratio explodes. (For negative advantages PPO's clip leaves G open on "
    "purpose: see `require bounded` and dual clip, arXiv 1912.09729.)",
    example="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber pass }
  reduce mean over trajectory, mean over token
}
""",
    mended="""\
objective o {
  signal log_ratio split
  levels token < trajectory
  at trajectory { base  rollback(+0.2, -0.1) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def unbounded(facts: Facts) -> Iterator[Finding]:
    gates = facts.objective.gates
    # A censor is bounded by the size of its cell.
    if any(gate.rule.neighbours for gate in gates.values()):
        return
    if facts.ranges.factor[0].high == float("inf"):
        # Where nothing is gated by a statement of its own, there is none to point at.
        whole = facts.objective.span
        passing = [(n, g) for n, g in gates.items() if shape(g.rule).identity and g.span != whole]
        labels = tuple(Label(g.span, f"lets `{n}` through") for n, g in passing)
        mend, what = "give every level that matters a bound", what_bounds(facts)
        yield Finding(
            whole,
            f"{what} has no upper bound where the advantage is >= 0",
            mend if what == "G" else f"hold it by `min`, `clip` or `truncate`, or {mend}",
            labels,
        )
