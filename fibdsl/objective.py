"""A checked objective: its parameters, its values by the reference, its loss as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fibc import driver
from fibc.analysis.facts import Facts
from fibc.analysis.require import decide_promises
from fibc.typed import TypedObjective, TypedParam
from fibdsl.diagnostics.diagnostic import Diagnostic, Diagnostics
from fibdsl.diagnostics.errors import FibError
from fibdsl.evaluation import Evaluation, as_array
from fibdsl.generated import imported
from fibdsl.parameters import Value, deciding_steps, fitting, shown_values
from fibdsl.runtime.schedules import Schedule, values_at

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from fibc.batch import Batch
    from fibc.ir.nodes import Program
    from fibdsl.runtime.loss import FusedLoss
    from fibdsl.runtime.naming import CellNames


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
        assigned = {**self.params, **self.schedules, **fitting(values, self)}
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
                tensors[name] = as_array(tensor)

        return make_batch(
            self.typed.levels,
            as_array(logp),
            as_array(old_logp),
            as_array(advantages),
            as_array(mask),
            {name: as_array(ids) for name, ids in (keys or {}).items()},
            as_array(cu_seqlens),
            tensors,
            budgets_of(
                self.name,
                self.program.budgets,
                self.params,
                cells,
                {level: as_array(tensor) for level, tensor in (budgets or {}).items()},
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
        loss: FusedLoss = imported(self.source(), self.name).Loss(
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
