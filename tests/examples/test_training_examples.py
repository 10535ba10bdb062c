"""The distributed examples run, agree with one undivided call, and end when a worker fails."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.slow

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (pip install '.[ray]')"
)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    # The examples import a module that lies beside them.
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def torchrun(processes: int, *options: str) -> subprocess.CompletedProcess[str]:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    return run(*launcher, str(EXAMPLES / "distributed.py"), *options)


def ray(*options: str) -> subprocess.CompletedProcess[str]:
    return run(str(EXAMPLES / "ray_trainer.py"), *options)


def agrees(done: subprocess.CompletedProcess[str], processes: int) -> list[tuple[str, ...]]:
    """The steps of a run that says it agrees: number, loss, gradient norm, share clipped."""
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^ +(\d) +(-?\d\.\d{10}) +(\d\.\d{10}) +(\d\.\d{3}) +(\S+)$", done.stdout, re.MULTILINE
    )
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    # On the first step every gate is the identity, so that even the naive way is right.
    naive = [float(row[-1]) for row in rows]
    assert naive[0] < 1e-12
    assert min(naive[1:]) > 0.1
    [line] = re.findall(rf"^{processes} processes of [2-9] micro-batches, .*", done.stdout, re.M)
    errors = [float(text) for text in re.findall(r"\d\.\de[-+]\d\d", line)]
    assert len(errors) == 3
    assert max(errors) < 1e-12
    return [row[:-1] for row in rows]


def test_any_number_of_processes_trains_alike() -> None:
    two, four = agrees(torchrun(2, "--fsdp"), 2), agrees(torchrun(4), 4)
    assert two == four


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("rows", "[rank0]: ValueError: rank 1: advantages has shape (48, 39)"),
        ("killed", "exitcode  : 7"),
    ],
)
def test_a_failing_rank_ends_the_run(how: str, said: str) -> None:
    done = torchrun(2, "--fail", how)
    assert done.returncode == 1
    assert said in done.stderr
    assert "against one undivided call" not in done.stdout


def test_without_torchrun_it_says_how() -> None:
    done = run(str(EXAMPLES / "distributed.py"))
    assert done.returncode == 2
    assert "torchrun --nproc-per-node 2" in done.stderr


@with_ray
def test_ray_actors_train_alike() -> None:
    agrees(ray("--workers", "2"), 2)


@with_ray
def test_a_failing_actor_ends_the_run() -> None:
    done = ray("--workers", "2", "--fail", "killed")
    assert done.returncode == 1
    assert "a worker failed, and the run with it" in done.stderr
    assert "The actor died" in done.stderr
    assert "against one undivided call" not in done.stdout


def test_without_ray_it_says_how_to_install_it() -> None:
    script = str(EXAMPLES / "ray_trainer.py")
    hidden = (
        "import runpy, sys; sys.modules['ray'] = None; sys.path.insert(0, sys.argv[1]); "
        "sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = run("-c", hidden, str(EXAMPLES), script)
    assert done.returncode == 2
    assert "pip install" in done.stderr
