"""The form of `[tool.fibdsl]`, and what is wrong with one, with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from fibdsl.diagnostics.diagnostic import nearest
from fibdsl.diagnostics.render.formats import FORMATS
from fibdsl.diagnostics.render.report import FailOn
from fibdsl.settings import Settings, lint_code


def _format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"unknown format `{name}`; {nearest(name, FORMATS)}")
    return name


def _glob(text: str) -> str:
    if not text.strip("./*"):
        raise ValueError(f"`{text}` would exclude everything")
    return text


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=lambda name: name.replace("_", "-")
    )

    fail_on: Literal["error", "warning", "never"] | None = None
    output_format: Annotated[str, AfterValidator(_format)] | None = None
    ignore: list[Annotated[str, AfterValidator(lint_code)]] = []
    exclude: list[Annotated[str, AfterValidator(_glob)]] = []


_KEYS = [name.replace("_", "-") for name in _Table.model_fields]


def read(file: Path, text: str) -> Settings | None:
    """The settings in a pyproject.toml; None if it has no such table.

    Raises:
        ValueError: the file is no TOML, or the table has mistakes; says each with its line.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from None
    tool = content.get("tool")
    if not isinstance(tool, Mapping) or "fibdsl" not in tool:
        return None
    try:
        table = _Table.model_validate(tool["fibdsl"])
    except ValidationError as error:
        problems = [
            f"{file}:{_line(text, problem['loc'], tool['fibdsl'])}: {_said(problem)}"
            for problem in error.errors()
        ]
        raise ValueError("\n".join(problems)) from None
    return Settings(
        file.parent,
        None if table.fail_on is None else FailOn(table.fail_on),
        table.output_format,
        tuple(table.ignore),
        tuple(table.exclude),
    )


def _said(problem: Mapping[str, Any]) -> str:
    """What is wrong with one entry, in our words where there are better ones than pydantic's."""
    loc = problem["loc"]
    if not loc:
        return "[tool.fibdsl] is not a table"
    key = str(loc[0])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting `{key}`; {nearest(key, _KEYS)}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    if problem["type"] == "literal_error":
        return f"{key}: unknown word `{problem['input']}`; {nearest(str(problem['input']), FailOn)}"
    place = f"{key}, entry {loc[1] + 1}" if len(loc) > 1 and isinstance(loc[1], int) else key
    message = problem["msg"].removeprefix("Input should be ")
    return f"{place}: should be {message}, and is {problem['input']!r}"


def _line(text: str, loc: Sequence[str | int], table: object) -> int:
    """The line of an entry, which tomllib does not tell: the first one after the table's head, or
    with the table's name, that starts with the key; for an item of a list, the first from there on
    that has the item."""
    lines = text.split("\n")
    head = _first(lines, 0, r"""\s*\[?\s*(tool\s*\.\s*)?["']?fibdsl\b""")
    if not loc:
        return head + 1
    key = re.escape(str(loc[0]))
    line = _first(lines, head, rf"""[\w\s."']*(?<![\w-])["']?{key}["']?\s*=|.*[{{,]\s*{key}\s*=""")
    if len(loc) > 1 and isinstance(table, Mapping) and isinstance(loc[1], int):
        item = table[loc[0]][loc[1]]
        return _first(lines, line, rf".*(?<!\w){re.escape(str(item))}(?!\w)") + 1
    return line + 1


def _first(lines: Sequence[str], start: int, pattern: str) -> int:
    """The index of the first line from `start` that begins with the pattern, else `start`."""
    numbers: Iterable[int] = range(start, len(lines))
    return next((n for n in numbers if re.match(pattern, lines[n])), start)
