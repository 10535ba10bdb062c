"""The loss module: what users call."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fibdsl.runtime.calls import Arguments, Calls
from fibdsl.runtime.contract import LossOutput, Objective
from fibdsl.runtime.graphs import Backend, Graphs, SavedGradient
from fibdsl.runtime.layouts import BlockLayout
from fibdsl.runtime.naming import CellNames
from fibdsl.runtime.params import Params
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.refusals import refuse_aggregates, refuse_parts
from fibdsl.runtime.schedules import Schedule
from fibdsl.runtime.weights import Aggregates, Weights

_GRADIENTS = ("averaged", "summed")


class FusedLoss(torch.nn.Module):
    """A policy loss with its gradient, compiled into one graph a layout and number type.

    Args:
        backend: of torch.compile (a name or a function); None runs the same code eagerly, for
            debugging.
        metrics: the names of those to compute (all: `objective.metrics`); others cost nothing.
            None: all.
        process_group: the ranks that hold a batch together, each some of its rows; every rank of
            the group calls the loss the same number of times. None: a batch is one call.
        gradients: how the ranks' gradients are put together, needed with `process_group`:
            "averaged" as by DDP and FSDP, or "summed". Loss and metrics are those of the whole
            batch on every rank either way.
        cells: which ids the named cells of the objective have, by key and name, where it has
            budgets for them (`objective.budgets`): {"data_source": {"math": 0, "code": 7}}.
        guard: called with all values before any change; raises to refuse it (an attribute).
        **params: values of the objective's parameters, numbers or schedules; the others have their
            defaults.

    Attributes:
        starting: the schedules that modules of this class start with.

    Raises:
        ValueError: an unknown parameter, metric or cell, a value outside its range, a named cell
            without an id.
    """

    starting: ClassVar[Mapping[str, Schedule]] = {}

    def __init__(
        self,
        objective: Objective,
        /,
        backend: Backend = "inductor",
        *,
        metrics: Sequence[str] | None = None,
        process_group: ProcessGroup | None = None,
        gradients: str | None = None,
        cells: CellNames | None = None,
        **params: float | Schedule,
    ) -> None:
        super().__init__()
        if (process_group is None) != (gradients is None):
            raise ValueError(
                "`gradients` says how the ranks of `process_group` put their gradients together: "
                "give both, gradients='averaged' under DDP and FSDP, or neither"
            )
        if gradients is not None and gradients not in _GRADIENTS:
            raise ValueError(f"gradients is 'averaged' or 'summed', not {gradients!r}")
        ranks = None if process_group is None else Ranks(process_group)
        wanted = _by_level(objective, metrics)
        self.objective = objective
        self.wanted = tuple(name for names in wanted.values() for name in names)
        self.graphs = Graphs(objective, backend, ranks, wanted)
        self._params = Params(objective)
        averaged = ranks is not None and gradients == "averaged"
        scale = float(ranks.size) if averaged and ranks else 1.0
        self.calls = Calls(objective, self._params, ranks, scale)
        self.set_params(**{**self.starting, **params})
        self.set_cells(cells)

    @property
    def params(self) -> dict[str, float]:
        """The parameter values now in force (a copy)."""
        return dict(self._params.values)

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The parameters that change from step to step (a copy)."""
        return self._params.schedules

    @property
    def step(self) -> int:
        """The step that schedules are at: the last `set_step`, 0 before it."""
        return self._params.step

    @property
    def guard(self) -> Callable[[dict[str, Any]], object] | None:
        """Called with all values before any change; raises to refuse it."""
        return self._params.guard

    @guard.setter
    def guard(self, guard: Callable[[dict[str, Any]], object] | None) -> None:
        self._params.guard = guard

    def set_params(self, /, **params: float | Schedule) -> None:
        """Changes parameter values; all or, if one is wrong, none. Never recompiles.

        A value is a number, or a schedule (`fibdsl.schedules`), which `set_step` then follows.

        Raises:
            ValueError: an unknown parameter, or a value outside its range, at any step.
            FibError: the spec's promises (`require`) do not hold at the new values (of schedules,
                where they start, turn and end); only modules of `Objective.compile` can tell.
        """
        self._params.assign(params)

    def set_step(self, step: int, /) -> None:
        """Sets the parameters that have schedules to their values at a step. Never recompiles.

        Raises:
            ValueError: no parameter has a schedule; `step` is no whole number, or below 0.
            FibError: the spec's promises do not hold there; as of `set_params`.
        """
        self._params.advance(step)

    def set_cells(self, cells: CellNames | None) -> None:
        """Says which ids the named cells have, in place of what was said before. Never recompiles.

        Raises:
            ValueError: a key or name that the objective does not have, a name of a key without an
                id, two names of one id.
        """
        self.calls.name(cells)

    def get_extra_state(self) -> dict[str, Any]:
        # Of plain types, which torch.load takes without trusting the file.
        state: dict[str, Any] = self.params
        state |= {name: dict(vars(schedule)) for name, schedule in self.schedules.items()}
        # No parameter has this name: there is a space in it.
        return state | {"at step": self.step} if self.step or self.schedules else state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        params = {n: Schedule(**v) if isinstance(v, dict) else v for n, v in state.items()}
        step: Any = params.pop("at step", 0)
        self._params.assign(params, step)

    def extra_repr(self) -> str:
        shown = [self.objective.name, *(f"{k}={v:g}" for k, v in self.params.items())]
        shown += [f"step={self.step}"] if self.schedules else []
        for key, names, _, _ in self.objective.budgets.values():
            for name, number in zip(names, self.calls.cells.get(key, ()), strict=False):
                shown.append(f"{key}.{name}={number}")
        return ", ".join(shown)

    def forward(
        self,
        logp: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        mask: Tensor,
        keys: Mapping[str, Tensor] | None = None,
        *,
        rollout_logp: Tensor | None = None,
        ref_logp: Tensor | None = None,
        budgets: Mapping[str, Tensor] | None = None,
        cu_seqlens: Tensor | BlockLayout | None = None,
        normalizers: Mapping[str, float | Tensor] | None = None,
        whole_cells: bool = False,
        aggregates: Aggregates | None = None,
    ) -> LossOutput:
        """The loss of a batch.

        Args:
            logp: log-probabilities of the sampled tokens under the policy being trained, nats,
                (B, T) padded or (N,) packed; float64, float32, bfloat16 or float16. The loss is
                differentiable with respect to it alone.
            old_logp: the same under the policy that sampled, shape of `logp`.
            advantages: shape of `logp`.
            mask: bool or 0/1, shape of `logp`. What is under 0 never matters, NaN included.
            keys: integer ids of the cells of each keyed level, (B,) a trajectory or shaped like
                `logp`. Ids of levels finer than the trajectory count within it. Ids the
                objective has no level for are not looked at. `trajectory`, (B,): rows of equal ids
                are pieces of one trajectory.
            rollout_logp: the log-probabilities that the inference engine reported, shape of `logp`;
                needed where the objective looks at it (`objective.tensors`), else not looked at.
            ref_logp: those of a reference policy, likewise.
            budgets: in place of budgets by name (`cells`): by level the budget of the cell that
                each trajectory, (B,), or token, shaped like `logp`, is in; above 0, and the same
                in all of a cell; in the unit of the signal.
            cu_seqlens: for packed tensors: int32 or int64 (B + 1,), row offsets from 0 to N; or
                the `block_layout` of these, made once for several calls on a batch.
            normalizers: where the batch is part of a larger one: the number of outermost cells
                (tokens, trajectories, ...) of the whole, by level name, 1 or more. Losses and
                gradients of the parts then add up. Refused where they would not: see `weigh`.
            whole_cells: that no cell that is gated, that a censor shares, or that `reduce` names
                lies in two parts (or on two ranks that no `process_group` joins), so that parts may
                be evaluated by themselves.
            aggregates: of an earlier `weigh(..., keep_aggregates=True)` over the whole batch: an
                approximation. Levels with cells in several rows take their aggregates from there,
                without derivative, and all else is that of this call, so that it may be any part
                of the batch: no other rank is waited for. Needs the `normalizers` of the whole,
                and the metrics hold `approximate/aggregates`, 1.

        Returns:
            The loss (0-dim, float32 or better) and the metrics; of the whole batch on every rank.

        Raises:
            ValueError: shapes, ranges, missing or contradictory keys, naming tensor and level; a
                part of a batch whose loss is no part of the loss, naming the level.
            TypeError: a tensor of the wrong type.
        """

        def refuse() -> None:
            if aggregates is None:
                ranks = self.graphs.ranks
                refuse_parts(self.objective, ranks, normalizers, whole_cells, keys or {})
            else:
                refuse_aggregates(self.objective, aggregates, normalizers, whole_cells)

        others = {"rollout_logp": rollout_logp, "ref_logp": ref_logp}
        arguments = Arguments(
            logp, old_logp, advantages, mask, keys, cu_seqlens, normalizers, others, budgets
        )
        call = self.calls.call(refuse, arguments, earlier=aggregates)
        out = self.graphs.run(call.graph, call.logp, call.given)
        loss = out.loss
        if logp.requires_grad and torch.is_grad_enabled():
            grad = out.grad if logp.numel() else out.grad.new_zeros(logp.shape)
            loss = SavedGradient.apply(logp, loss, grad, self.calls.scale)  # type: ignore[no-untyped-call]
        named = self._named(out.metrics)
        if aggregates is not None:
            named["approximate/aggregates"] = torch.ones_like(out.loss)
        return LossOutput(loss, named)

    def weigh(
        self,
        logp: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        mask: Tensor,
        keys: Mapping[str, Tensor] | None = None,
        *,
        rollout_logp: Tensor | None = None,
        ref_logp: Tensor | None = None,
        budgets: Mapping[str, Tensor] | None = None,
        cu_seqlens: Tensor | BlockLayout | None = None,
        stale: bool = False,
        whole_cells: bool = False,
        keep_aggregates: bool = False,
    ) -> Weights:
        """The exact gradient of a batch that is trained in micro-batches.

        Give all rows of the mini-batch (of this rank, with a `process_group`) and their
        log-probabilities from a forward pass without gradient; on the first step after sampling
        these are `old_logp`, and no such pass is needed. Then `Weights.part` is the loss of each
        micro-batch. Other arguments, errors and metrics are those of a call.

        Args:
            stale: that `logp` is from an earlier pass, of another policy than the one trained: an
                approximation, which saves the pass. The metrics then hold `approximate/stale`, 1.
            whole_cells: as of a call: that the rows are a batch of their own.
            keep_aggregates: keep the aggregates of levels with cells in several rows, for later
                calls (`aggregates=`).

        Returns:
            Loss and metrics of the batch, and d loss / d logp of each token, shaped like `logp`.

        Raises:
            ValueError, TypeError: as a call; `keep_aggregates` where there are none.
        """

        def refuse() -> None:
            refuse_parts(self.objective, self.graphs.ranks, None, whole_cells, keys or {})
            if keep_aggregates and self.objective.whole is None:
                raise ValueError(
                    f"'{self.objective.name}' has no cells in several rows, so keep_aggregates "
                    "has no effect; call it on parts with normalizers"
                )

        others = {"rollout_logp": rollout_logp, "ref_logp": ref_logp}
        arguments = Arguments(
            logp, old_logp, advantages, mask, keys, cu_seqlens, None, others, budgets
        )
        call = self.calls.call(refuse, arguments, keep=keep_aggregates)
        out = self.graphs.run(call.graph, call.logp, call.given)
        named = self._named(out.metrics)
        if stale:
            named["approximate/stale"] = torch.ones_like(out.loss)
        kept = None
        if out.cells is not None:
            kept = Aggregates(self.objective.semantic_hash, out.cells, out.sums)
        grad = out.grad if logp.numel() else out.grad.new_zeros(logp.shape)
        scale = self.calls.scale
        weights = grad * scale if scale != 1.0 else grad
        return Weights(out.loss, named, weights, logp.detach(), mask != 0, stale, kept)

    def _named(self, metrics: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.wanted, metrics.unbind(), strict=True))


def _by_level(objective: Objective, metrics: Sequence[str] | None) -> dict[str, list[str]]:
    """The wanted metrics, all if None, by the level they are a mean over."""
    if isinstance(metrics, str):
        raise ValueError(f"metrics is a list of names: metrics=[{metrics!r}]")
    known = objective.metrics
    unknown = [name for name in metrics or () if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 3, 0.4) or list(known)
        raise ValueError(
            f"objective '{objective.name}' has no metric '{unknown[0]}'; "
            f"it has, among others: {', '.join(near)}"
        )
    wanted: dict[str, list[str]] = {}
    for name, level in known.items():
        if metrics is None or name in metrics:
            wanted.setdefault(level, []).append(name)
    return wanted
