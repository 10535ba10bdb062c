"""Where numbers come from: the machine, and the settings of the C library's allocator.

The allocator decides half the time of a loss on a CPU: with glibc's defaults each large tensor is
mapped and given back anew, and its pages fault one by one. So the benchmark starts itself again
with settings that keep memory, and says so in its results.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TUNABLES = ":".join(
    (
        "glibc.malloc.mmap_threshold=4294967296",
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.top_pad=67108864",
    )
)


def restart_command(
    arguments: Sequence[str], environment: Mapping[str, str], libc: str
) -> tuple[list[str], dict[str, str]] | None:
    """The command and environment to start again with; None if there is no need to.

    A GLIBC_TUNABLES of the caller's own is left as it is.
    """
    if libc != "glibc" or "GLIBC_TUNABLES" in environment:
        return None
    command = [sys.executable, "-m", "benchmarks.fused", *arguments]
    return command, {**environment, "GLIBC_TUNABLES": TUNABLES}


def restart(arguments: Sequence[str]) -> None:
    """Replaces this process by one with the settings of the allocator, where that helps."""
    found = restart_command(arguments, os.environ, platform.libc_ver()[0])
    if found is not None:
        command, environment = found
        sys.stdout.flush()
        os.execve(command[0], command, environment)


def describe(threads: int, device: str) -> dict[str, Any]:
    """What the results file says of the machine."""
    import torch

    said: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "simd": torch.backends.cpu.get_cpu_capability(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "preloaded": os.environ.get("LD_PRELOAD"),
        "commit": _commit(),
    }
    if device != "cpu":
        said["gpu"] = torch.cuda.get_device_name(device)
        said["cuda"] = torch.version.cuda
    return said


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """The commit, with `+` where the checkout differs from it."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "fibdsl", "compiler", "specs", "benchmarks")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
