"""Training on several ranks, each with some rows of every prompt group, in micro-batches.

    torchrun --nproc-per-node 2 examples/distributed.py

The numbers are the same for 1, 2 and 4 processes, and those of one undivided call of the loss; the
last column is by how much the gradient differs where each micro-batch is gated by its own
aggregates. On a machine with a CUDA device for each process it runs on them, through nccl.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

from small_model import TIMEOUT, Step, Worker, report, rollouts, shard


@record
def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if "RANK" not in os.environ:
        print("run it by: torchrun --nproc-per-node 2 examples/distributed.py", file=sys.stderr)
        return 2
    local = int(os.environ["LOCAL_RANK"])
    if torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]):
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=TIMEOUT)
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo", timeout=TIMEOUT)
    steps, parameters = train(options, device)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    # Under gloo, a process that ends while something still holds the group can abort.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
    return 0 if rank > 0 or report(steps, parameters, ranks) else 1


def train(options: argparse.Namespace, device: torch.device) -> tuple[list[Step], torch.Tensor]:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rows = shard(rollouts(), rank, ranks)
    backend = "inductor" if options.compile else None
    worker = Worker(rows, device, fsdp=options.fsdp, backend=backend)
    steps = []
    for number in range(options.steps):
        if number == 1 and rank == ranks - 1 and options.fail:
            worker.fail(options.fail)
        steps.append(worker.step())
    return steps, worker.parameters()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps on the rollouts")
    parser.add_argument("--fsdp", action="store_true", help="FSDP2 (fully_shard) instead of DDP")
    parser.add_argument("--compile", action="store_true", help="compile the losses, a minute or so")
    parser.add_argument(
        "--fail",
        choices=["rows", "killed"],
        help="what the last rank does in its second step",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
