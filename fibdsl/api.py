"""The Python interface: load a spec, evaluate it by the reference, compile it to a torch module."""

from __future__ import annotations

import builtins
import hashlib
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fibc import driver
from fibc.analysis.facts import Facts
from fibc.analysis.require import decide_promises
from fibc.typed import TypedObjective, TypedParam
from fibdsl.diagnostics.diagnostic import Diagnostic, Diagnostics, closest, nearest
from fibdsl.diagnostics.errors import FibError
from fibdsl.diagnostics.rules import PROMISES
from fibdsl.parameters import Assignment, Value, deciding_steps, holds, shown_values
from fibdsl.resources import shipped_specs
from fibdsl.runtime.schedules import Schedule, as_schedule, values_at
from fibdsl.source import Source

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from fibc.batch import Batch
    from fibc.ir.nodes import Program
    from fibdsl.runtime.loss import FusedLoss
    from fibdsl.runtime.naming import CellNames


def load(
    path: str | Path,
    /,
    *,
    objective: str | None = None,
    params: Mapping[str, Value] | str | Path | None = None,
    promises: bool = True,
    **values: Value,
) -> Objective:
    """Loads and checks a spec.

    Args:
        path: a `.fib` file, or the name of a shipped spec (`fib specs` lists them).
        objective: which one, where the file holds several.
        params: values of the objective's parameters, numbers or schedules (`fibdsl.schedules`), by
            name; or a YAML file of them (docs/language.md). A file is read here, and by no function
            of its own: what may stand in it is known with the spec, and what is wrong with it is
            then said with its line.
        **values: values that win over those of `params`. The others have their defaults.
        promises: whether a `require` that is not proved is an error. Without, `broken_promises`
            of the objective has the findings, so that a witness can be evaluated.

    Raises:
        FibError: the spec or a value is wrong; `diagnostics` has every finding.
        OSError: a file cannot be read.
    """
    return loaded(read_source(path), objective, Assignment.of(params, values), promises)


def load_text(
    text: str,
    /,
    *,
    objective: str | None = None,
    path: str = "<string>",
    promises: bool = True,
    **values: Value,
) -> Objective:
    """Like `load`, from the text of a spec."""
    return loaded(Source(path, text), objective, Assignment(None, values), promises)


def check(
    *paths: str | Path, params: Mapping[str, Value] | str | Path | None = None
) -> list[Diagnostic]:
    """Every finding about these files (or, for a folder, the `.fib` files below it).

    Args:
        params: values as in `load`, at which promises are decided, for every objective that
            declares them. Lints are about the defaults all the same.

    Raises:
        OSError: a path cannot be read.
        ValueError: a folder without specs.
    """
    checked = [driver.check(read_source(file)) for file in spec_files(*paths)]
    return findings(checked, Assignment.of(params, {}))


def findings(files: Sequence[driver.Checked], assignment: Assignment) -> list[Diagnostic]:
    """Every finding about these files. What is assigned comes after the errors of specs, and
    promises after it: they are decided once there are values to decide them at.

    Raises:
        OSError: a file of values cannot be read.
    """
    if assignment.empty:
        return [d for checked in files for d in checked.diagnostics]
    others = [[d for d in c.diagnostics if d.code not in PROMISES] for c in files]
    if any(d.severity == "error" for found in others for d in found):
        return [d for found in others for d in found]
    plain = [Objective(c, typed, typed.defaults, False) for c in files for typed in c.objectives]
    try:
        objectives = assignment.applied(plain)
    except FibError as error:
        return [*(d for found in others for d in found), *error.diagnostics]
    found = []
    for checked, kept in zip(files, others, strict=True):
        together = Diagnostics(checked.source)
        together.found += kept
        for objective in objectives:
            if objective.checked is checked:
                together.found += objective.broken_promises
        found += together.in_order()
    return found


def spec_files(*paths: str | Path) -> list[Path]:
    """The files named, and for each folder the `.fib` files below it, in order.

    Raises:
        ValueError: a folder without specs.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(_specs_below(path)) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: no .fib file in this folder")
        files += inside
    return files


def _specs_below(top: Path) -> Iterator[Path]:
    """Specs in a folder and the folders below it, except hidden ones: `.git`, `.venv`."""
    for folder, inside, names in os.walk(top):
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(folder) / name for name in names if name.endswith(".fib"))


def compile(path: str | Path, *, backend: str | None = "inductor", **values: Value) -> FusedLoss:
    """`load(path, **values).compile(backend)`."""
    return load(path, params=values).compile(backend=backend)


def read_source(path: str | Path) -> Source:
    """The text of a file, or of the shipped spec of that name if there is no such file.

    Raises:
        OSError: neither can be read, or the file is not UTF-8 text.
    """
    file = Path(path)
    if not file.is_file() and file.name in shipped_specs() and str(file) == file.name:
        file = shipped_specs()[file.name]
    try:
        return Source(str(file), file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise OSError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except FileNotFoundError as error:
        near = closest(file.name, shipped_specs()) if str(file) == file.name else None
        if near is None:
            raise
        missing = f"{error.strerror}; the nearest shipped spec is `{near}`"
        raise FileNotFoundError(error.errno, missing, str(file)) from None


def loaded(source: Source, name: str | None, assignment: Assignment, promises: bool) -> Objective:
    """What `load` makes of a text."""
    checked = driver.check(source)
    choices = {o.name: o for o in checked.objectives}
    if name is None and len(choices) == 1:
        name = next(iter(choices))
    # Where there are values, promises are decided at these, below.
    later = None if assignment.empty else name
    errors = [
        d
        for d in checked.diagnostics
        if d.severity == "error"
        and (d.code not in PROMISES or (promises and (later is None or d.about != later)))
    ]
    if errors:
        raise FibError(errors)
    if name not in choices:
        asked = f"no objective `{name}` in this file"
        if not name:
            several = "several objectives" if choices else "no objective, only gates"
            asked = f"this file has {several}"
        found = Diagnostics(source)
        found.add("FIB004", asked, None, nearest(name or "", choices))
        raise FibError(found.found)
    objective = Objective(checked, choices[name], choices[name].defaults, promises)
    if assignment.empty:
        return objective
    [changed] = assignment.applied([objective])
    return changed


@dataclass(frozen=True)
class Evaluation:
    """What the reference says of a batch. Arrays are numpy float64, shaped like `logp`.

    Attributes:
        loss: -J.
        gated_ratio: G of each token, 0 under the mask.
        gradient: d loss / d logp, 0 under the mask.
        metrics: the same names and meanings as the loss module's.
    """

    loss: float
    gated_ratio: Any
    gradient: Any
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class Objective:
    """A checked objective with values for its parameters.

    Attributes:
        params: the values; of parameters that change from step to step, those of step 0.
        promises: whether values that break a `require` are refused.
        schedules: the parameters that change.
    """

    checked: driver.Checked
    typed: TypedObjective
    params: Mapping[str, float]
    promises: bool = True
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.typed.name

    @property
    def doc(self) -> str:
        return self.typed.doc

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids a batch must bring."""
        return self.typed.keys

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors a batch must bring besides those of every batch."""
        return self.typed.tensors

    @property
    def declared(self) -> tuple[TypedParam, ...]:
        """The parameters with their spaces, defaults and ranges."""
        return self.typed.params

    def with_params(self, /, **values: Value) -> Objective:
        """The same objective with other parameter values; its promises are checked again.

        A value is a number, or a schedule (`fibdsl.schedules`), whose numbers are all in the range.
        Promises are then decided at the steps where schedules start, turn and end.

        Raises:
            FibError: an unknown parameter, a value outside its range, a broken `require`.
        """
        found = Diagnostics(self.checked.source)
        known = {p.name: p for p in self.typed.params}
        assigned: dict[str, Value] = {**self.params, **self.schedules}
        for name, value in values.items():
            schedule = as_schedule(value)
            if name not in known:
                message = f"objective `{self.name}` has no parameter `{name}`"
                found.add("FIB107", message, None, nearest(name, known))
            elif schedule is not None:
                assigned[name] = schedule
                for at, number in zip(schedule.steps, schedule.values, strict=True):
                    if not holds(known[name], number):
                        message = f"{name} = {number:g} at step {at} is not in {known[name].range}"
                        help = "choose values inside the declared range"
                        found.add("FIB403", message, known[name].span, help)
            elif isinstance(value, bool) or not isinstance(value, int | float):
                found.add("FIB107", f"`{name}` is a number, not {value!r}", None)
            elif not holds(known[name], value):
                span = known[name].span
                shown = f"{value:g}" if isinstance(value, float) else str(value)
                message = f"{name} = {shown} is not in {known[name].range}"
                found.add("FIB403", message, span, "choose a value inside the declared range")
            else:
                assigned[name] = float(value)
        if found.found:
            raise FibError(found.in_order())
        changed = replace(
            self,
            params=values_at(assigned, 0),
            schedules={n: v for n, v in assigned.items() if isinstance(v, Schedule)},
        )
        if self.promises and changed.broken_promises:
            raise FibError(changed.broken_promises)
        return changed

    def at_step(self, step: int) -> Objective:
        """The same objective with the numbers that its schedules have at a step; its promises are
        checked there.

        Raises:
            ValueError: no parameter has a schedule; `step` is no whole number, or below 0.
            FibError: a broken `require`.
        """
        if not self.schedules:
            raise ValueError(
                f"a step has no effect on objective '{self.name}': none of its parameters has a "
                "schedule"
            )
        return self.with_params(**values_at(self.schedules, step))

    @cached_property
    def broken_promises(self) -> tuple[Diagnostic, ...]:
        """Every `require` that is not proved at these parameter values, and every `assume` that is
        refuted. With schedules, at one of the steps where these start, turn and end, or just before
        one jumps; each with the first step that breaks it."""
        broken: dict[Any, Diagnostic] = {}
        for step in deciding_steps(self.schedules):
            values = {**self.params, **values_at(self.schedules, step)}
            found = Diagnostics(self.checked.source)
            decide_promises(Facts.at(self.typed, values), found)
            changed = {n: v for n, v in values.items() if v != self.typed.defaults[n]}
            at = step if self.schedules else None
            note = (f"with {shown_values(changed, at)}",) if changed else ()
            for d in found.found:
                broken.setdefault(d.span, replace(d, notes=(*d.notes, *note)))
        return tuple(sorted(broken.values(), key=lambda d: d.span.start if d.span else -1))

    @cached_property
    def program(self) -> Program:
        """The unoptimised IR, an operation a symbol of docs/semantics.md; what is evaluated."""
        return driver.reference_program(self.typed)

    @property
    def semantic_hash(self) -> str:
        """16 hexadecimal digits that say which loss this is, as a function of its parameters; the
        same for specs that differ in layout, comments or names of parameters only."""
        from fibc.ir.hash import semantic_hash

        return semantic_hash(self.program, self.typed.defaults)

    # --- the reference --------------------------------------------------------------------------

    def gated_ratio(
        self,
        logp: Any,
        old_logp: Any,
        advantages: Any,
        mask: Any,
        keys: Mapping[str, Any] | None = None,
        *,
        cu_seqlens: Any = None,
        rollout_logp: Any = None,
        ref_logp: Any = None,
        cells: CellNames | None = None,
        budgets: Mapping[str, Any] | None = None,
    ) -> Any:
        """G of every token by the reference interpreter, float64, 0 under the mask.

        Takes what the loss module takes, as torch tensors or numpy arrays, and returns the same
        kind, shaped like `logp`. From torch tensors the result is differentiable with respect to
        `logp`, by the interpreter's own pull-back. `cells` says which ids named cells have, and
        `budgets` gives the budgets of cells as they are, as for the loss module.

        Raises:
            fibc.batch.BatchError: a ValueError naming the tensor and the level.
        """
        others = cu_seqlens, rollout_logp, ref_logp, cells, budgets
        arguments = (logp, old_logp, advantages, mask, keys, *others)
        if type(logp).__module__.partition(".")[0] == "torch":
            from fibdsl.runtime.reference import gated_ratio

            return gated_ratio(self, *arguments)
        from fibc import interp

        batch = self.batch(*arguments)
        return batch.scatter(interp.run(self.program, batch, self.params).gated_ratio)

    def evaluate(
        self,
        logp: Any,
        old_logp: Any,
        advantages: Any,
        mask: Any,
        keys: Mapping[str, Any] | None = None,
        *,
        cu_seqlens: Any = None,
        rollout_logp: Any = None,
        ref_logp: Any = None,
        cells: CellNames | None = None,
        budgets: Mapping[str, Any] | None = None,
        normalizers: Mapping[str, float] | None = None,
    ) -> Evaluation:
        """Loss, gradient, gated ratios and metrics by the reference interpreter.

        Raises:
            fibc.batch.BatchError: a ValueError naming the tensor and the level.
        """
        import numpy as np

        from fibc import interp

        others = cu_seqlens, rollout_logp, ref_logp, cells, budgets
        batch = self.batch(logp, old_logp, advantages, mask, keys, *others)
        run = interp.run(self.program, batch, self.params, normalizers)
        gradient = interp.pullback(run, self.program.objective, -np.ones(1))
        return Evaluation(
            run.loss,
            batch.scatter(run.gated_ratio),
            batch.scatter(gradient),
            interp.metrics(run),
        )

    def batch(
        self,
        logp: Any,
        old_logp: Any,
        advantages: Any,
        mask: Any,
        keys: Mapping[str, Any] | None = None,
        cu_seqlens: Any = None,
        rollout_logp: Any = None,
        ref_logp: Any = None,
        cells: CellNames | None = None,
        budgets: Mapping[str, Any] | None = None,
    ) -> Batch:
        """The batch as the reference sees it; torch tensors or numpy arrays."""
        from fibc.batch import BatchError, make_batch
        from fibc.cells import budgets_of

        tensors = {}
        for name, tensor in (("rollout_logp", rollout_logp), ("ref_logp", ref_logp)):
            if name in self.tensors:
                if tensor is None:
                    raise BatchError(
                        f"objective '{self.name}' looks at {name}, and the batch has none"
                    )
                tensors[name] = _array(tensor)

        return make_batch(
            self.typed.levels,
            _array(logp),
            _array(old_logp),
            _array(advantages),
            _array(mask),
            {name: _array(ids) for name, ids in (keys or {}).items()},
            _array(cu_seqlens),
            tensors,
            budgets_of(
                self.name,
                self.program.budgets,
                self.params,
                cells,
                {level: _array(tensor) for level, tensor in (budgets or {}).items()},
            ),
        )

    # --- the compiled loss ----------------------------------------------------------------------

    def source(self) -> str:
        """The text of the generated module: needs only torch, and is what `compile` runs."""
        text = driver.compile_objective(self.typed, self.checked, self.params)
        if not self.schedules:
            return text
        from fibc.emit.starting import starting

        return f"{text}\n\n{starting(self.schedules)}\n"

    def compile(
        self,
        *,
        backend: str | Callable[..., Any] | None = "inductor",
        metrics: Sequence[str] | None = None,
        process_group: ProcessGroup | None = None,
        gradients: str | None = None,
        cells: CellNames | None = None,
    ) -> FusedLoss:
        """The loss as a torch.nn.Module: one fused graph that returns loss and gradient.

        Args:
            backend: of torch.compile (a name or a function); None runs the generated code eagerly.
            metrics: the names of those to compute; others cost nothing. None: all.
            process_group: the ranks that hold a batch together (docs/scaling.md).
            gradients: how their gradients are put together, "averaged" (DDP, FSDP) or "summed".
            cells: which ids named cells have, by key and name, where the spec has budgets for
                them: {"data_source": {"math": 0, "code": 7}}. May be said, and changed, later by
                `set_cells`.

        Raises:
            ValueError: one of `process_group` and `gradients` without the other; an unknown metric
                or cell, a name of a key without an id.
        """
        text = self.source()
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        filename = f"<fibdsl {self.name} {digest}>"
        # Registered so that tracebacks and torch.compile's messages show the generated lines.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        module = types.ModuleType(f"fibdsl_generated_{self.name}_{digest}")
        sys.modules[module.__name__] = module
        exec(builtins.compile(text, filename, "exec"), module.__dict__)
        loss: FusedLoss = module.Loss(
            backend,
            metrics=metrics,
            process_group=process_group,
            gradients=gradients,
            cells=cells,
        )
        loss.guard = lambda values: self.with_params(**values)
        return loss

    def export(
        self,
        path: str | Path,
        *,
        layout: str = "padded",
        dtype: str = "float32",
        device: str = "cpu",
        metrics: Sequence[str] | None = None,
    ) -> None:
        """Compiles the loss ahead of time, for all sizes, into a file that `fibdsl.load_compiled`
        turns into a loss module without compiling anything. Takes half a minute or so.

        Args:
            path: a file `*.pt2`; written whole or not at all.
            layout: "padded", (B, T), or "packed", (N,) with `cu_seqlens`.
            dtype: of logp, old_logp and advantages: "float32", "float64", "bfloat16" or "float16".
            device: "cpu" or "cuda"; the code is for this processor, or the GPU of this machine.
            metrics: the names of those to compute; others cost nothing. None: all.

        Raises:
            ValueError: an argument that is none of these.
            OSError: the file cannot be written.
            PackageError: torch cannot build it here.
        """
        from fibdsl.ahead import export

        export(self, path, layout=layout, dtype=dtype, device=device, metrics=metrics)


def _array(tensor: Any) -> Any:
    """A numpy array of a tensor; bfloat16, which numpy lacks, becomes float32."""
    if type(tensor).__module__.partition(".")[0] != "torch":
        return tensor
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        tensor = tensor.float()
    return tensor.numpy()
