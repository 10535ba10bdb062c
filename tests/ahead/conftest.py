"""Two packages, built once a test run."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import fibdsl
from fibdsl.cli.main import main
from tests.ahead.specs import DEEP

README = Path(__file__).resolve().parents[2] / "README.md"


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """The package, built by the first worker that wants it."""
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = folder / name
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            build(path)
    return path


@pytest.fixture(scope="session")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fiberpo_domain, padded float32, all metrics, by the command of the README."""
    [command] = re.findall(r"^fib (compile .*--aot.*)$", README.read_text(), re.MULTILINE)
    *arguments, name = shlex.split(command)
    assert name == "loss.pt2"

    def build(path: Path) -> None:
        assert main([*arguments, str(path)]) == 0

    return once(tmp_path_factory, "loss.pt2", build)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DEEP, packed float64, with a schedule that does not start at the default, and some of the
    metrics."""
    objective = fibdsl.load_text(DEEP, epsilon=fibdsl.schedules.linear(0.03, 0.05, 100))
    metrics = ["kl/k3", "drift/turn/plus", "tokens_clipped"]

    def build(path: Path) -> None:
        objective.export(path, layout="packed", dtype="float64", metrics=metrics)

    return once(tmp_path_factory, "deep.pt2", build)
