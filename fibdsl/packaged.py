"""Loss modules that were compiled ahead of time: what a package holds, and the module that runs it.

A package is a file of AOTInductor: a shared library of the graph for one layout, number type and
device, for all sizes. Beside it lies what the module has to know of its objective, as JSON.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fibdsl._version import __version__
from fibdsl.diagnostics.errors import PackageError
from fibdsl.resources import runtime_sources
from fibdsl.runtime.checks import Checks, binary, raise_for
from fibdsl.runtime.contract import CellBudgets, Objective, Parameter
from fibdsl.runtime.graphs import Graph, Graphs
from fibdsl.runtime.joint import Inputs, Outputs
from fibdsl.runtime.layouts import of_units
from fibdsl.runtime.loss import FusedLoss
from fibdsl.runtime.naming import CellNames
from fibdsl.runtime.schedules import Schedule
from fibdsl.runtime.sharing import sharing_of

KEY = "fibdsl"
"""The entry of AOTInductor's own metadata that has ours."""


def runtime() -> str:
    """Which runtime this is. A package is called with the tensors that the one it was built with
    makes of a batch: their order, types, the size of a block."""
    return hashlib.sha256("".join(runtime_sources()).encode()).hexdigest()[:16]


class Contents(BaseModel):
    """What a package says about itself.

    Attributes:
        params: with the values at export as defaults.
        schedules: the parameters that change from step to step.
        metrics, levels, tensors, outermost, whole, semantic_hash: as of `contract.Objective`.
        budgets: as there, but what computes them is in the graph.
        wanted: the names of the metrics it computes.
        checks: what is wrong with a batch where a condition that the graph returns does not hold.
        runtime: that of the fibdsl that built it (`runtime`).
        machine: what its code needs of a machine.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    objective: str
    semantic_hash: str
    params: dict[str, Parameter]
    schedules: dict[str, Schedule] = {}
    levels: tuple[tuple[str, str | None], ...]
    metrics: dict[str, str]
    tensors: tuple[str, ...]
    budgets: dict[str, tuple[str, tuple[str, ...], bool]]
    outermost: str | None
    whole: str | None
    wanted: tuple[str, ...]
    checks: tuple[str, ...]
    runtime: str
    layout: str
    dtype: str
    device: str
    machine: tuple[str, ...]
    torch: str
    fibdsl: str

    def __str__(self) -> str:
        return f"{self.objective}, {self.layout} {self.dtype} for {self.device}"


def load_compiled(path: str | Path, /, *, cells: CellNames | None = None) -> PackagedLoss:
    """The loss module in a package that `Objective.export` or `fib compile --aot` wrote.

    It is called as any other loss module. Nothing is compiled, whatever the sizes and parameters.
    On a GPU it runs on the device of its batch.

    Args:
        cells: as of `Objective.compile`. A package knows budgets of cells by name only.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no package of fibdsl; `cells` does not fit the objective.
        PackageError: this fibdsl, torch or machine cannot run it.
    """
    contents = read(path)
    if contents.runtime != runtime():
        raise PackageError(
            f"{path} was built by another fibdsl ({contents.fibdsl}; this is {__version__}), whose "
            "packages are called in another way; build it again"
        )
    if contents.device == "cuda" and not torch.cuda.is_available():
        raise PackageError(f"{path} was built for cuda, and torch finds no such device here")
    here = machine(contents.device)
    missing = ", ".join(need for need in contents.machine if need not in here)
    if missing:
        raise PackageError(
            f"{path} was built for a machine with {missing}, which this one lacks; build it here, "
            "or on the oldest machine it has to run on"
        )
    return PackagedLoss(Path(path), contents, cells)


def read(path: str | Path) -> Contents:
    """What a package says about itself; loads nothing of it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no package of fibdsl.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("_metadata.json"):
                    text = _Metadata.model_validate_json(archive.read(name)).fibdsl
                    return Contents.model_validate_json(text)
    except (zipfile.BadZipFile, ValidationError):
        pass
    raise ValueError(
        f"{path} is no loss compiled ahead of time; `fib compile SPEC --aot -o loss.pt2` writes one"
    )


class _Metadata(BaseModel):
    """AOTInductor's metadata, of which one entry is ours."""

    fibdsl: str


# What compilers do not use unless they are told to: no reason to refuse a machine without it.
_UNUSED = ("aes", "amx", "clflush", "clwb", "sha", "sse4a", "avx512_vp2")


def machine(device: str) -> tuple[str, ...]:
    """What code that is built here for `device` may use: it has all of the processor it finds."""
    found = [f"{sys.platform} {platform.machine()}"]
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        found += sorted(
            name for name, has in known.items() if has is True and not name.startswith(_UNUSED)
        )
    else:  # torch before 2.10
        found.append(torch.backends.cpu.get_cpu_capability())
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        found.append(f"a GPU of compute capability {major}.{minor}")
    return tuple(found)


def plain(objective: Objective) -> Graph:
    """The graph of a package: of one call, which has whatever it looks at whole."""
    return Graph(sharing_of(objective, {}, False), False, False, ())


def tensors(objective: Objective, logp: Tensor, given: Inputs) -> tuple[Tensor, Inputs]:
    """The inputs in the one form a package takes, where a call may have several: a bool mask on a
    GPU (on a CPU it is float32 already), ids of levels from the trajectory on one a row and of
    finer ones one a token."""
    checks = Checks()
    mask, layout = given.mask, given.layout
    if mask.device.type != "cpu":
        mask = binary(mask, checks)
    ids = dict(given.ids)
    rows = logp.shape[0] if layout is None else layout.cu_seqlens.shape[0] - 1
    per_token = True
    for name, key in objective.levels:
        if key is None:
            per_token = False
        elif per_token == (ids[name].dim() == 1):
            valid = mask != 0
            if layout is not None:
                valid = layout.take(valid) & layout.inside()
            what = f"keys['{key}'] (level '{name}')"
            ids[name] = of_units(ids[name], per_token, valid, layout, rows, what, checks)
        if key is not None:
            ids[name] = ids[name].contiguous()
    raise_for(checks.conditions)
    return logp, given._replace(mask=mask, ids=ids)


class _Package(Graphs):
    """The one graph of a package, in place of those that would be compiled."""

    def __init__(self, objective: Objective, path: Path, contents: Contents) -> None:
        # No backend: nothing is compiled here, and nothing that compiles is even imported.
        super().__init__(objective, None, None, {})
        self.path = path
        self.contents = contents
        self._runners: dict[torch.device, Any] = {}
        # The first is loaded now, so that what is wrong with it is said now.
        self._runner(torch.empty(0, device=contents.device).device)

    def function(self, graph: Graph) -> Callable[[Tensor, Inputs], Outputs]:
        if graph != plain(self.objective):
            what = (
                "aggregates are kept and used"
                if graph.keep or graph.earlier
                else "budgets of cells are taken as tensors (budgets=...)"
                if graph.budgets
                else "pieces of trajectories (keys['trajectory']) are put together"
            )
            raise ValueError(
                f"{what} by modules of `fibdsl.load(...).compile()` only; {self.path} was "
                "compiled ahead of time"
            )
        return self._packaged

    def _packaged(self, logp: Tensor, given: Inputs) -> Outputs:
        """Runs the graph of the package."""
        contents = self.contents
        layout = "padded" if given.layout is None else "packed"
        dtype = str(logp.dtype).removeprefix("torch.")
        for built, wanted, what, error in (
            (contents.layout, layout, "layout", ValueError),
            (contents.dtype, dtype, "dtype", TypeError),
            (contents.device, logp.device.type, "device", ValueError),
        ):
            if built != wanted:
                raise error(
                    f"{self.path} was built for {built} tensors, and these are {wanted}; give it "
                    f"{built} ones, or build another with {what}={wanted!r}"
                )
        leaves = tree_leaves(tensors(self.objective, logp, given))
        flat = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        grad, loss, metrics, *found = self._runner(logp.device).boxed_run(flat)
        return Outputs(grad, loss, metrics, dict(zip(contents.checks, found, strict=True)))

    def _runner(self, device: torch.device) -> Any:
        """The package, loaded once a device."""
        if device not in self._runners:
            # What `torch._inductor.aoti_load_package` uses, which first looks for a compiler to
            # find out what the processor has; `machine` knows.
            loader: Any = torch._C._aoti.AOTIModelPackageLoader
            index = -1 if device.index is None else device.index
            try:
                self._runners[device] = loader(str(self.path), "model", False, 1, index)
            except RuntimeError as error:
                built = self.contents.torch
                raise PackageError(
                    f"torch {torch.__version__} cannot load {self.path}, which torch {built} "
                    f"built; build it again: {error}"
                ) from error
        return self._runners[device]


class PackagedLoss(FusedLoss):
    """A loss module compiled ahead of time; see FusedLoss.forward for the call."""

    def __init__(self, path: Path, contents: Contents, cells: CellNames | None = None) -> None:
        objective = Objective(
            contents.objective,
            contents.params,
            contents.levels,
            contents.metrics,
            contents.tensors,
            {
                level: CellBudgets(*budget, _in_the_package)
                for level, budget in contents.budgets.items()
            },
            contents.outermost,
            contents.whole,
            contents.semantic_hash,
            _in_the_package,
            _in_the_package,
        )
        super().__init__(objective, None, metrics=contents.wanted, cells=cells)
        self.set_params(**contents.schedules)
        self.graphs = _Package(objective, path, contents)
        self._contents = contents

    def extra_repr(self) -> str:
        built = self._contents
        return f"{super().extra_repr()}, {built.layout} {built.dtype} for {built.device}"


def _in_the_package(*arguments: Any) -> Any:
    raise NotImplementedError("a module compiled ahead of time holds no other code than its graph")
