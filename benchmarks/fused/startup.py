"""The first call in a new process, with nothing compiled before and with all of it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from benchmarks.fused import objectives

ROOT = Path(__file__).resolve().parents[2]
ROWS, LENGTH = 64, 512


class FirstCall(TypedDict):
    """Seconds: to the end of the first backward, and of the whole process."""

    cold: float
    cold_process: float
    warm: float
    warm_process: float


def first_call(
    name: str, threads: int, device: str, warm_runs: int, progress: Callable[[str], None]
) -> FirstCall:
    """Cold: an empty Inductor cache, once. Warm: the same cache in other processes, the median."""
    with tempfile.TemporaryDirectory() as cache:
        progress(f"first call of {name}, cold")
        cold = _process(name, threads, device, cache)
        warm = []
        for _ in range(warm_runs):
            progress(f"first call of {name}, warm")
            warm.append(_process(name, threads, device, cache))
    return {
        "cold": cold[0],
        "cold_process": cold[1],
        "warm": statistics.median(first for first, _ in warm),
        "warm_process": statistics.median(whole for _, whole in warm),
    }


class Ahead(TypedDict):
    """Seconds: to build a package, then in a new process to load it and have its first gradient,
    and of that whole process."""

    build: float
    first: float
    process: float


def ahead_of_time(
    name: str, threads: int, device: str, runs: int, progress: Callable[[str], None]
) -> Ahead:
    """The same of a package that was compiled before, as by `fib compile --aot`."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "loss.pt2")
        progress(f"{name} ahead of time: building")
        start = time.perf_counter()
        objectives.load(name).export(package, device=device)
        build = time.perf_counter() - start
        found = []
        for _ in range(runs):
            progress(f"{name} ahead of time: first call")
            found.append(_process(str(package), threads, device, folder))
    return {
        "build": build,
        "first": statistics.median(first for first, _ in found),
        "process": statistics.median(whole for _, whole in found),
    }


def _process(name: str, threads: int, device: str, cache: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.fused.first_call", name, str(ROWS), str(LENGTH)]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache}
    start = time.perf_counter()
    done = subprocess.run(
        [*command, str(threads), device],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    whole = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"the first call of {name} failed in a new process:\n{done.stderr}")
    return float(done.stdout.split()[-1]), whole
