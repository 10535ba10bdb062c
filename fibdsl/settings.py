"""The settings of a project: `[tool.fibdsl]` in its pyproject.toml.

Most runs have none, and a check must start fast: the libraries that read and validate them are
imported only when there is such a table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fibdsl.diagnostics.catalogue import catalogue
from fibdsl.diagnostics.diagnostic import nearest
from fibdsl.diagnostics.render.report import FailOn
from fibdsl.diagnostics.rules import Severity


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project has settled; None where it has not.

    Attributes:
        folder: where its pyproject.toml is, which the globs are relative to.
        ignore: codes of lints that are not reported.
        exclude: globs of files and folders that a search of a folder leaves out.
    """

    folder: Path = Path()
    fail_on: FailOn | None = None
    output_format: str | None = None
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def excludes(self, file: Path) -> bool:
        """Whether a file, or a folder it is in, matches a glob of `exclude`.

        A glob without `/` matches a name anywhere, as `*_old.fib` or `build`; one with `/` the
        path from the settings' folder, where `**` stands for any number of folders.
        """
        if not self.exclude:
            return False
        whole, folder = file.resolve(), self.folder.resolve()
        if not whole.is_relative_to(folder):
            return False
        parts = whole.relative_to(folder).parts
        return any(_matches(glob, parts) for glob in self.exclude)


def project_settings(start: Path) -> Settings:
    """The settings of the nearest pyproject.toml with such a table, in `start` or above it.

    Raises:
        OSError: a pyproject.toml cannot be read.
        ValueError: it has mistakes; says each with its file and line.
    """
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if _MAY_HAVE_TABLE.search(text):
            from fibdsl.settings_table import read

            settings = read(file, text)
            if settings is not None:
                return settings
    return Settings()


def lint_code(code: str) -> str:
    """The code of a lint, as it is.

    Raises:
        ValueError: it is no lint's: errors cannot be ignored.
    """
    rules = catalogue()
    if code not in rules:
        raise ValueError(f"unknown lint `{code}`; {nearest(code, _lints())}")
    if rules[code].severity is Severity.ERROR:
        raise ValueError(f"{code} ({rules[code].name}) is an error; only lints can be ignored")
    return code


# `[tool.fibdsl]`, `[tool]` and `tool.fibdsl.ignore = ...`; what matches is read properly.
_MAY_HAVE_TABLE = re.compile(
    r"""^[ \t]*\[?[ \t]*(["']?)tool\1[ \t]*(\]|=|\.[ \t]*["']?fibdsl\b)""", re.MULTILINE
)


def _lints() -> list[str]:
    return [code for code, rule in catalogue().items() if rule.severity is Severity.WARNING]


def _matches(glob: str, path: Sequence[str]) -> bool:
    steps = [step for step in glob.split("/") if step not in ("", ".")]
    if steps[-1] == "**":
        steps = steps[:-1]  # everything below a folder is the folder
    if "/" not in glob.rstrip("/"):
        return any(fnmatchcase(name, steps[0]) for name in path)
    return any(_along(steps, path[:length]) for length in range(1, len(path) + 1))


def _along(steps: Sequence[str], path: Sequence[str]) -> bool:
    """Whether the steps of a glob are the names of a whole path."""
    if not steps:
        return not path
    if steps[0] == "**":
        return any(_along(steps[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], steps[0]) and _along(steps[1:], path[1:])
