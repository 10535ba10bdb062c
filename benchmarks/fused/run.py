"""The whole benchmark, one part after the other."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.fused import (
    accuracy,
    agreement,
    baselines,
    batches,
    check,
    goals,
    gpu,
    graphs,
    machine,
    memory,
    objectives,
    plot,
    report,
    startup,
    tables,
)
from benchmarks.fused.cases import Case
from benchmarks.fused.clock import Clock, DeviceClock, HostClock
from benchmarks.fused.document import Document
from benchmarks.fused.limits import Limits
from benchmarks.fused.objectives import BOOL_MASK, FOUR, TWO
from benchmarks.fused.options import Options


def run(options: Options) -> int:
    """Measures, prints, and writes `fused.json` and `fused.svg`."""
    chosen = list(options.objectives or objectives.measured())
    unknown = [name for name in chosen if name not in objectives.names()]
    if unknown:
        known = ", ".join(objectives.names())
        print(f"no objective {', '.join(unknown)}; there are: {known}", file=sys.stderr)
        return 2
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        print(f"--device {device}: torch finds no GPU here", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch._dynamo.config.recompile_limit = 64
    with tempfile.TemporaryDirectory() as folder:
        document = measured(options, chosen, device, Path(folder))
    document["goals"] = list(goals.judged(document))
    (options.out / "fused.json").write_text(as_json(document), "utf-8")
    print(report.text(document))
    if options.plot:
        (options.out / "fused.svg").write_text(plot.svg(document), "utf-8")
    return 0


def as_json(document: Document) -> str:
    """Indented, but with the times of a case on one line."""
    text = json.dumps(document, indent=1) + "\n"
    return re.sub(r"\[[\d\s.,e-]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text)


def measured(options: Options, chosen: Sequence[str], device: str, folder: Path) -> Document:
    """Everything but the verdicts."""
    said = Progress()
    clock: Clock = HostClock() if device == "cpu" else DeviceClock()
    runs = tables.Runs(options.rounds, options.budget, clock, said)
    document: Document = {
        "machine": machine.describe(options.threads, device),
        "options": {
            "sizes": [f"{rows}x{length}" for rows, length in options.sizes],
            "rounds": options.rounds,
            "quick": options.quick,
        },
    }
    document["graphs"] = {}
    for name in (TWO, FOUR):
        if name in chosen:
            document["graphs"][name] = graphs.count(name, device, said)

    two, four = objectives.budgets(TWO), objectives.budgets(FOUR)
    hand, specs = baselines.cases(two, four), objectives.cases(chosen)
    if device == "cpu":
        said("building the hand-written kernels")
        kernels = Limits(folder)
        limits = kernels.cases(two, four)
        said("comparing them with the specs")
        _verify(kernels, hand, specs)
    else:
        limits = [gpu.floor()]
    cases = [*limits, *hand, *specs]
    document["padded"] = {}
    for rows, length in options.sizes:
        said(f"padded {rows}x{length}")
        batch = batches.padded(rows, length, device)
        equal = batches.copies(batch, gpu.l2_bytes(device))
        document["padded"][f"{rows}x{length}"] = tables.padded(cases, equal, runs)

    said("packed")
    longest = 1024 if options.quick else 8192
    dense, twin = batches.packed(64 if options.quick else 256, 64, longest, device)
    # Not `apc`: its states need an id of every token. Baselines know padded batches only.
    wanted = [case for case in (*limits, *specs) if BOOL_MASK not in case.name]
    wanted = [case for case in wanted if case.name != "apc"]
    document["packed"] = tables.packed(
        wanted,
        [*wanted, *hand],
        batches.copies(dense, gpu.l2_bytes(device)),
        batches.copies(twin, gpu.l2_bytes(device)),
        runs,
    )
    if device != "cpu" and gpu.has_liger():
        said("Liger-Kernel")
        from_logits = batches.padded(*options.sizes[0], device)
        cases_of_logits = gpu.liger(objectives.compiled("grpo"))
        document["from_logits"] = tables.padded(cases_of_logits, [from_logits], runs)

    batch = batches.padded(*((64, 512) if options.quick else (512, 2048)), device)
    said("memory")
    document["memory"] = {
        case.name: {"saved": memory.saved(case, batch), "peak": memory.peak(case, batch)}
        for case in cases
        if case.name != tables.FLOOR
    }

    document["accuracy"] = {}
    for name in chosen:
        said(f"accuracy of {name}")
        length = 8192 if options.quick else 131072
        document["accuracy"][name] = accuracy.accuracy(name, 8, length, device)

    if options.startup:
        document["first_call"], document["ahead_of_time"] = {}, {}
        warm = 1 if options.quick else 3
        for name in (TWO, FOUR):
            if name in chosen:
                found_call = startup.first_call(name, options.threads, device, warm, said)
                document["first_call"][name] = found_call
                document["ahead_of_time"][name] = startup.ahead_of_time(
                    name, options.threads, device, warm, said
                )
    said("`fib check`")
    document["check"] = check.check_time(3 if options.quick else 15)
    return document


class Progress:
    """Says on stderr what is being done, with the time since the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self, what: str) -> None:
        print(f"[{time.perf_counter() - self._start:6.0f} s] {what}", file=sys.stderr, flush=True)


def _verify(kernels: Limits, hand: Sequence[Case], specs: Sequence[Case]) -> None:
    """What is written by hand against the specs: padded, with both masks, and packed."""
    batch = batches.padded(64, 512)
    dense, _ = batches.packed(16, 16, 256)
    compiled = {case.name: case.loss for case in specs}
    by_hand = {case.name: case.loss for case in hand}
    for name, words in ((TWO, "two levels by hand"), (FOUR, "four levels by hand")):
        loss, eager = compiled.get(name), by_hand[f"{words}, eager"]
        assert eager is not None
        if loss is None:  # not asked for
            loss = objectives.called(objectives.load(name).compile(backend=None))
        limits = objectives.budgets(name)
        wanted = agreement.of_autograd(loss)
        agreement.verify(
            batch,
            wanted,
            {
                f"{words}, C++": partial(_by_kernel, kernels, limits, "mask"),
                f"{words}, C++, bool mask": partial(_by_kernel, kernels, limits, "bool_mask"),
                f"{words}, eager": agreement.of_autograd(eager),
            },
        )
        packed = {f"{words}, C++, packed": partial(_by_kernel, kernels, limits, None)}
        agreement.verify(dense, wanted, packed)


def _by_kernel(
    kernels: Limits, limits: objectives.Budgets, mask: str | None, batch: batches.Batch
) -> tuple[float, torch.Tensor]:
    return kernels.fiberpo(batch, limits, None if mask is None else getattr(batch, mask))
