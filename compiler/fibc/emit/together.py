"""Sums that go the same way go together.

Sums into the cells of one level that could be made at the same time are one operation on several
values: one look at the parents of the cells, and over several ranks one exchange.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from fibc.emit import syntax as py

# What a level sums by, and what it sums several values by.
_SEVERAL = {"sum": "sums", "collect": "collects"}


def together(statements: Iterable[ast.stmt]) -> list[ast.stmt]:
    """The same assignments in an order in which sums into one level stand side by side, as one."""
    pending: list[ast.Assign] = []
    for statement in statements:
        assert isinstance(statement, ast.Assign)
        pending.append(statement)
    unknown = {_target(s) for s in pending}
    ordered: list[ast.stmt] = []
    while pending:
        ready = [s for s in pending if not unknown & _names(s.value)]
        now = [s for s in ready if _way(s) is None]
        if now:
            ordered += now
        else:
            # Nothing but sums is left to do.
            way = _way(ready[0])
            now = [s for s in ready if _way(s) == way]
            ordered.append(_as_one(now))
        unknown -= {_target(s) for s in now}
        pending = [s for s in pending if s not in now]
    return ordered


def _way(statement: ast.Assign) -> tuple[str, str] | None:
    """The level and the kind of a sum; None of anything else."""
    match statement.value:
        case ast.Call(ast.Attribute(ast.Name(level), kind), [_]) if kind in _SEVERAL:
            return level, kind
        case _:
            return None


def _as_one(sums: list[ast.Assign]) -> ast.stmt:
    if len(sums) == 1:
        return sums[0]
    values = []
    for s in sums:
        assert isinstance(s.value, ast.Call)
        values.append(s.value.args[0])
    way = _way(sums[0])
    assert way is not None
    level, kind = way
    return py.assign([_target(s) for s in sums], py.method(py.name(level), _SEVERAL[kind], *values))


def _target(statement: ast.Assign) -> str:
    [target] = statement.targets
    assert isinstance(target, ast.Name)
    return target.id


def _names(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
