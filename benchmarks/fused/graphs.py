"""How many graphs torch.compile makes of a loss over batches of many sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypedDict

import torch
from torch._dynamo.utils import counters

from benchmarks.fused import batches, objectives
from benchmarks.fused.batches import Batch

SIZES = ((8, 32), (64, 512), (32, 32), (2, 2), (7, 33), (16, 5000), (130, 3))
"""Rows and lengths: equal ones, small ones, ones beyond where Inductor splits a sum."""


class Graphs(TypedDict):
    """Graphs after batches of two rows and more, after one row or one token too, and breaks."""

    several_rows: int
    one_row_too: int
    breaks: int


def count(name: str, device: str, progress: Callable[[str], None]) -> Graphs:
    """Counts the graphs of a fresh loss module over batches of all sizes and cell counts."""
    return of_module(objectives.compiled(name), device, lambda size: progress(f"{name}: {size}"))


def of_module(module: Any, device: str, progress: Callable[[str], None]) -> Graphs:
    counters.clear()
    loss = objectives.called(module)
    found = []
    for sizes in (SIZES, ((1, 32), (1, 1), (5, 1))):
        for rows, length in sizes:
            progress(f"counting graphs, {rows}x{length}")
            for batch in _cell_counts(batches.padded(rows, length, device)):
                loss(batch).backward()  # type: ignore[no-untyped-call]
        found.append(int(counters["stats"]["unique_graphs"]))
    breaks = sum(counters["graph_break"].values())
    return {"several_rows": found[0], "one_row_too": found[1], "breaks": breaks}


def _cell_counts(batch: Batch) -> list[Batch]:
    """The batch with its own cells, with all rows in one, and each in its own."""
    one = {key: torch.zeros_like(ids) for key, ids in batch.keys.items()}
    rows = torch.arange(batch.rows, device=batch.logp.device)
    own = {key: rows if ids.dim() == 1 else ids for key, ids in batch.keys.items()}
    return [batch, replace(batch, keys=one), replace(batch, keys=own)]
