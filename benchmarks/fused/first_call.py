"""Run in a new process: the first loss and gradient of an objective, timed.

    python -m benchmarks.fused.first_call NAME|PACKAGE ROWS LENGTH THREADS DEVICE

Prints the seconds from just before the module is made to the end of the first backward.
"""

from __future__ import annotations

import sys
import time

import torch

import fibdsl
from benchmarks.fused import batches, objectives


def main(name: str, rows: str, length: str, threads: str, device: str) -> None:
    torch.set_num_threads(int(threads))
    batch = batches.padded(int(rows), int(length), device)
    start = time.perf_counter()
    packaged = name.endswith(".pt2")
    module = fibdsl.load_compiled(name) if packaged else objectives.compiled(name)
    loss = objectives.called(module)(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    if device != "cpu":
        torch.cuda.synchronize()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
