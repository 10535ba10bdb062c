"""The words of the type system: spaces of quantities, signals, channels, levels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Space(StrEnum):
    """What a number measures. Spaces never mix without an explicit conversion."""

    LOG = "log"
    """A log-ratio, in nats."""
    DEVIATION = "deviation"
    """A ratio minus one, r - 1."""
    RATIO = "ratio"
    """A probability ratio r, 1 meaning no change."""
    PURE = "pure"
    """A plain number: a factor, a count, a steepness."""


class Signal(StrEnum):
    """What the gates of an objective look at."""

    LOG_RATIO = "log_ratio"
    """x = log r; gated values are summed and exponentiated."""
    RATIO = "ratio"
    """x = r - 1; gated values are summed and added to 1."""

    @property
    def space(self) -> Space:
        return Space.LOG if self is Signal.LOG_RATIO else Space.DEVIATION


class Channels(StrEnum):
    """How positive and negative deviations meet in an aggregate."""

    NET = "net"
    """They cancel: one signed channel."""
    SPLIT = "split"
    """They do not: one channel for each sign, zero in the + channel (docs/semantics.md: l_i)."""


TOKEN = "token"
TRAJECTORY = "trajectory"
BATCH = "batch"
"""The root that `reduce` ends in: everything. Not a name a spec may declare."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the hierarchy: `token`, `trajectory` (a row), or cells named by a key.

    A key below `trajectory` is per token and counts within its trajectory; any other key is
    global. Without `trajectory` in the chain every key is per token and global.
    """

    name: str
    key: str | None = None
