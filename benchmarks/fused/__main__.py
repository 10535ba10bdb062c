"""Runs the benchmark: `python -m benchmarks.fused`, or `make bench`."""

from __future__ import annotations

import os
import sys

from benchmarks.fused.machine import restart
from benchmarks.fused.options import parsed


def main() -> int:
    options = parsed(sys.argv[1:])
    restart(sys.argv[1:])
    # torch's profiler says on stderr when it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # Imported only now: torch takes seconds, and --help and a restart need none of it.
    from benchmarks.fused.run import run

    return run(options)


if __name__ == "__main__":
    raise SystemExit(main())
