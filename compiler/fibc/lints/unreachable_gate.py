"""FIB604: a bound that no input can reach."""

from __future__ import annotations

from collections.abc import Iterator

from fibc.analysis.facts import Facts
from fibc.analysis.proofs.shape import shape
from fibc.ir import nodes as ir
from fibc.lints.lint import Finding, lint
from fibdsl.diagnostics.rules import Fix, Rule

RULE = Rule(
    "FIB604",
    "unreachable-gate",
    "a bound that no input can reach",
    why="The gate never acts on that side. A deviation r - 1 is above -1, so a lower bound of 1 or "
    "more bounds nothing; a ratio was probably meant, or a log-ratio.",
    example="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(+0.2, -1.5) }
  reduce mean over token
}
""",
    mended="""\
objective o {
  signal ratio
  levels token < trajectory
  at token { base clip(+0.2, -0.2) }
  reduce mean over token
}
""",
    fix=Fix.UNSAFE,
)


@lint(RULE)
def unreachable_gate(facts: Facts) -> Iterator[Finding]:
    objective = facts.objective
    reached: dict[tuple[str, int], set[str]] = {}
    for op in facts.program.ops:
        if isinstance(op, ir.Gate) and op.budget is None:
            for found in facts.ranges.parts[op.name]:
                if op.side in (None, found.sign):
                    at = reached.setdefault((op.level, found.sign), set())
                    at.add(found.part.piece.regime)
    for (level, sign), regimes in reached.items():
        gate = objective.gates[level]
        pieces = shape(gate.rule).pieces
        bound = (gate.budget.upper if sign > 0 else gate.budget.lower) if gate.budget else None
        # A bound of `inf` says itself that it is never reached.
        if bound is None or len(pieces) < 2 or facts.value(bound) == float("inf"):
            continue
        if regimes == {pieces[0].regime}:
            side = "upper" if sign > 0 else "lower"
            yield Finding(
                gate.span,
                f"no input reaches the {side} bound {facts.value(bound):g} of this gate",
                "a deviation r - 1 is above -1: make the bound smaller, or say `inf`",
            )
