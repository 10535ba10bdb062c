"""Names to things: statements that may stand once, levels as one chain, gates from the table."""

from __future__ import annotations

from fibc.link import Gates
from fibc.resolve.blocks import Blocks
from fibc.resolve.declarations import declared_params, declared_signal
from fibc.resolve.gates import gate_after
from fibc.resolve.levels import declared_levels
from fibc.resolve.names import Names
from fibc.resolve.reduce import reduce_steps
from fibc.resolve.statements import Statements
from fibc.resolved import Resolved, ResolvedGate
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.syntax import ast
from fibdsl.types import TOKEN, Space


def resolve(objective: ast.Objective, gates: Gates, diagnostics: Diagnostics) -> Resolved | None:
    """`objective` with its names resolved, or None when a statement it cannot do without is
    missing or unusable. Findings go to `diagnostics`."""
    statements = Statements(objective, diagnostics)
    names = Names(gates, diagnostics)
    name, span = objective.name.text, objective.name.span

    doc = statements.only(ast.Doc)
    signal_statement = statements.only(ast.SignalStatement, "signal log_ratio split")
    signal = declared_signal(signal_statement, names) if signal_statement else None
    usual = signal[0].space if signal else Space.PURE
    params = declared_params(statements.all(ast.Param), usual, names)
    levels_statement = statements.only(ast.Levels, "levels token < trajectory")
    levels = declared_levels(levels_statement, names) if levels_statement else None
    reduce_statement = statements.only(ast.Reduce, "reduce mean over token")
    after = gate_after(signal_statement, names) if signal_statement else None
    token = statements.token()
    at = statements.all(ast.At)
    # What a token adds may be said without a gate; G is then its ratio.
    if not at and not any(isinstance(s, ast.Surrogate) for s in token):
        diagnostics.add(
            "FIB105",
            f"objective `{name}` gates no level",
            span,
            "add one, for example `at token { base clip(0.2) pessimistic }`",
        )
    if levels is None:
        return None
    blocks = Blocks(levels, names)
    blocks.read(at)
    if not at:
        free = ResolvedGate(gates.rules["pass"], "base", (), {}, None, False, span, span)
        blocks.gates[TOKEN] = free
    written = reduce_statement.steps if reduce_statement else ()
    steps = reduce_steps(reduce_statement, blocks.chain, names) if reduce_statement else ()
    requires = tuple(
        r
        for r in statements.all(ast.Require)
        # A list: of two unknown levels both are reported.
        if all([names.level(level, blocks.chain) for level in (r.at, r.over) if level])  # noqa: C419
    )
    if signal is None:
        return None
    return Resolved(
        name=name,
        doc=doc.text if doc else "",
        params=params,
        signal=signal[0],
        channels=signal[1],
        levels=levels,
        gates=blocks.gates,
        aggregates=blocks.aggregates,
        summed=frozenset(blocks.summed),
        budgets=blocks.budgets,
        after=after,
        token=token,
        reduce=steps,
        divisors={i: step.divisor for i, step in enumerate(written) if step.divisor is not None},
        requires=requires,
        gate_names=frozenset(gates.rules),
        unknown_levels=frozenset(names.unknown_levels),
        span=span,
        reduce_span=reduce_statement.span if reduce_statement else span,
        complete=names.complete,
    )
