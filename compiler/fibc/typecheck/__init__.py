"""Spaces, budgets and the shape of the hierarchy: what fits, and what is certainly positive."""

from __future__ import annotations

import itertools

from fibc.resolved import Resolved
from fibc.typecheck.cell_budgets import cell_budgets
from fibc.typecheck.gates import typed_gate
from fibc.typecheck.hierarchy import check_hierarchy
from fibc.typecheck.params import typed_params
from fibc.typecheck.promises import typed_promises
from fibc.typecheck.quantities import Quantities
from fibc.typecheck.reduce import reduce_steps
from fibc.typecheck.token_statements import token_statements
from fibc.typed import TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.syntax import ast
from fibdsl.types import TOKEN


def typecheck(spec: Resolved, diagnostics: Diagnostics) -> TypedObjective | None:
    """The typed objective, or None when there are errors (in `diagnostics`)."""
    params, ranges = typed_params(spec.params, diagnostics)
    quantities = Quantities(
        spec.params,
        ranges,
        # A param whose own range or space is wrong was reported; uses of it are not judged.
        silent=frozenset(
            p.name for p in spec.params.values() if not p.sound or p.name not in ranges
        ),
        lets=frozenset(s.name.text for s in spec.token if isinstance(s, ast.Let)),
        diagnostics=diagnostics,
    )
    names = [level.name for level in spec.levels]
    budgets = cell_budgets(spec, quantities)
    gates = {
        level: typed_gate(level, spec.gates[level], spec, quantities)
        for level in names
        if level in spec.gates
    }
    if spec.complete:
        check_hierarchy(spec, diagnostics)
    after = typed_gate(TOKEN, spec.after, spec, quantities, after=True) if spec.after else None
    token = token_statements(spec, quantities)
    steps = reduce_steps(spec, quantities)
    promises = typed_promises(spec.requires, quantities)
    if diagnostics.has_errors or not spec.complete:
        return None
    aggregates = {
        coarse: spec.aggregates.get(coarse, fine) for fine, coarse in itertools.pairwise(names)
    }
    return TypedObjective(
        spec.name,
        spec.doc,
        params,
        spec.signal,
        spec.channels,
        spec.levels,
        {level: gate for level, gate in gates.items() if gate is not None},
        aggregates,
        steps,
        promises,
        spec.span,
        spec.reduce_span,
        after,
        spec.summed,
        budgets,
        *token,
    )
