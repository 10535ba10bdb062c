"""Compiles the graph of a loss ahead of time, for all sizes, into one file (`fibdsl.packaged`)."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch._inductor
from torch import Tensor
from torch.export import Dim
from torch.utils._pytree import tree_flatten, tree_unflatten

from fibdsl._version import __version__
from fibdsl.atomic import write_bytes
from fibdsl.diagnostics.errors import PackageError
from fibdsl.packaged import KEY, Contents, machine, runtime, tensors
from fibdsl.runtime.calls import Arguments
from fibdsl.runtime.graphs import any_size
from fibdsl.runtime.layouts import BLOCK
from fibdsl.runtime.loss import FusedLoss

if TYPE_CHECKING:
    from fibdsl.objective import Objective

LAYOUTS = ("padded", "packed")
DTYPES = ("float32", "float64", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")

# The sizes of the batch that is traced; no two are alike, so that each says which it is. Their only
# effect on the code is that Inductor takes loops to be as long as these: where it thinks them short
# it uses one thread.
_ROWS, _WIDTH = 211, 1009
_TOKENS = _ROWS * _WIDTH


def export(
    objective: Objective,
    path: str | Path,
    *,
    layout: str,
    dtype: str,
    device: str,
    metrics: Sequence[str] | None,
) -> None:
    """See `Objective.export`."""
    for what, value, known in (
        ("layout", layout, LAYOUTS),
        ("dtype", dtype, DTYPES),
        ("device", device, DEVICES),
    ):
        if value not in known:
            raise ValueError(f"{what} is one of {', '.join(known)}, not {value!r}")
    _writable(Path(path))
    if device == "cuda" and not torch.cuda.is_available():
        raise PackageError(
            "torch finds no cuda device here, and a package is built on a machine with the GPU it "
            "is for"
        )
    loss = objective.compile(backend=None, metrics=metrics)
    # Any ids: they are inputs of the graph.
    named = (b for b in loss.objective.budgets.values() if b.names)
    loss.set_cells({b.key: {name: i for i, name in enumerate(b.names)} for b in named})
    checks: list[str] = []
    graph = _Graph(loss, _example(loss, layout, getattr(torch, dtype), device), checks)
    with tempfile.TemporaryDirectory(prefix="fib.") as folder, _as_called(device):
        with _building("trace the graph"):
            exported = torch.export.export(
                graph, tuple(graph.example), dynamic_shapes=(graph.shapes(),), strict=False
            )
        contents = Contents(
            objective=objective.name,
            semantic_hash=loss.objective.semantic_hash,
            params=loss.objective.params,
            schedules=dict(objective.schedules),
            levels=loss.objective.levels,
            metrics=loss.objective.metrics,
            tensors=loss.objective.tensors,
            budgets={
                level: (b.key, b.names, b.otherwise) for level, b in loss.objective.budgets.items()
            },
            outermost=loss.objective.outermost,
            whole=loss.objective.whole,
            wanted=loss.wanted,
            checks=tuple(checks),
            runtime=runtime(),
            layout=layout,
            dtype=dtype,
            device=device,
            machine=machine(device),
            torch=torch.__version__,
            fibdsl=__version__,
        )
        package = Path(folder, f"{objective.name}.pt2")
        options = {
            "aot_inductor.metadata": {KEY: contents.model_dump_json()},
            # Else the number of threads of this machine is part of the code, and of the size of
            # its buffers.
            "cpp.dynamic_threads": True,
        }
        with _building("compile the graph"):
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(package), inductor_configs=options
            )
        write_bytes(path, package.read_bytes())


class _Graph(torch.nn.Module):
    """The joint graph with its tensors in a row, as torch.export wants them.

    Attributes:
        example: the tensors of a batch.
        checks: filled, when it is traced, with what the conditions among the results say.
    """

    def __init__(self, loss: FusedLoss, example: dict[str, Any], checks: list[str]) -> None:
        super().__init__()
        arguments = Arguments(**example, normalizers=None, budgets=None)
        call = loss.calls.call(lambda: None, arguments)
        self.function = loss.graphs.function(call.graph)
        logp, self.given = tensors(loss.objective, call.logp, call.given)
        self.leaves, self.spec = tree_flatten((logp, self.given))
        # Copies: a tensor that is given twice would be one input of the graph.
        self.example = [leaf.clone() for leaf in self.leaves if isinstance(leaf, Tensor)]
        self.checks = checks

    def shapes(self) -> tuple[dict[int, Any], ...]:
        """Of each tensor the sizes that vary, which the example's sizes tell apart."""
        given = [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]
        rows = Dim("rows", min=1)
        layout = self.given.layout
        if layout is None:
            sizes = {_ROWS: rows, _WIDTH: Dim("width", min=1)}
            return tuple(_varying(tensor, sizes) for tensor in given)
        sizes = {
            _ROWS: rows,
            _ROWS + 1: rows + 1,
            # Fewer are filled up to a block (`padded_to_block`).
            _TOKENS: Dim("tokens", min=BLOCK),
            _TOKENS // BLOCK + _ROWS: Dim("blocks", min=1),
        }
        # Those are not filled up.
        own = {_TOKENS: Dim("positions", min=1)}
        return tuple(
            _varying(tensor, own if tensor is layout.position else sizes) for tensor in given
        )

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        out = self.function(*tree_unflatten(leaves, self.spec))
        self.checks[:] = out.checks
        return out.grad, out.loss, out.metrics, *out.checks.values()


def _example(loss: FusedLoss, layout: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """The arguments of a call."""
    shape = (_ROWS, _WIDTH) if layout == "padded" else (_TOKENS,)
    zeros = torch.zeros(shape, dtype=dtype, device=device)
    ids = torch.zeros(_ROWS, dtype=torch.int64, device=device)
    offsets = torch.arange(_ROWS + 1, dtype=torch.int64, device=device) * _WIDTH
    return {
        "logp": zeros,
        "old_logp": zeros.clone(),
        "advantages": zeros.clone(),
        "mask": torch.ones(shape, dtype=torch.bool, device=device),
        "keys": {key: ids for _, key in loss.objective.levels if key is not None},
        "cu_seqlens": offsets if layout == "packed" else None,
        "others": {name: zeros.clone() for name in loss.objective.tensors},
    }


def _varying(tensor: Tensor, sizes: dict[int, Any]) -> dict[int, Any]:
    return {axis: sizes[size] for axis, size in enumerate(tensor.shape) if size in sizes}


@contextlib.contextmanager
def _as_called(device: str) -> Iterator[None]:
    """As `FusedLoss` runs: no gradient, no autocast, no size like another or special."""
    with (
        torch.no_grad(),
        torch.autocast(device, enabled=False),
        any_size(),
        warnings.catch_warnings(),
    ):
        # Of torch to itself.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def _building(step: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that torch's tracer, its compiler and theirs raise
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        reason = f"{type(error).__name__}: {first}"
        if _caused(error, "InvalidCxxCompiler"):
            reason = "there is no C++ compiler; install g++ or clang++, or name yours in CXX"
        raise PackageError(f"torch {torch.__version__} cannot {step}: {reason}") from error


def _caused(error: BaseException | None, name: str) -> bool:
    while error is not None:
        if type(error).__name__ == name or name in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _writable(path: Path) -> None:
    """Says now what would go wrong after half a minute."""
    if path.suffix != ".pt2":
        raise ValueError(f"{path}: torch loads packages from files named *.pt2 only")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # A link is replaced where it leads.
    folder = os.path.dirname(os.path.realpath(path))
    for wrong, code in (
        (not os.path.exists(folder), errno.ENOENT),
        (not os.path.isdir(folder), errno.ENOTDIR),
        (not os.access(folder, os.W_OK | os.X_OK), errno.EACCES),
    ):
        if wrong:
            raise OSError(code, os.strerror(code), str(path))
