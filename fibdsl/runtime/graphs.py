"""The compiled graphs of one loss module: which there are, and how they are run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.fx.experimental._config
from torch import Tensor

from fibdsl.runtime.checks import error_of, raise_for
from fibdsl.runtime.contract import Objective
from fibdsl.runtime.joint import Inputs, Outputs, Setup, joint
from fibdsl.runtime.layouts import BLOCK
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.sharing import Sharing

Backend = str | Callable[..., Any] | None
"""Of torch.compile: a name or a function; None runs the same code eagerly."""

_SIZES: Any = torch.fx.experimental._config


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Trainers call losses under autocast; sums must keep their precision all the same."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()


def any_size() -> contextlib.AbstractContextManager[None]:
    """One graph for all sizes: sizes that happen to be equal in one batch are not the same size,
    and no size is special (1, or above where float32 sums are split)."""
    return _with(_SIZES, use_duck_shape=False, backed_size_oblivious=True)


def unknown_sizes() -> contextlib.AbstractContextManager[None]:
    """Graphs may count what they are given: shared cells are as many as there are different ids."""
    return _with(
        torch._dynamo.config,
        capture_scalar_outputs=True,
        capture_dynamic_output_shape_ops=True,
    )


@contextlib.contextmanager
def _with(config: Any, **settings: bool) -> Iterator[None]:
    """Settings of torch, by hand: its own `patch` takes longer than the rest of a call."""
    before = {name: getattr(config, name) for name in settings}
    for name, value in settings.items():
        setattr(config, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def expect_large(logp: Tensor, given: Inputs) -> None:
    """Has the graph compiled for batches of this size, should the first one be smaller: on sizes
    that the compiler sees it decides, for all later ones too, whether loops are worth threads."""
    rows, width = 256, 1024
    tokens, lines = rows * width, {0: rows, 1: width}
    arrays = (logp, given.old_logp, given.advantages, given.mask, *given.tensors.values())
    ids = (*given.ids.values(), *given.budgets.given.values())
    sizes = [(t, lines) for t in (*arrays, *ids)]
    if given.layout is not None:
        blocks = {0: tokens // BLOCK + rows}
        sizes = [(t, {0: tokens}) for t in (*arrays, given.layout.position)]
        sizes += [(t, blocks) for t in given.layout[:4]]
        sizes += [(t, {0: rows} if t.dim() == 1 else blocks) for t in ids]
        sizes.append((given.layout.cu_seqlens, {0: rows + 1}))
    for tensor, hints in sizes:
        for dim, size in hints.items():
            if dim < tensor.dim() and tensor.shape[dim] < size:
                torch._dynamo.mark_dynamic(tensor, dim, hint_override=size)


class Graph(NamedTuple):
    """What graphs are told apart by: each is compiled once, for all sizes of a number type.

    Attributes:
        budgets: the levels whose budgets are given as they are.
    """

    sharing: Sharing
    keep: bool
    earlier: bool
    budgets: tuple[str, ...]


class Graphs:
    """The graphs of a loss module, each compiled when it is first needed.

    Args:
        wanted: the names of the metrics to compute, by the level they are a mean over.
    """

    def __init__(
        self,
        objective: Objective,
        backend: Backend,
        ranks: Ranks | None,
        wanted: dict[str, list[str]],
    ) -> None:
        self.objective = objective
        self.backend = backend
        self.ranks = ranks
        self.wanted = wanted
        self._compiled: dict[Graph, Callable[[Tensor, Inputs], Outputs]] = {}
        self._hinted: set[tuple[Graph, torch.dtype, torch.device]] = set()

    def function(self, graph: Graph) -> Callable[[Tensor, Inputs], Outputs]:
        """The compiled graph. Which levels are shared is part of its code."""
        if graph not in self._compiled:
            # With the aggregates of an earlier pass a rank has all it needs.
            ranks = None if graph.earlier else self.ranks
            setup = Setup(self.objective, ranks, graph.sharing, graph.keep, self.wanted)

            # A fresh function, so that each module has a cache of compiled graphs of its own.
            def function(logp: Tensor, given: Inputs) -> Outputs:
                return joint(setup, logp, given)

            self._compiled[graph] = (
                function
                if self.backend is None
                else torch.compile(function, backend=self.backend, fullgraph=True, dynamic=True)
            )
        return self._compiled[graph]

    def run(self, graph: Graph, logp: Tensor, given: Inputs) -> Outputs:
        """Runs a graph, and raises what it found to be wrong with the batch."""
        function = self.function(graph)
        logp = logp.detach().contiguous()
        kind = graph, logp.dtype, logp.device
        if self.backend is not None and kind not in self._hinted:
            self._hinted.add(kind)
            expect_large(logp, given)
        counting = contextlib.nullcontext() if self.backend is None else unknown_sizes()
        with torch.no_grad(), without_autocast(logp.device), any_size(), counting:
            out = function(logp, given)
        if out.failed is None:
            raise_for(out.checks)
        elif self.ranks is not None and bool(out.failed):
            self.ranks.agree(error_of(out.checks))
        return out


class SavedGradient(torch.autograd.Function):
    """A loss whose gradient is known; the backward pass only scales it."""

    @staticmethod
    def forward(ctx: Any, logp: Tensor, loss: Tensor, grad: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(grad)
        ctx.scale = scale
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        factor = grad_loss * ctx.scale if ctx.scale != 1.0 else grad_loss
        if factor.device.type == "cpu" and factor.item() == 1.0:
            # Almost always; on a GPU the host would have to wait to know.
            return grad, None, None, None
        return grad * factor.to(grad.dtype), None, None, None
