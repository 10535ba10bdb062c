"""The same through Inductor, on two ranks: one graph, exchanges inside it, float64 and float32."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
import torch.distributed as dist
from torch._inductor.compile_fx import compile_fx, compile_fx_inner

import fibdsl
from tests import deep
from tests.compiled.cases import Result, random_case, reference
from tests.distributed.harness import gathered
from tests.distributed.splits import called, dealt, in_micro_batches, in_pieces, take

TURNS = """objective turns {
  signal log_ratio split
  levels token < turn by turn_id < trajectory
  at trajectory { base  rollback(0.05, k = 2) aggregate mean over token }
  at turn       { fiber clip(0.04) }
  at token      { fiber clip(0.03) }
  reduce mean over trajectory, mean over turn, mean over token
}"""
SHAPES = ((9, 12), (4, 1), (2, 30), (16, 16))


def objective_of(spec: str) -> Any:
    return fibdsl.load_text(TURNS) if spec == "turns" else fibdsl.load(spec)


def batches(pieces: bool, dtype: torch.dtype) -> Any:
    """Batches of several sizes, and the rows of two ranks: the last batch is on one rank alone."""
    rng = random.Random(1)
    for seed, (rows, width) in enumerate(SHAPES):
        whole = random_case(rows, width, seed)
        if pieces:
            whole, _ = in_pieces(whole, rng)
        # What float32 holds, so that the reference sees the same batch.
        whole = whole.to(dtype)
        count = whole.mask.shape[0]
        owned = dealt(count, 2, rng, idle=0.0)
        if seed == len(SHAPES) - 1:
            owned = [torch.arange(count), torch.arange(0)]
        yield whole, owned


def compiled_answers(
    rank: int, spec: str, layout: str, pieces: bool, dtype: torch.dtype
) -> tuple[list[tuple[Result, Result]], int, list[str]]:
    """Calls and micro-batches of every batch, the graphs compiled, and the exchanges in them."""
    torch._inductor.config.compile_threads = 1
    # A graph from the cache would not be seen.
    torch._functorch.config.enable_autograd_cache = False
    graphs = 0
    exchanges: list[str] = []

    def inner(graph: torch.fx.GraphModule, *arguments: Any, **options: Any) -> Any:
        exchanges.extend(
            str(node.target) for node in graph.graph.nodes if "all_reduce" in str(node.target)
        )
        return compile_fx_inner(graph, *arguments, **options)

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return compile_fx(graph, inputs, inner_compile=inner)

    loss_fn = objective_of(spec).compile(
        backend=backend, process_group=dist.group.WORLD, gradients="summed"
    )
    answers = []
    for whole, owned in batches(pieces, dtype):
        own = take(whole, owned[rank])
        parts = list(torch.arange(len(owned[rank])).tensor_split(2))
        answers.append(
            (
                called(loss_fn, own, layout),
                in_micro_batches(loss_fn, own, layout, parts, own.logp),
            )
        )
    return answers, graphs, exchanges


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "layout", "pieces", "dtype"),
    deep.cases(
        [
            ("fiberpo_domain", "padded", False, torch.float64),
            ("turns", "packed", True, torch.float32),
            ("apc", "padded", False, torch.float32),
            ("ppo", "packed", False, torch.float64),
        ],
        1,
    ),
)
def test_one_compiled_graph_exchanges_inside(
    spec: str, layout: str, pieces: bool, dtype: torch.dtype
) -> None:
    answers = gathered(2, compiled_answers, spec, layout, pieces, dtype, deadline=300.0)
    exact = 1e-12 if dtype == torch.float64 else 2e-5
    for number, (whole, owned) in enumerate(batches(pieces, dtype)):
        expected = reference(objective_of(spec), whole)
        scale = max(np.abs(expected.gradient).max(), abs(expected.loss), 1e-3)
        for way in (0, 1):
            parts = [per_rank[0][number][way] for per_rank in answers]
            gradient = np.zeros_like(expected.gradient)
            for rows, part in zip(owned, parts, strict=True):
                gradient[rows.numpy()] = part.gradient
                if way == 0:
                    assert part.loss == pytest.approx(expected.loss, rel=exact, abs=exact)
                assert part.metrics == pytest.approx(expected.metrics, rel=exact, abs=exact)
            assert np.abs(gradient - expected.gradient).max() <= exact * scale
    for _, graphs, exchanges in answers:
        # Calls and `weigh`, all sizes, a rank without rows: one graph.
        assert graphs == 1
        # In the graph that Inductor gets: the tokens or cells that are counted, the loss, the
        # metrics; with shared cells, their statistics and adjoints.
        assert len(exchanges) >= 3
        assert exchanges == answers[0][2]
    print(f"{spec}: {len(answers[0][2])} exchanges a call")
