"""Memory of forward and gradient above the inputs, in bytes a place (padding counts as memory).

On a CPU the peak is taken from what torch's allocator reports to the profiler: exact, and no
matter whether the C library has pages left from earlier calls, which is what the size of the
process would show. It does not see memory that a kernel takes for itself. On a GPU it is the peak
of the caching allocator.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case


def saved(case: Case, batch: Batch) -> float | None:
    """Bytes a place that the forward keeps for the backward, without what the caller keeps."""
    if case.loss is None:
        return None
    own = (batch.logp, batch.old_logp, batch.advantages, batch.mask, batch.bool_mask)
    given = {_storage(tensor) for tensor in (*own, *batch.keys.values(), *batch.parents)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in given:
            kept[storage] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = case.loss(batch)
    del loss
    return sum(kept.values()) / batch.places


def peak(case: Case, batch: Batch) -> float:
    """The most bytes a place above the inputs at any time of a call, gradient included."""
    case.run(batch)
    if batch.logp.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case.run(batch)
        return (torch.cuda.max_memory_allocated() - before) / batch.places
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        case.run(batch)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        return highest(json.loads(trace.read_text(encoding="utf-8"))) / batch.places


def highest(trace: dict[str, Any]) -> int:
    """The peak of CPU allocations in a trace, above what was allocated at its beginning."""
    events = [e for e in trace["traceEvents"] if e.get("name") == "[memory]"]
    events = [e["args"] for e in sorted(events, key=lambda e: float(e["ts"]))]
    events = [e for e in events if e["Device Type"] == 0]
    if not events:
        return 0
    start = int(events[0]["Total Allocated"]) - int(events[0]["Bytes"])
    return max(int(e["Total Allocated"]) for e in events) - start


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
