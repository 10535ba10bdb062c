"""The runtime (fibdsl/runtime) as part of a generated module: many files made one."""

from __future__ import annotations

import ast


class Bundle:
    """The runtime's files made one: their imports (not of each other), the rest, the names."""

    def __init__(self, sources: list[str]) -> None:
        imports: set[str] = set()
        bodies: list[str] = []
        self.names: set[str] = set()
        for source in sources:
            statements = ast.parse(source).body[1:]  # without the docstring
            last = 0
            for s in statements:
                if isinstance(s, ast.Import | ast.ImportFrom):
                    last = s.end_lineno or 0
                    self.names |= {alias.asname or alias.name for alias in s.names}
                    # `from fibdsl.runtime...`: the name is in this very module.
                    if not ast.unparse(s).startswith("from fibdsl."):
                        imports |= _single_imports(s)
                elif isinstance(s, ast.FunctionDef | ast.ClassDef):
                    self.names.add(s.name)
                elif isinstance(s, ast.Assign | ast.AnnAssign):
                    targets = s.targets if isinstance(s, ast.Assign) else [s.target]
                    self.names |= {t.id for t in targets if isinstance(t, ast.Name)}
            bodies.append("\n".join(source.splitlines()[last:]).strip("\n"))
        self.imports = "\n".join(sorted(imports, key=_import_order))
        self.body = "\n\n\n".join(bodies)


def _single_imports(statement: ast.Import | ast.ImportFrom) -> set[str]:
    """The statement as one line a name, so that files can share them."""
    singles: list[ast.stmt] = []
    for alias in statement.names:
        if isinstance(statement, ast.Import):
            singles.append(ast.Import([alias]))
        else:
            singles.append(ast.ImportFrom(statement.module, [alias], statement.level))
    return {ast.unparse(single) for single in singles}


def _import_order(line: str) -> tuple[bool, bool, str]:
    return "__future__" not in line, "torch" in line, line
