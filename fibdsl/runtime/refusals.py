"""Calls that would compute another objective than the one that is meant, refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from fibdsl.runtime.contract import Objective
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.sharing import in_pieces
from fibdsl.runtime.weights import Aggregates


def refuse_parts(
    objective: Objective,
    ranks: Ranks | None,
    normalizers: Mapping[str, Any] | None,
    whole_cells: bool,
    keys: Mapping[str, Tensor],
) -> None:
    """A part's own aggregates and counts make another objective of it, silently."""
    name, level = objective.name, objective.whole
    if ranks is not None:
        idle = "normalizers have" if normalizers else "whole_cells has" if whole_cells else ""
        if idle:
            raise ValueError(
                f"{idle} no effect with a process_group, whose ranks count together; cut a "
                "batch by `weigh`"
            )
        return
    if whole_cells:
        return
    if level is None and in_pieces(objective, keys):
        level = "trajectory"
    if normalizers and level is not None:
        raise ValueError(
            f"'{name}' looks at whole cells of level '{level}', and normalizers say that this "
            f"is a part of a batch: a part of a '{level}' would be taken for the whole. Weigh "
            f"the whole batch first (`weigh`), or say whole_cells=True if every '{level}' is "
            "in one part"
        )
    if not normalizers and _ranks_running() > 1:
        raise ValueError(
            f"torch.distributed runs {_ranks_running()} ranks, and '{name}' would be averaged "
            "over the rows of this one"
            + (f" and take its part of a '{level}' for the whole" if level else "")
            + ". Compile it with process_group=..., or say whole_cells=True (and the "
            "normalizers of the whole) if each rank's rows are a batch of their own"
        )


def refuse_aggregates(
    objective: Objective,
    aggregates: Aggregates,
    normalizers: Mapping[str, Any] | None,
    whole_cells: bool,
) -> None:
    """Aggregates of an earlier pass are for parts of the batch they are of."""
    if whole_cells:
        raise ValueError("whole_cells has no effect with aggregates, which no part cuts")
    if aggregates.semantic_hash != objective.semantic_hash:
        raise ValueError("these aggregates are of another objective")
    outermost = objective.outermost
    if outermost is not None and not normalizers:
        raise ValueError(
            f"aggregates of an earlier pass are for parts of a batch: give the number of "
            f"'{outermost}' cells of the whole, normalizers={{'{outermost}': ...}}"
        )


def _ranks_running() -> int:
    """How many ranks torch.distributed has in this process's default group; 1 without it."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()
