"""What ranks cost: collectives and bytes of a call, its time, and the cost model to 10,000 ranks.

    python benchmarks/scaling.py [--count] [--out FILE]

Three parts. *Counted*: every collective of a call, by wrapping torch.distributed and by counting
nodes of the compiled graph, asserted to be what the cost model says. *Measured*: the loss call with
and without a process group in the same processes, interleaved, each a barrier apart; a round is as
long as its slowest rank, and what is printed are medians; `all_reduce` is one of a single number.
*Computed*: the model beyond this machine. docs/scaling.md explains all three.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.multiprocessing.spawn import spawn

import fibdsl
from fibdsl.runtime.calls import Arguments

SPEC = "fiberpo_domain"
SHAPES = ((64, 512), (512, 2048))
COMPLETIONS = 8  # trajectories of a prompt
DOMAINS = 4


# --- the cost model ---------------------------------------------------------------------------


class Collective(NamedTuple):
    """One exchange of a call: which, how often, and the bytes of its result on each rank."""

    kind: str
    what: str
    times: int
    result: float


def _called(loss_fn: Any, tensors: Sequence[torch.Tensor], keys: dict[str, torch.Tensor]) -> Any:
    """A call before its graph runs: arguments checked, and agreed upon."""
    logp, old_logp, advantages, mask = tensors
    arguments = Arguments(logp, old_logp, advantages, mask, keys, None, None, {}, None)
    return loss_fn.calls.call(lambda: None, arguments)


def prelude(ranks: int) -> list[Collective]:
    """What is exchanged before the graph."""
    return [Collective("all_gather", "agreement on the arguments", 1, 8 * 7 * ranks)]


def numbering(ranks: int, ids: float, cells: Sequence[float]) -> list[Collective]:
    """What the graph exchanges to number the cells of shared levels.

    Args:
        ids: the most different ids that a rank has, of all shared levels together.
        cells: for each shared level, finest first, its cells on all ranks together.
    """
    return [
        Collective("all_gather", "numbers of ids", 1, 8 * ranks * len(cells)),
        Collective("all_gather", "ids", 1, 8 * ranks * ids),
        Collective("all_reduce", "coarser cells", 1, 8 * sum(cells[:-1])),
    ]


def sums(cells: float, metrics: int, width: int = 4) -> list[Collective]:
    """What else the graph of `fiberpo_domain` exchanges, with trajectories whole and `cells`
    groups."""
    return [
        Collective("all_reduce", "sums and counts of groups", 1, 3 * width * cells),
        Collective("all_reduce", "derivatives of groups", 1, 3 * width * cells),
        Collective("all_reduce", "loss, number of trajectories", 2, 2 * width),
        Collective("all_reduce", "metrics and mistakes", 1, (2 * metrics + 1) * width),
    ]


def seconds(collective: Collective, ranks: int, hop: float, bandwidth: float, tree: bool) -> float:
    """Of a ring, or (all_reduce only) of a tree, whose latency grows with log2 of the ranks."""
    if ranks == 1:
        return 0.0
    traffic = (ranks - 1) / ranks * collective.result / bandwidth
    if collective.kind == "all_gather":
        return collective.times * (ranks - 1) * hop + traffic
    hops = 2 * math.ceil(math.log2(ranks)) if tree else 2 * (ranks - 1)
    return collective.times * hops * hop + 2 * traffic


# --- batches ----------------------------------------------------------------------------------


def batch(rows: int, length: int, rank: int, ranks: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """This rank's rows of a batch whose groups are scattered over all ranks."""
    dice = torch.Generator().manual_seed(0)
    lengths = torch.randint(length // 4, length + 1, (rows,), generator=dice)
    uid = torch.arange(rows) // COMPLETIONS
    mine = torch.randperm(rows, generator=dice)[rank::ranks]
    own = torch.Generator().manual_seed(rank)
    shape = (len(mine), length)
    old = -torch.rand(shape, generator=own)
    logp = old + 0.05 * torch.randn(shape, generator=own)
    advantages = torch.randn(len(mine), 1, generator=own).expand(shape).contiguous()
    mask = torch.arange(length) < lengths[mine].unsqueeze(1)
    keys = {"uid": uid[mine] * 7919, "data_source": uid[mine] % DOMAINS}
    return [logp, old, advantages, mask], keys


# --- counted ----------------------------------------------------------------------------------


def counted(rank: int, ranks: int, out: str) -> None:
    """Collectives of a call, eagerly with their bytes, and as nodes of the compiled graph."""
    _start(rank, ranks, out)
    rows, length = 64, 32
    tensors, keys = batch(rows, length, rank, ranks)
    seen: list[tuple[str, int]] = []

    def wrapped(name: str, size: Callable[..., int]) -> Callable[..., Any]:
        original = getattr(dist, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, size(*args)))
            return original(*args, **kwargs)

        return call

    originals = dist.all_reduce, dist.all_gather
    most = torch.tensor(sum(len(torch.unique(keys[name])) for name in ("uid", "data_source")))
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    loss_fn = _loss(backend=None, group=True)
    dist.all_reduce = wrapped("all_reduce", lambda x, *_: x.nbytes)
    dist.all_gather = wrapped("all_gather", lambda parts, *_: sum(part.nbytes for part in parts))
    try:
        call = _called(loss_fn, tensors, keys)
        before = list(seen)
        seen.clear()
        loss_fn.graphs.run(call.graph, call.logp, call.given)
        inside = list(seen)
    finally:
        dist.all_reduce, dist.all_gather = originals
    groups = rows // COMPLETIONS
    model = prelude(ranks)
    assert _sums(before) == _model(model), (before, model)
    model = numbering(ranks, most.item(), [groups, DOMAINS])
    model += sums(groups, len(loss_fn.objective.metrics))
    assert _sums(inside) == _model(model), (inside, model)

    nodes: collections.Counter[str] = collections.Counter()

    def count(module: torch.fx.GraphModule, _: Any) -> Any:
        nodes.update(str(node.target) for node in module.graph.nodes)
        return module.forward

    _loss(backend=aot_autograd(fw_compiler=count), group=True)(*tensors, keys)
    found = sum(n for name, n in nodes.items() if "c10d_functional.all_" in name)
    assert found == len(inside), (found, len(inside))
    if rank == 0:
        said = {
            "prelude": [list(item) for item in before],
            "graph": [list(item) for item in inside],
            "metrics": len(loss_fn.objective.metrics),
        }
        Path(out, "counted.json").write_text(json.dumps(said), encoding="utf-8")
    _stop()


def _sums(seen: list[tuple[str, int]]) -> dict[str, tuple[int, float]]:
    out: dict[str, tuple[int, float]] = {}
    for kind, size in seen:
        n, total = out.get(kind, (0, 0.0))
        out[kind] = n + 1, total + size
    return out


def _model(collectives: list[Collective]) -> dict[str, tuple[int, float]]:
    out: dict[str, tuple[int, float]] = {}
    for kind, _, count, result in collectives:
        n, total = out.get(kind, (0, 0.0))
        out[kind] = n + count, total + result
    return out


# --- measured ---------------------------------------------------------------------------------


def measured(rank: int, ranks: int, out: str, rounds: int) -> None:
    """Milliseconds of the parts of a call, with and without the group."""
    _start(rank, ranks, out)
    alone, together = _loss(group=False), _loss(group=True)
    lines = []
    for rows, length in SHAPES:
        tensors, keys = batch(rows, length, rank, ranks)
        times: dict[str, list[float]] = collections.defaultdict(list)
        one = torch.zeros(1)
        for turn in range(rounds + 3):
            for name, loss_fn in (("alone", alone), ("group", together)):
                dist.barrier()
                start = time.perf_counter()
                call = _called(loss_fn, tensors, keys)
                middle = time.perf_counter()
                loss_fn.graphs.run(call.graph, call.logp, call.given)
                end = time.perf_counter()
                slowest = torch.tensor([middle - start, end - middle, end - start])
                dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
                if turn >= 3:
                    for part, value in zip(("prelude", "graph", "call"), slowest, strict=True):
                        times[f"{name} {part}"].append(value.item())
            dist.barrier()
            start = time.perf_counter()
            for _ in range(10):
                dist.all_reduce(one)
            times["all_reduce"].append((time.perf_counter() - start) / 10)
        medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        lines.append({"rows": rows, "length": length, "ranks": ranks, "ms": medians})
    if rank == 0:
        Path(out, f"measured{ranks}.json").write_text(json.dumps(lines), encoding="utf-8")
    _stop()


def _loss(group: bool, backend: Any = "inductor") -> Any:
    spec = fibdsl.load(SPEC)
    if not group:
        return spec.compile(backend=backend)
    return spec.compile(backend=backend, process_group=dist.group.WORLD, gradients="averaged")


def _start(rank: int, ranks: int, out: str) -> None:
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    torch.set_num_threads(1)
    meet = f"file://{out}/meet{ranks}"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=ranks)


def _stop() -> None:
    dist.barrier()
    dist.destroy_process_group()


# --- computed ---------------------------------------------------------------------------------


def computed(metrics: int, hop: float, bandwidth: float) -> list[dict[str, float]]:
    """The model: milliseconds of a step's exchanges, groups scattered as widely as they can be."""
    lines = []
    for rows, ranks in (
        (1_024, 8), (8_192, 64), (65_536, 512), (131_072, 1_024),
        (1_000_000, 1_024), (1_000_000, 10_000),
    ):  # fmt: skip
        groups = rows / COMPLETIONS
        own = min(math.ceil(rows / ranks), groups)
        ids = prelude(ranks) + numbering(ranks, own + DOMAINS, (groups, DOMAINS))
        line: dict[str, float] = {"rows": rows, "ranks": ranks, "groups": groups}
        for name, part in (("ids", ids), ("sums", sums(groups, metrics))):
            line[f"{name} MB"] = sum(c.result for c in part) / 1e6
            for way, tree in (("ring", False), ("tree", True)):
                spent = sum(seconds(c, ranks, hop, bandwidth, tree) for c in part)
                line[f"{name} ms, {way}"] = 1e3 * spent
        lines.append(line)
    return lines


def sorting(ids: int) -> float:
    """Milliseconds of sorting the gathered ids of 1M rows, which every rank does (measured)."""
    gathered = torch.randint(0, ids // COMPLETIONS, (ids,))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        torch.unique(gathered)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


# --- all --------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as out:
        spawn(counted, (2, out), 2)  # type: ignore[no-untyped-call]
        counts = json.loads(Path(out, "counted.json").read_text(encoding="utf-8"))
    print(f"counted: {len(counts['prelude'])} exchanges before the graph,", end=" ")
    print(f"{len(counts['graph'])} in it")
    if options.count:
        return 0
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as out:
        for ranks in (1, 2, 4):
            spawn(measured, (ranks, out, options.rounds), ranks)  # type: ignore[no-untyped-call]
            lines += json.loads(Path(out, f"measured{ranks}.json").read_text(encoding="utf-8"))
    print("\nmeasured, ms: without a group / with it")
    print(f"{'batch':>10}{'ranks':>7}{'prelude':>18}{'graph':>18}{'call':>18}{'all_reduce':>12}")
    for line in sorted(lines, key=lambda line: line["rows"]):
        ms = line["ms"]
        print(
            f"{line['rows']:>5}x{line['length']}{line['ranks']:>6}"
            + "".join(
                f"{ms[f'alone {part}']:>9.2f} /{ms[f'group {part}']:>7.2f}"
                for part in ("prelude", "graph", "call")
            )
            + f"{ms['all_reduce']:>12.3f}"
        )
    table = computed(counts["metrics"], options.hop * 1e-6, options.bandwidth * 1e9)
    print(f"\ncomputed, ms (ring / tree): {options.hop} us a hop, {options.bandwidth} GB/s a rank")
    print(f"{'rows':>10}{'ranks':>8}{'ids MB':>12}{'sums MB':>10}{'ids':>18}{'sums':>18}")
    for row in table:
        print(
            f"{row['rows']:>10,}{row['ranks']:>8,}"
            f"{row['ids MB']:>12.3f}{row['sums MB']:>10.3f}"
            + "".join(
                f"{row[f'{part} ms, ring']:>9.1f} /{row[f'{part} ms, tree']:>7.1f}"
                for part in ("ids", "sums")
            )
        )
    sort = sorting(1_000_000)
    print(f"\nmeasured: sorting the ids of 1M rows, once a shared level, {sort:.1f} ms")
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "spec": SPEC,
        "counted": counts,
        "measured": lines,
        "computed": {"hop_us": options.hop, "GB_s": options.bandwidth, "steps": table},
        "numbering_1M_ms": sort,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", action="store_true", help="only count, nothing else")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--hop", type=float, default=5.0, help="latency of a hop, microseconds")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="of a rank, GB/s")
    default = Path(__file__).parent / "results" / "scaling.json"
    parser.add_argument("--out", type=Path, default=default)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
