"""Gates as they are written: which one it is, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fibc.gates.rule import GateRule
from fibc.ir.expression import Const, Input
from fibc.resolve.names import Names
from fibc.resolved import ResolvedGate
from fibdsl.builtins import MODIFIERS
from fibdsl.syntax import ast
from fibdsl.types import TOKEN


def gate_after(statement: ast.SignalStatement, names: Names) -> ResolvedGate | None:
    """The gate after which signals are aggregated."""
    if statement.after is None:
        return None
    known = names.gates.rules.get(statement.after.name.text)
    if known is not None and known.neighbours:
        names.diagnostics.add(
            "FIB401",
            f"`{known.name}` looks at whole cells, and `after` gates each token by itself",
            statement.after.span,
            "let it be the gate of a level",
        )
        return None
    return resolved_gate(TOKEN, "base", statement.after, statement.modifiers, [TOKEN], names)


def resolved_gate(
    level: str,
    role: Literal["base", "fiber"],
    gate: ast.Gate,
    modifiers: tuple[ast.Name, ...],
    chain: Sequence[str],
    names: Names,
) -> ResolvedGate | None:
    """A gate as it is written: its rule and what it is given; None where its rule is not known.

    Args:
        chain: the levels, fine to coarse, of which one may be its `over`.
    """
    pessimistic = False
    for modifier in modifiers:
        if names.word(modifier, MODIFIERS, "modifier", "FIB102"):
            if pessimistic:
                names.diagnostics.add(
                    "FIB103", "a second `pessimistic`", modifier.span, "delete it"
                )
            pessimistic = True
    rule = names.rule(gate.name)
    if rule is None:
        return None
    if pessimistic and [case.value for case in rule.cases] in ([Input(0)], [Const(0.0)]):
        names.diagnostics.add(
            "FIB401",
            f"`pessimistic` has no effect on `{rule.name}`, which has no bound",
            modifiers[0].span,
            "delete it",
        )
    positional: list[ast.Argument] = []
    named: dict[str, ast.NamedArgument] = {}
    over: str | None = None
    complete = True
    for argument in gate.arguments:
        match argument:
            case ast.Argument():
                positional.append(argument)
            case ast.NamedArgument():
                complete = _take(rule, argument, named, names) and complete
            case ast.Over() if over is not None:
                names.diagnostics.add("FIB103", "a second `over`", argument.span, "delete it")
            case ast.Over():
                over = _over(rule, argument, level, chain, names)
                complete = over is not None and complete
    return ResolvedGate(
        rule, role, tuple(positional), named, over, pessimistic, gate.span, gate.span, complete
    )


def _take(
    rule: GateRule,
    argument: ast.NamedArgument,
    named: dict[str, ast.NamedArgument],
    names: Names,
) -> bool:
    """Takes an argument that is given by its name; False if there is no such."""
    name = argument.name.text
    plain = [p.name for p in rule.parameters if p.space is not None]
    if name in rule.budgets:
        names.diagnostics.add(
            "FIB401",
            f"`{name}` of `{rule.name}` is a budget, which is given by its place",
            argument.span,
            f"write {rule.usage}",
        )
    elif not plain:
        k = "; only `rollback` has a steepness `k`" if name == "k" else ""
        names.diagnostics.add(
            "FIB401", f"`{rule.name}` takes no `{name}`", argument.span, f"delete it{k}"
        )
    elif name in named:
        names.diagnostics.add("FIB103", f"a second `{name}`", argument.span, "delete it")
    elif names.word(argument.name, plain, "argument"):
        named[name] = argument
        return True
    return False


def _over(
    rule: GateRule, argument: ast.Over, level: str, chain: Sequence[str], names: Names
) -> str | None:
    """The level whose cells share the budget of a gate."""
    over = argument.level.text
    if not rule.neighbours:
        names.diagnostics.add(
            "FIB401",
            f"`{rule.name}` takes no `over`",
            argument.span,
            "only `censor` looks at the other members of a cell",
        )
        return None
    if not names.level(argument.level, chain):
        return None
    if chain.index(over) <= chain.index(level):
        names.diagnostics.add(
            "FIB208",
            f"`{over}` is not coarser than `{level}`",
            argument.level.span,
            "the budget is shared by the members of a coarser cell",
        )
    return over
