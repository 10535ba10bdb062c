"""Units of expressions: spaces with a power, so that x * x / C is a deviation where x and C are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fibdsl.builtins import TOKEN_WORDS
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.source import Span
from fibdsl.types import Space


@dataclass(frozen=True, slots=True)
class Unit:
    """A space and its power; pure numbers have the power 0.

    Attributes:
        space: one of `Space`, or "signal" in a gate for signals of any space.
    """

    space: str
    power: int = 1

    def __str__(self) -> str:
        if self.power == 0:
            return "pure number"
        what = "value in the signal's space" if self.space == "signal" else self.space
        match self.power:
            case 1:
                return what
            case 2:
                return f"{what} squared"
            case -1:
                return f"number per {what}"
            case power:
                return f"{what} to the power {power}"


PURE = Unit("pure", 0)
LOG, RATIO, DEVIATION = Unit("log"), Unit("ratio"), Unit("deviation")
SIGNAL = Unit("signal")

_NO_LOG = {
    **dict.fromkeys(("ratio", "gated_ratio"), RATIO),
    **dict.fromkeys(("prob", "old_prob", "advantage"), PURE),
}
TOKEN_UNITS = {name: _NO_LOG.get(name, LOG) for name in TOKEN_WORDS}
"""What is known of a token, and its unit."""


def unit_of(space: Space) -> Unit:
    return PURE if space is Space.PURE else Unit(space.value)


def same(
    what: str,
    units: Sequence[Unit | None],
    diagnostics: Diagnostics,
    span: Span,
    spans: Sequence[Span] | None = None,
) -> Unit | None:
    """The one unit of several, bare numbers aside. `spans` are theirs, where it is the first that
    differs that is to be shown.

    Raises:
        ReportedError: they are not one.
    """
    found: Unit | None = None
    for index, unit in enumerate(units):
        if found is None or unit is None or unit == found:
            found = unit if found is None else found
            continue
        raise diagnostics.bad(
            "FIB302",
            f"{what} puts a {found} and a {unit} together",
            span if spans is None else spans[index],
            conversion(unit, found),
        )
    return found


_CONVERSIONS = {
    (LOG, RATIO): "`exp` of a log-ratio is a ratio",
    (LOG, DEVIATION): "`exp(...) - 1` of a log-ratio is a deviation",
    (RATIO, LOG): "`log` of a ratio is a log-ratio",
    (RATIO, DEVIATION): "a ratio `- 1` is a deviation",
    (DEVIATION, RATIO): "`1 + x` and `1 - x` are ratios where x is a deviation",
    (DEVIATION, LOG): "`log(1 + ...)` of a deviation is a log-ratio",
}


def conversion(have: Unit, want: Unit) -> str:
    """A help text: how a quantity of one unit is made one of another."""
    if (have, want) in _CONVERSIONS:
        return _CONVERSIONS[have, want]
    if have.power == 0:
        return f"multiply the pure number with a {want}"
    if want.power == 0:
        return "divide it by a quantity of its own space"
    if have.space == want.space:
        return "multiply or divide by a quantity of that space, as in `x * x / C`"
    if "signal" in (have.space, want.space):
        return "say what is gated, as in `gate g(x : deviation)` or `gate g(x : log)`"
    return (
        "quantities add and compare within one space: convert one with `exp`, `log` or `- 1`, or "
        "divide it by a quantity of its own space"
    )
