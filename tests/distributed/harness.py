"""Ranks on this machine: processes with a gloo group that run a function and report.

Processes come from a fork server that has imported torch once. They meet at a file, so that test
runs side by side cannot collide, and stay until all have reported, so that none ends an exchange of
another. What takes longer than the deadline is killed, and is a hang.
"""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
HUNG, DIED = "hung", "died"

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",
        "torch.distributed.fsdp",
        "torch.nn.parallel",
        "fibdsl.runtime.loss",
        "fibc.driver",
    ]
)


@dataclass(frozen=True)
class Outcome:
    """What one rank did: returned `value`, or ended with `error`, after `seconds`."""

    value: Any
    error: str | None
    seconds: float


def outcomes(
    ranks: int,
    function: Callable[..., Any],
    *arguments: Any,
    deadline: float = 120.0,
    patience: float = 60.0,
) -> list[Outcome]:
    """Runs `function(rank, *arguments)` on each rank of a new default process group.

    Args:
        function: of a module, so that processes can import it.
        deadline: seconds after which ranks that have not reported are killed.
        patience: the timeout of the group, in seconds.
    """
    with tempfile.TemporaryDirectory() as folder, _importable():
        ends, processes = [], []
        for rank in range(ranks):
            here, there = _CONTEXT.Pipe()
            process = _CONTEXT.Process(
                target=_rank,
                args=(there, f"{folder}/store", rank, ranks, patience, function, arguments),
                daemon=True,
            )
            process.start()
            there.close()
            ends.append(here)
            processes.append(process)
        try:
            return _reports(ends, time.monotonic() + deadline)
        finally:
            for process, end in zip(processes, ends, strict=True):
                end.close()  # lets a rank that has reported go
                process.join(0.2)
                process.kill()
                process.join()


def gathered(ranks: int, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What `function` returns on each rank, in order; fails the test if one has an error."""
    found = outcomes(ranks, function, *arguments, **options)
    errors = [f"rank {r}: {o.error}" for r, o in enumerate(found) if o.error]
    assert not errors, "\n".join(errors)
    return [outcome.value for outcome in found]


def _reports(ends: list[Connection], deadline: float) -> list[Outcome]:
    started = time.monotonic()
    found = [Outcome(None, HUNG, 0.0)] * len(ends)
    waiting = list(ends)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for end in wait(waiting, left):
            assert isinstance(end, Connection)
            waiting.remove(end)
            try:
                value, error = end.recv()
            except EOFError:
                value, error = None, DIED
            found[ends.index(end)] = Outcome(value, error, time.monotonic() - started)
    return found


def _rank(
    end: Connection,
    store: str,
    rank: int,
    ranks: int,
    patience: float,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    report: tuple[Any, str | None]
    try:
        dist.init_process_group(
            "gloo",
            store=torch._C._distributed_c10d.FileStore(store, ranks),
            rank=rank,
            world_size=ranks,
            timeout=datetime.timedelta(seconds=patience),
        )
        report = function(rank, *arguments), None
    except Exception as error:
        traceback.print_exc()
        report = None, f"{type(error).__name__}: {error}"
    end.send(report)
    with contextlib.suppress(EOFError):
        end.recv()


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Processes find the tests, behind what is installed: a wheel is tested, not the checkout."""
    sys.path.append(str(ROOT))
    try:
        yield
    finally:
        sys.path.pop()
