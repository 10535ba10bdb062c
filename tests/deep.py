"""Tests that go on searching: a few of their cases always run, all of them with `-m deep`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def cases(values: Iterable[T], always: Callable[[int, T], bool] | int) -> list[Any]:
    """Parameters of a test: the first `always`, or those of which it says so, always run."""
    out = []
    for index, value in enumerate(values):
        kept = index < always if isinstance(always, int) else always(index, value)
        given = value if isinstance(value, tuple) else (value,)
        out.append(pytest.param(*given, marks=() if kept else pytest.mark.deep))
    return out
