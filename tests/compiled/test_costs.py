"""What a call costs apart from time: graphs, breaks, bytes kept for the backward pass, and that it
gives the same bits again."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code

import fibdsl
from fibdsl.resources import shipped_specs
from tests import deep
from tests.compiled.cases import LAYOUTS, random_case


def arguments(
    rows: int, width: int, layout: str
) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    """A float32 batch as a call takes it, logp a leaf."""
    case = random_case(rows, width, seed=7).to(torch.float32)
    if layout == "padded":
        logp, *rest = case.tokens
        return (logp.clone().requires_grad_(), *rest), {"keys": case.keys}
    (logp, *rest), keys, cu, _ = case.packed()
    return (logp.clone().requires_grad_(), *rest), {"keys": keys, "cu_seqlens": cu}


@pytest.mark.parametrize(
    ("spec", "layout"),
    deep.cases(
        itertools.product(shipped_specs(), LAYOUTS), lambda index, _: index % 4 == index // 4 % 4
    ),
)
def test_the_gradient_is_all_that_is_kept(spec: str, layout: str) -> None:
    loss_fn = fibdsl.load(spec).compile(backend="aot_eager")
    kept: list[torch.Tensor] = []
    tensors, options = arguments(6, 40, layout)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_fn(*tensors, **options).loss.backward()
    assert sum(t.nbytes for t in kept) == tensors[0].nbytes


def test_no_metrics_no_work_for_them() -> None:
    """Operations of the graph: those of no metrics are a part of those of all."""
    counts = []
    for metrics in (None, ("kl/k1",), ()):
        nodes: list[str] = []

        def count(
            graph: torch.fx.GraphModule, _: Any, nodes: list[str] = nodes
        ) -> torch.fx.GraphModule:
            nodes += [str(node.target) for node in graph.graph.nodes]
            return graph

        backend = aot_autograd(fw_compiler=count)
        loss_fn = fibdsl.load("fiberpo_domain").compile(backend=backend, metrics=metrics)
        tensors, options = arguments(6, 40, "padded")
        assert list(loss_fn(*tensors, **options).metrics) == list(
            loss_fn.objective.metrics if metrics is None else metrics
        )
        counts.append(len(nodes))
    everything, one, nothing = counts
    assert nothing < one < nothing + 30 < everything


def test_unknown_metrics_are_refused() -> None:
    objective = fibdsl.load("fiberpo")
    with pytest.raises(ValueError, match=r"no metric 'kl/k2'.*'kl/k1'|no metric 'kl/k2'.*kl/k1"):
        objective.compile(metrics=["kl/k2"])
    with pytest.raises(ValueError, match=r"a list of names: metrics=\['kl/k1'\]"):
        objective.compile(metrics="kl/k1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "layout"),
    deep.cases(itertools.product(("fiberpo_domain", "apc"), LAYOUTS), lambda i, _: i in (1, 2)),
)
def test_the_same_call_gives_the_same_bits_in_one_graph_without_breaks(
    spec: str, layout: str
) -> None:
    """With threads that add up in turn: there are as many sums as make them meet."""
    counters.clear()
    loss_fn = fibdsl.load(spec).compile()
    tensors, options = arguments(2500, 60, layout)

    def call() -> list[torch.Tensor]:
        out = loss_fn(*tensors, **options)
        (gradient,) = torch.autograd.grad(out.loss, tensors[0])
        return [out.loss.detach(), gradient, *out.metrics.values()]

    first = call()
    for _ in range(12):
        assert all(map(torch.equal, call(), first))
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiny_first_batch_is_no_reason_for_serial_loops(layout: str) -> None:
    """Inductor decides for all later batches by the sizes that it compiles for."""
    loss_fn = fibdsl.load("ppo").compile(metrics=())
    tensors, options = arguments(3, 5, layout)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch._inductor.config.patch(force_disable_caches=True):
            _, [code] = run_and_get_code(lambda: loss_fn(*tensors, **options))
    finally:
        torch.set_num_threads(threads)
    assert "#pragma omp for" in code
