"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EPILOG = """
what is measured
  Forward and gradient with respect to logp, float32, every case once a round in random order;
  medians, and p20, the time that a fifth of the rounds was faster than. All other cases run
  between two calls of one, so a batch that would fit into a cache has mostly left it. `floor` is
  a loop that reads four float32 arrays and writes one: no loss is faster. `/ floor` and `/ PPO`
  (plain PPO under torch.compile) are medians of ratios within a round. GB/s is the floor's
  traffic over the time of a case. Then: memory, graphs, float32 error, first calls in new
  processes, `fib check`, and the goals with a verdict each: then met, first met, or missed.
  A table says so if other processes kept the cores busy meanwhile.

examples
  make bench                                   everything, about 8 minutes on two cores
  python -m benchmarks.fused --quick           a look: small sizes, few rounds
  python -m benchmarks.fused --sizes 512x2048 --objectives fiberpo_domain --no-startup
"""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        sizes: rows and length of padded batches.
        objectives: names of specs; None for one of each way to gate, and FiberPO of six levels.
        budget: seconds a case may take on a batch, unless it needs more for a few rounds.
    """

    sizes: tuple[tuple[int, int], ...]
    rounds: int
    objectives: tuple[str, ...] | None
    threads: int
    device: str
    out: Path
    startup: bool
    plot: bool
    quick: bool
    budget: float = 8.0


def parsed(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fused",
        description="How fast the compiled losses are, beside the limit of the machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="BxT,...",
        help="padded batches (default 64x512,512x2048,1024x8192, which the goals are about)",
    )
    parser.add_argument("--rounds", type=_positive, help="times each case is run (default 30)")
    parser.add_argument(
        "--objectives",
        type=lambda text: tuple(text.split(",")),
        metavar="NAME,...",
        help="specs to measure (default: all shipped ones, and FiberPO of six levels, fiberpo_6)",
    )
    parser.add_argument("--threads", type=_positive, default=2, help="of torch (default 2)")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, or auto (default: cuda where there is one)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path(__file__).resolve().parents[1] / "results",
        help="where fused.json and fused.svg go (default benchmarks/results)",
    )
    parser.add_argument(
        "--no-startup", action="store_true", help="skip first calls in new processes (a minute)"
    )
    parser.add_argument("--no-plot", action="store_true", help="write no picture")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="64x512 and 128x1024, 7 rounds, short rows: to see that it works, not to judge by",
    )
    found = parser.parse_args(arguments)
    full = ((64, 512), (512, 2048), (1024, 8192))
    return Options(
        sizes=found.sizes or (((64, 512), (128, 1024)) if found.quick else full),
        rounds=found.rounds or (7 if found.quick else 30),
        objectives=found.objectives,
        threads=found.threads,
        device=found.device,
        out=found.out,
        startup=not found.no_startup,
        plot=not found.no_plot,
        quick=found.quick,
    )


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    sizes = []
    for part in text.split(","):
        rows, cross, length = part.partition("x")
        if not (cross and rows.isdigit() and length.isdigit() and int(rows) and int(length)):
            raise argparse.ArgumentTypeError(f"{part!r} is not rows x length, such as 512x2048")
        sizes.append((int(rows), int(length)))
    return tuple(sizes)


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
