"""The shape of the hierarchy: which levels have a gate, and whether it is base or fiber."""

from __future__ import annotations

from fibc.resolved import Resolved
from fibdsl.diagnostics.diagnostic import Diagnostics


def check_hierarchy(spec: Resolved, diagnostics: Diagnostics) -> None:
    """Every level up to the coarsest gated one has a gate; that one is the base."""
    names = [level.name for level in spec.levels]
    gated = [name for name in names if name in spec.gates]
    if not gated:
        return
    coarsest = gated[-1]
    for name in names[: names.index(coarsest) + 1]:
        gate = spec.gates.get(name)
        if gate is None:
            diagnostics.add(
                "FIB205",
                f"level `{name}` has no gate, though `{coarsest}` above it has one",
                spec.gates[coarsest].span,
                f"add `at {name} {{ fiber pass }}` or `at {name} {{ fiber drop }}`",
            )
        elif (gate.role == "base") != (name == coarsest):
            wanted = "base" if name == coarsest else "fiber"
            why = (
                f"`{name}` is the coarsest gated level and has nothing to deviate from"
                if wanted == "base"
                else f"`{name}` deviates from the coarser gated level `{coarsest}`"
            )
            diagnostics.add("FIB204", why, gate.span, f"write `{wanted}` here")
