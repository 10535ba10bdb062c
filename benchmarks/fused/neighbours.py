"""What else ran meanwhile. Threads that wait for each other at every loop are slowed many times by
one busy process beside them, and no median mends that: so it is measured and said."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat: user, nice, system, irq, softirq, and what the host took away."""

TOO_MUCH = 0.1
"""Cores in use by others from which on times are not to be judged by."""


class Neighbours:
    """From here to `cores()`."""

    def __init__(self) -> None:
        self._others, self._wall = _others(), time.perf_counter()

    def cores(self) -> float | None:
        """How many cores others kept busy on average; None where the system does not tell."""
        others = _others()
        if others is None or self._others is None:
            return None
        return max(0.0, others - self._others) / (time.perf_counter() - self._wall)


def _others() -> float | None:
    """Seconds that all cores were busy with other processes than this one and its children."""
    try:
        columns = _STAT.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return sum(int(columns[column]) for column in _BUSY) / ticks - mine
