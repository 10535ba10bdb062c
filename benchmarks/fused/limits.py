"""Builds and calls limits.cpp: the floor of memory traffic, and FiberPO written by hand."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case
from benchmarks.fused.objectives import Budgets

_SOURCE = Path(__file__).with_name("limits.cpp")
_FLAGS = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC"]


class Limits:
    """The hand-written kernels, built into `folder`.

    Raises:
        RuntimeError: there is no C++ compiler, or it fails.
    """

    def __init__(self, folder: Path) -> None:
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
        if compiler is None:
            raise RuntimeError(
                "the hand-written limits need a C++ compiler: set CXX or install g++"
            )
        unlinked, library = folder / "limits.o", folder / "limits.so"
        # Linked without -ffast-math: with it, loading the library would change how the whole
        # process treats denormal numbers.
        for command in (
            [compiler, *_FLAGS, "-ffast-math", "-c", str(_SOURCE), "-o", str(unlinked)],
            [compiler, "-shared", "-fopenmp", str(unlinked), "-o", str(library)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{compiler} cannot build limits.cpp:\n{done.stderr}")
        # torch has loaded its OpenMP by now; the library shares it and its number of threads.
        self._library = ctypes.CDLL(str(library))
        self._library.fiberpo_loss.restype = ctypes.c_double

    def floor(self, batch: Batch, out: Tensor) -> None:
        """Reads four float32 arrays and writes one."""
        inputs = (batch.logp, batch.old_logp, batch.advantages, batch.mask)
        self._library.read_four_write_one(*map(_pointer, inputs), _pointer(out), _int(out.numel()))

    def fiberpo(self, batch: Batch, budgets: Budgets, mask: Tensor | None) -> tuple[float, Tensor]:
        """Loss and gradient; `mask` is float32, bool, or None where all counts."""
        gradient = torch.empty_like(batch.logp, requires_grad=False)
        pairs = budgets.pairs
        parents = batch.parents[: len(pairs) - 1]
        sizes = [batch.rows, *(int(batch.parents[i + 1].numel()) for i in range(len(parents)))]
        loss = self._library.fiberpo_loss(
            _pointer(batch.logp),
            _pointer(batch.old_logp),
            _pointer(batch.advantages),
            None if mask is None else _pointer(mask),
            ctypes.c_int32(0 if mask is None else 2 if mask.dtype == torch.bool else 1),
            _pointer(gradient),
            _pointer(batch.starts),
            _int(len(pairs)),
            (ctypes.c_void_p * len(pairs))(*(p.data_ptr() for p in parents)),
            (ctypes.c_int64 * len(pairs))(*sizes),
            (ctypes.c_float * (2 * len(pairs)))(*(c for pair in pairs for c in pair)),
            ctypes.c_float(budgets.epsilon),
        )
        return float(loss), gradient

    def cases(self, two: Budgets, four: Budgets) -> list[Case]:
        """The floor and both kernels; on a packed batch they need no mask."""
        outs: dict[int, Tensor] = {}

        def floor(batch: Batch) -> None:
            # Written to memory that is there already: the limit allocates nothing.
            if batch.places not in outs:
                outs[batch.places] = torch.empty_like(batch.logp, requires_grad=False)
            self.floor(batch, outs[batch.places])

        def kernel(budgets: Budgets, bool_mask: bool = False) -> Callable[[Batch], object]:
            def run(batch: Batch) -> object:
                mask = batch.bool_mask if bool_mask else batch.mask
                return self.fiberpo(batch, budgets, None if batch.cu_seqlens is not None else mask)

            return run

        return [
            Case("floor", floor),
            Case("two levels by hand, C++", kernel(two)),
            Case("four levels by hand, C++", kernel(four)),
            Case("four levels by hand, C++, bool mask", kernel(four, bool_mask=True)),
        ]


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def _int(value: int) -> Any:
    return ctypes.c_int64(value)
