"""The runtime's files made one."""

from __future__ import annotations

import ast
from collections import Counter

from fibdsl.resources import runtime_sources


def test_no_two_files_of_the_runtime_define_one_name() -> None:
    """In a generated module the later one would take the place of the other."""
    names = Counter[str]()
    for source in runtime_sources():
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                names[statement.name] += 1
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                )
                names.update(t.id for t in targets if isinstance(t, ast.Name))
    assert "Schedule" in names
    assert [name for name, count in names.items() if count > 1] == []
