"""Which ids the named cells of an objective have: what a caller says, checked. Needs no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

CellNames = Mapping[str, Mapping[str, int]]
"""Ids by key and name: `{"data_source": {"math": 0, "code": 7}}`."""

_LARGEST = 2**63


def cell_ids(
    objective: str, names: Mapping[str, Sequence[str]], cells: CellNames | None
) -> dict[str, tuple[int, ...]]:
    """The ids of the named cells, by key, in the order of the names.

    Args:
        objective: its name, for messages.
        names: the names it has budgets for, by key.
        cells: what the caller says. Keys may be left out, names of a key may not.

    Raises:
        ValueError: a key or name that the objective does not have, a name without an id, something
            that is no id, two names of one id.
    """
    found = {}
    for key, given in _mapping("cells", cells or {}).items():
        if not names:
            raise ValueError(f"cells has no effect: '{objective}' names no cell")
        if key not in names:
            raise ValueError(
                f"cells['{key}'] has no effect: '{objective}' names no cell by '{key}'"
                + _nearest(key, names)
            )
        found[key] = _of_key(objective, key, names[key], _mapping(f"cells['{key}']", given))
    return found


def _mapping(what: str, given: Any) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{what} is a {type(given).__name__}; cells has the ids of named cells by key and "
            "name, {'data_source': {'math': 0}}"
        )
    return given


def _of_key(
    objective: str, key: str, names: Sequence[str], given: Mapping[Any, Any]
) -> tuple[int, ...]:
    what = f"cells['{key}']"
    for name in given:
        if name not in names:
            raise ValueError(
                f"{what} has '{name}', and '{objective}' has no budget of that name"
                + _nearest(name, names)
            )
    named: dict[int, str] = {}
    for name in names:
        if name not in given:
            # Else its budget would silently have no effect.
            raise ValueError(
                f"{what} does not say which id '{name}' has; '{objective}' has budgets for "
                f"{', '.join(names)}"
            )
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{what}['{name}'] is {value!r}; ids are integers")
        number = int(value)
        if not -_LARGEST <= number < _LARGEST:
            raise ValueError(f"{what}['{name}'] = {number} is no int64, which ids are")
        if number in named:
            raise ValueError(f"{what} gives '{named[number]}' and '{name}' one id, {number}")
        named[number] = name
    return tuple(named)


def no_budgets(objective: str, level: str, levels: Iterable[str]) -> str:
    """What is wrong with budgets for a level that has none in the spec."""
    levels = list(levels)
    if not levels:
        return f"budgets has no effect: '{objective}' has no budgets per cell"
    return (
        f"budgets['{level}'] has no effect: '{objective}' has no budgets per cell at '{level}'"
        + _nearest(level, levels)
    )


def said_twice(level: str, key: str) -> str:
    """What is wrong where budgets are given by names and as they are."""
    return (
        f"the budgets of level '{level}' are given twice: by name, cells['{key}'], and as they "
        f"are, budgets['{level}']; leave one out"
    )


def not_said(objective: str, level: str, key: str, names: Sequence[str]) -> str:
    """What is wrong where they are not given at all."""
    ids = ", ".join(f"'{name}': ..." for name in names)
    return (
        f"'{objective}' has budgets for cells of level '{level}' by name: say which ids these "
        f"have in keys['{key}'], cells={{'{key}': {{{ids}}}}}, or give the budgets, "
        f"budgets={{'{level}': ...}}"
    )


def _nearest(word: object, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(str(word), names, 1, 0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(names) or 'none'}"
