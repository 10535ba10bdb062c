"""The same training with the workers as Ray actors, the way Ray-based trainers run them.

    pip install -c constraints.txt 'fibdsl[ray]'     # in a checkout: '.[ray]'
    python examples/ray_trainer.py --workers 2

The driver sends each actor its rows and gets metrics back. The actors make the process group
themselves, and what they exchange does not pass through Ray: a step is the one of distributed.py.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist

from small_model import TIMEOUT, Rows, Step, Worker, report, rollouts, shard


class Actor:
    """One worker, in a process that Ray starts."""

    def address(self) -> tuple[str, int]:
        """Where the ranks may meet, if this is the first of them."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def start(self, rank: int, ranks: int, meet: tuple[str, int], rows: Rows) -> None:
        cuda = torch.cuda.is_available()  # the device that Ray gave this actor, if it gave one
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR=meet[0], MASTER_PORT=str(meet[1])
        )
        dist.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
        torch.set_num_threads(1)
        self.worker = Worker(rows, torch.device("cuda" if cuda else "cpu"))

    def step(self) -> Step:
        return self.worker.step()

    def parameters(self) -> torch.Tensor:
        return self.worker.parameters()

    def fail(self, how: str) -> None:
        self.worker.fail(how)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        import ray
    except ModuleNotFoundError:
        print(
            "Ray is not installed: pip install -c constraints.txt '.[ray]' (in this checkout), or "
            "pip install 'ray>=2.41'",
            file=sys.stderr,
        )
        return 2
    gpus = int(torch.cuda.device_count() >= options.workers)
    ray.init(address="local", num_cpus=options.workers, include_dashboard=False)
    try:
        remote = ray.remote(num_cpus=1, num_gpus=gpus)(Actor)
        actors = [remote.remote() for _ in range(options.workers)]
        meet = ray.get(actors[0].address.remote())
        rows = rollouts()
        ray.get(
            [
                actor.start.remote(rank, len(actors), meet, shard(rows, rank, len(actors)))
                for rank, actor in enumerate(actors)
            ]
        )
        steps: list[Step] = []
        for number in range(options.steps):
            if number == 1 and options.fail:
                actors[-1].fail.remote(options.fail)
            said, errors = [], []
            # All of them: when one worker dies, the others only know that a connection closed.
            for running in [actor.step.remote() for actor in actors]:
                try:
                    said.append(ray.get(running))
                except ray.exceptions.RayError as error:
                    errors.append(str(error))
            if errors:
                print("a worker failed, and the run with it", *errors, sep="\n", file=sys.stderr)
                return 1
            steps.append(said[0])
        parameters = ray.get(actors[0].parameters.remote())
    except ray.exceptions.RayError as error:
        # Its text has the traceback of the worker.
        print(f"a worker failed, and the run with it\n{error}", file=sys.stderr)
        return 1
    finally:
        ray.shutdown()  # ends the actors, whatever they wait for
    return 0 if report(steps, parameters, options.workers) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="actors, each a rank")
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps on the rollouts")
    parser.add_argument(
        "--fail",
        choices=["rows", "killed"],
        help="what the last rank does in its second step",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
