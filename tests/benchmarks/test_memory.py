"""Memory and graphs, on losses whose numbers are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.fused import batches, graphs, memory
from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case, differentiated


def square(batch: Batch) -> Tensor:
    """Saves one array beside the inputs; at its peak holds it, its square or the gradients."""
    twice = batch.logp * 2
    return (twice * twice).sum()


def test_what_is_saved_is_counted_without_inputs_and_once() -> None:
    batch = batches.padded(64, 64)
    assert memory.saved(differentiated("square", square), batch) == pytest.approx(4, abs=0.01)
    product = differentiated("product", lambda b: (b.logp * b.advantages).sum())
    assert memory.saved(product, batch) == 0
    assert memory.saved(Case("by hand", square), batch) is None


def test_the_peak_is_the_gradient_at_least() -> None:
    batch = batches.padded(64, 64)
    plain = differentiated("sum", lambda b: b.logp.sum())
    # The gradient of a sum is one number, expanded, and made an array where it is kept.
    assert memory.peak(plain, batch) == pytest.approx(4, abs=0.1)
    assert 12 <= memory.peak(differentiated("square", square), batch) <= 16.1
    kernel = Case("by hand", lambda b: torch.empty(2 * b.places, dtype=torch.float32))
    assert memory.peak(kernel, batch) == pytest.approx(8, abs=0.1)


def test_the_highest_allocation_is_found_in_order_of_time() -> None:
    def event(ts: float, change: int, total: int, device: int = 0) -> dict[str, object]:
        args = {"Bytes": change, "Total Allocated": total, "Device Type": device}
        return {"name": "[memory]", "ts": ts, "args": args}

    trace = {
        "traceEvents": [
            event(3.0, -50, 1000),
            event(1.0, 10, 1010),
            event(2.0, 40, 1050),
            event(2.5, 999, 9999, device=1),
            {"name": "aten::add", "ts": 0.0, "args": {}},
        ]
    }
    assert memory.highest(trace) == 50
    assert memory.highest({"traceEvents": []}) == 0


@pytest.mark.slow
def test_graphs_are_counted() -> None:
    import fibdsl

    module = fibdsl.load("fiberpo").compile(backend="eager")
    found = graphs.of_module(module, "cpu", lambda _: None)
    assert found["breaks"] == 0
    assert 1 <= found["several_rows"] <= found["one_row_too"]
