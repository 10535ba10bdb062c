"""The loss module: parameters, checks, and one compiled joint graph a layout."""

from __future__ import annotations

import contextlib
import difflib
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed
import torch.fx.experimental._config
from torch import Tensor
from torch.distributed import ProcessGroup

from fibdsl.runtime.cells import Budgets, given_budget, said_budgets
from fibdsl.runtime.checks import Checks, binary, check_tokens, raise_for
from fibdsl.runtime.contract import LossOutput, Objective
from fibdsl.runtime.joint import Inputs, Outputs, Setup, Sums, joint
from fibdsl.runtime.layouts import BLOCK, BlockLayout, layout_of, padded_to_block, raw_ids
from fibdsl.runtime.naming import CellNames, cell_ids
from fibdsl.runtime.numerics import compute_dtype
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.schedules import Schedule, as_schedule, values_at
from fibdsl.runtime.sharing import (
    OwnCells,
    SharedCells,
    Sharing,
    in_pieces,
    numbered,
    numbered_as,
    own_cells,
    sharing_of,
)
from fibdsl.runtime.weights import Aggregates, Weights


class _SavedGradient(torch.autograd.Function):
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


_SIZES: Any = torch.fx.experimental._config

_GRADIENTS = ("averaged", "summed")


def _without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Trainers call losses under autocast; sums must keep their precision all the same."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """One graph for all sizes: sizes that happen to be equal in one batch are not the same size,
    and no size is special (1, or above where float32 sums are split)."""
    before = _SIZES.use_duck_shape, _SIZES.backed_size_oblivious
    # Set by hand: torch's own `patch` takes longer than the rest of a call.
    _SIZES.use_duck_shape, _SIZES.backed_size_oblivious = False, True
    try:
        yield
    finally:
        _SIZES.use_duck_shape, _SIZES.backed_size_oblivious = before


def _expect_large(logp: Tensor, given: Inputs) -> None:
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


class _Graph(NamedTuple):
    """What graphs are told apart by: each is compiled once, for all sizes of a number type.

    Attributes:
        budgets: the levels whose budgets are given as they are.
    """

    sharing: Sharing
    keep: bool
    earlier: bool
    budgets: tuple[str, ...]


class _Call(NamedTuple):
    """One call, checked: which graph to run and what it takes besides logp."""

    graph: _Graph
    logp: Tensor
    given: Inputs
    cells: SharedCells | None


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
        backend: str | Callable[..., Any] | None = "inductor",
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
        self.objective = objective
        self._wanted = _by_level(objective, metrics)
        self._names = tuple(name for names in self._wanted.values() for name in names)
        self._ranks = None if process_group is None else Ranks(process_group)
        averaged = self._ranks is not None and gradients == "averaged"
        self._scale = float(self._ranks.size) if averaged and self._ranks else 1.0
        self.guard: Callable[[dict[str, Any]], object] | None = None
        self._assigned: dict[str, float | Schedule] = {
            name: p.default for name, p in objective.params.items()
        }
        self._step = 0
        self._values: dict[str, float] = {}
        self._vectors: dict[torch.device, Tensor] = {}
        self._unset: dict[torch.device, Tensor] = {}
        self.set_params(**{**self.starting, **params})
        self._known: dict[torch.device, dict[str, Tensor]] = {}
        self.set_cells(cells)

        self._backend = backend
        self._compiled: dict[_Graph, Callable[[Tensor, Inputs], Outputs]] = {}
        self._hinted: set[tuple[_Graph, torch.dtype, torch.device]] = set()

    def _function(self, graph: _Graph) -> Callable[[Tensor, Inputs], Outputs]:
        """The compiled graph. Which levels are shared is part of its code."""
        if graph not in self._compiled:
            # With the aggregates of an earlier pass a rank has all it needs.
            ranks = None if graph.earlier else self._ranks
            setup = Setup(self.objective, ranks, graph.sharing, graph.keep, self._wanted)

            # A fresh function, so that each module has a cache of compiled graphs of its own.
            def function(logp: Tensor, given: Inputs) -> Outputs:
                return joint(setup, logp, given)

            self._compiled[graph] = (
                function
                if self._backend is None
                else torch.compile(function, backend=self._backend, fullgraph=True, dynamic=True)
            )
        return self._compiled[graph]

    def _run(self, call: _Call) -> Outputs:
        """Runs the graph, and raises what it found to be wrong with the batch."""
        function = self._function(call.graph)
        logp = call.logp.detach().contiguous()
        kind = call.graph, logp.dtype, logp.device
        if self._backend is not None and call.cells is None and kind not in self._hinted:
            # Cells numbered before the graph have sizes of their own, which hints would contradict.
            self._hinted.add(kind)
            _expect_large(logp, call.given)
        with torch.no_grad(), _without_autocast(logp.device), _any_size():
            out = function(logp, call.given)
        raise_for(out.checks)
        return out

    @property
    def params(self) -> dict[str, float]:
        """The parameter values now in force (a copy)."""
        return dict(self._values)

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The parameters that change from step to step (a copy)."""
        return {n: value for n, value in self._assigned.items() if isinstance(value, Schedule)}

    @property
    def step(self) -> int:
        """The step that schedules are at: the last `set_step`, 0 before it."""
        return self._step

    def set_params(self, /, **params: float | Schedule) -> None:
        """Changes parameter values; all or, if one is wrong, none. Never recompiles.

        A value is a number, or a schedule (`fibdsl.schedules`), which `set_step` then follows.

        Raises:
            ValueError: an unknown parameter, or a value outside its range, at any step.
            FibError: the spec's promises (`require`) do not hold at the new values (of schedules,
                where they start, turn and end); only modules of `Objective.compile` can tell.
        """
        self._change(self._checked(params), self._step, whole=True)

    def set_step(self, step: int, /) -> None:
        """Sets the parameters that have schedules to their values at a step. Never recompiles.

        Raises:
            ValueError: no parameter has a schedule; `step` is no whole number, or below 0.
            FibError: the spec's promises do not hold there; as of `set_params`.
        """
        if not self.schedules:
            raise ValueError(
                f"no parameter of '{self.objective.name}' has a schedule, so set_step has no "
                "effect; set_params takes schedules, fibdsl.schedules.linear(...) for one"
            )
        self._change(self._assigned, step, whole=False)

    def _checked(self, params: Mapping[str, float | Schedule]) -> dict[str, float | Schedule]:
        """The values now in force, with these in their places."""
        known = self.objective.params
        assigned = dict(self._assigned)
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"objective '{self.objective.name}' has no parameter '{name}'; "
                    f"it has: {', '.join(known) or 'none'}"
                )
            schedule = as_schedule(value)
            if schedule is not None:
                assigned[name], ends = schedule, schedule.bounds
            elif isinstance(value, int | float) and not isinstance(value, bool):
                assigned[name] = number = float(value)
                ends = number, number
            else:
                raise ValueError(f"parameter '{name}' is a number, not {value!r}")
            if not all(map(known[name].holds, ends)):
                raise ValueError(f"{name} = {value} is outside its range {known[name].range()}")
        return assigned

    def _change(self, assigned: dict[str, float | Schedule], step: int, whole: bool) -> None:
        """Makes these the values, at this step; `whole` if schedules may be new."""
        values = values_at(assigned, step)
        if self.guard is not None:
            # What the spec promises (`require`) must hold at the new values too.
            if whole and values != assigned:
                self.guard(dict(assigned))
            self.guard(dict(values))
        self._assigned, self._step = assigned, int(step)
        if values != self._values:
            self._values = values
            self._vectors.clear()

    def set_cells(self, cells: CellNames | None) -> None:
        """Says which ids the named cells have, in place of what was said before. Never recompiles.

        Raises:
            ValueError: a key or name that the objective does not have, a name of a key without an
                id, two names of one id.
        """
        names = {b.key: b.names for b in self.objective.budgets.values() if b.names}
        self._cells = cell_ids(self.objective.name, names, cells)
        self._known.clear()

    def get_extra_state(self) -> dict[str, Any]:
        # Of plain types, which torch.load takes without trusting the file.
        state: dict[str, Any] = dict(self._values)
        state |= {name: dict(vars(schedule)) for name, schedule in self.schedules.items()}
        # No parameter has this name: there is a space in it.
        return state | {"at step": self._step} if self._step or self.schedules else state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        params = {n: Schedule(**v) if isinstance(v, dict) else v for n, v in state.items()}
        step: Any = params.pop("at step", 0)
        self._change(self._checked(params), step, whole=True)

    def extra_repr(self) -> str:
        shown = [self.objective.name, *(f"{k}={v:g}" for k, v in self._values.items())]
        shown += [f"step={self._step}"] if self.schedules else []
        for key, names, _, _ in self.objective.budgets.values():
            for name, number in zip(names, self._cells.get(key, ()), strict=False):
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
                self._refuse_parts(normalizers, whole_cells, keys or {})
            else:
                self._refuse_aggregates(aggregates, normalizers, whole_cells)

        tokens = logp, old_logp, advantages, mask
        given = {"rollout_logp": rollout_logp, "ref_logp": ref_logp}
        call = self._call(
            refuse, *tokens, keys, cu_seqlens, normalizers, False, aggregates, given, budgets
        )
        out = self._run(call)
        loss = out.loss
        if logp.requires_grad and torch.is_grad_enabled():
            grad = out.grad if logp.numel() else out.grad.new_zeros(logp.shape)
            loss = _SavedGradient.apply(logp, loss, grad, self._scale)  # type: ignore[no-untyped-call]
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
            self._refuse_parts(None, whole_cells, keys or {})
            if keep_aggregates and self.objective.whole is None:
                raise ValueError(
                    f"'{self.objective.name}' has no cells in several rows, so keep_aggregates "
                    "has no effect; call it on parts with normalizers"
                )

        tokens = logp, old_logp, advantages, mask
        given = {"rollout_logp": rollout_logp, "ref_logp": ref_logp}
        call = self._call(
            refuse, *tokens, keys, cu_seqlens, None, keep_aggregates, None, given, budgets
        )
        out = self._run(call)
        named = self._named(out.metrics)
        if stale:
            named["approximate/stale"] = torch.ones_like(out.loss)
        kept = None
        if keep_aggregates and call.cells is not None:
            kept = Aggregates(self.objective.semantic_hash, call.cells, out.sums)
        grad = out.grad if logp.numel() else out.grad.new_zeros(logp.shape)
        weights = grad * self._scale if self._scale != 1.0 else grad
        return Weights(out.loss, named, weights, logp.detach(), mask != 0, stale, kept)

    def _named(self, metrics: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._names, metrics.unbind(), strict=True))

    def _refuse_parts(
        self, normalizers: Mapping[str, Any] | None, whole_cells: bool, keys: Mapping[str, Tensor]
    ) -> None:
        """A part's own aggregates and counts make another objective of it, silently."""
        name, level = self.objective.name, self.objective.whole
        if self._ranks is not None:
            idle = "normalizers have" if normalizers else "whole_cells has" if whole_cells else ""
            if idle:
                raise ValueError(
                    f"{idle} no effect with a process_group, whose ranks count together; cut a "
                    "batch by `weigh`"
                )
            return
        if whole_cells:
            return
        if level is None and in_pieces(self.objective, keys):
            level = "trajectory"
        if normalizers and level is not None:
            raise ValueError(
                f"'{name}' looks at whole cells of level '{level}', and normalizers say that this "
                f"is a part of a batch: a part of a '{level}' would be taken for the whole. Weigh "
                f"the whole batch first (`weigh`), or say whole_cells=True if every '{level}' is "
                "in one part"
            )
        if not normalizers and _ranks_running() > 1:
            raise ValueError(
                f"torch.distributed runs {_ranks_running()} ranks, and '{name}' would be averaged "
                "over the rows of this one"
                + (f" and take its part of a '{level}' for the whole" if level else "")
                + ". Compile it with process_group=..., or say whole_cells=True (and the "
                "normalizers of the whole) if each rank's rows are a batch of their own"
            )

    def _refuse_aggregates(
        self,
        aggregates: Aggregates,
        normalizers: Mapping[str, Any] | None,
        whole_cells: bool,
    ) -> None:
        if whole_cells:
            raise ValueError("whole_cells has no effect with aggregates, which no part cuts")
        if aggregates.semantic_hash != self.objective.semantic_hash:
            raise ValueError("these aggregates are of another objective")
        outermost = self.objective.outermost
        if outermost is not None and not normalizers:
            raise ValueError(
                f"aggregates of an earlier pass are for parts of a batch: give the number of "
                f"'{outermost}' cells of the whole, normalizers={{'{outermost}': ...}}"
            )

    def _call(
        self,
        refuse: Callable[[], None],
        logp: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        mask: Tensor,
        keys: Mapping[str, Tensor] | None,
        cu_seqlens: Tensor | BlockLayout | None,
        normalizers: Mapping[str, float | Tensor] | None,
        keep: bool,
        earlier: Aggregates | None,
        others: Mapping[str, Tensor | None],
        budgets: Mapping[str, Tensor] | None,
    ) -> _Call:
        """Checks the arguments, on all ranks together, and numbers the cells that are shared."""
        objective, ranks = self.objective, None if earlier is not None else self._ranks
        several = ranks is not None or keep or earlier is not None
        keys = keys or {}
        together = several or in_pieces(objective, keys)
        error: Exception | None = None
        facts = (0,) * len(_COMMON)
        ids: dict[str, Tensor] = {}
        said: tuple[str, ...] = ()
        own_budgets: dict[str, Tensor] = {}
        own: OwnCells | None = None
        extra: dict[str, Tensor] = {}
        try:
            refuse()
            extra = self._extra(others)
            said = said_budgets(objective, self._cells, budgets)
            own_budgets = {level: (budgets or {})[level] for level in said}
            if ranks is not None and isinstance(logp, Tensor) and logp.numel() == 0:
                # A rank without rows takes part with one that is all mask.
                logp, old_logp, advantages, mask, keys, cu_seqlens = _nothing(
                    logp, old_logp, advantages, keys, cu_seqlens
                )
                extra = {name: torch.zeros_like(logp) for name in extra}
                own_budgets = {level: torch.zeros_like(logp) for level in said}
            tokens = {"logp": logp, "old_logp": old_logp, "advantages": advantages, "mask": mask}
            tokens |= extra
            check_tokens(tokens, cu_seqlens is not None)
            normalizer = self._normalizer(normalizers, logp.device)
            layout = None if cu_seqlens is None else layout_of(cu_seqlens, logp)
            rows = logp.shape[0] if layout is None else layout.cu_seqlens.shape[0] - 1
            own_budgets = {
                level: given_budget(objective, level, budget, rows, logp, layout)
                for level, budget in own_budgets.items()
            }
            if together:
                checks = Checks()
                mask = binary(mask, checks)
                raise_for(checks.conditions)
                own = own_cells(objective, keys, mask, layout, rows, several)
                if (keep or earlier is not None) and in_pieces(objective, keys):
                    raise ValueError("aggregates are not kept for pieces of trajectories")
                facts = self._common(logp, old_logp, advantages, keys, said)
            if self._by_names(said) or not together:
                ids = raw_ids(objective.levels, keys, rows, mask, layout)
                if together:
                    ids = {level: ids[level] for level in self._by_names(said)}
        except Exception as found:  # of any kind: other ranks must not wait for this one
            error = found
        if ranks is not None:
            ranks.agree(error, facts, _COMMON)
        elif error is not None:
            raise error
        cells: SharedCells | None = None
        if own is not None:
            cells = numbered(own, ranks) if earlier is None else numbered_as(own, earlier.cells)
        sharing = cells.sharing if cells is not None else sharing_of(objective, keys, several)
        if len({t.dtype for t in (logp, old_logp, advantages, *extra.values())}) > 1:
            # Mixed types would each be a graph of their own.
            dtype = _promoted(logp, old_logp, advantages, *extra.values())
            logp, old_logp, advantages = (t.to(dtype) for t in (logp, old_logp, advantages))
            extra = {name: t.to(dtype) for name, t in extra.items()}
        if layout is not None:
            logp, old_logp, advantages, mask = map(
                padded_to_block, (logp, old_logp, advantages, mask)
            )
            extra = {name: padded_to_block(t) for name, t in extra.items()}
        sums: Sums | None = None
        if earlier is not None:
            dtype = compute_dtype(logp.dtype)
            first, second = (tuple(t.to(dtype) for t in each) for each in earlier.sums)
            sums = first, second
        given = Inputs(
            old_logp.detach().contiguous(),
            advantages.detach().contiguous(),
            _loadable(mask).contiguous(),
            self._vector(logp.device),
            normalizer,
            ids,
            cells.parents if cells is not None else None,
            cells.sizes if cells is not None else (),
            layout,
            sums,
            {name: t.detach().contiguous() for name, t in extra.items()},
            Budgets(
                {level: self._ids(level, logp.device) for level in self._by_names(said)},
                {
                    level: budget.to(compute_dtype(logp.dtype)).contiguous()
                    for level, budget in own_budgets.items()
                },
            ),
        )
        graph = _Graph(sharing, keep, earlier is not None, said)
        return _Call(graph, logp, given, cells)

    def _extra(self, given: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """The tensors that the objective looks at besides those of every batch."""
        found = {}
        for name in self.objective.tensors:
            if name in ("logp", "old_logp"):
                continue
            tensor = given.get(name)
            if tensor is None:
                raise ValueError(
                    f"objective '{self.objective.name}' looks at {name}: give it, {name}=..., "
                    "shaped like logp"
                )
            found[name] = tensor
        return found

    def _by_names(self, said: tuple[str, ...]) -> list[str]:
        """The levels whose budgets are known by name, where those of `said` are given."""
        return [
            level
            for level, budget in self.objective.budgets.items()
            if budget.names and level not in said
        ]

    def _ids(self, level: str, device: torch.device) -> Tensor:
        """The ids of the named cells of a level."""
        if device not in self._known:
            self._known[device] = {}
        known = self._known[device]
        if level not in known:
            ids = self._cells[self.objective.budgets[level].key]
            known[level] = torch.tensor(ids, dtype=torch.int64).to(device)
        return known[level]

    def _common(
        self,
        logp: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        keys: Mapping[str, Tensor],
        said: tuple[str, ...],
    ) -> tuple[int, ...]:
        """What all ranks have to agree on, as numbers."""
        dtype = str(_promoted(logp, old_logp, advantages))
        values = struct.pack(f"{len(self._values)}d", *self._values.values())
        return (
            zlib.crc32(self.objective.semantic_hash.encode()),
            zlib.crc32(values),
            zlib.crc32(dtype.encode()),
            int(in_pieces(self.objective, keys)),
            int(self._scale),
            zlib.crc32(repr((sorted(self._cells.items()), said)).encode()),
        )

    def _vector(self, device: torch.device) -> Tensor:
        if device not in self._vectors:
            values = torch.tensor([*self._values.values(), 0.0], dtype=torch.float64)
            self._vectors[device] = values.to(device)
        return self._vectors[device]

    def _normalizer(
        self, normalizers: Mapping[str, float | Tensor] | None, device: torch.device
    ) -> Tensor:
        """The given number of outermost cells, or NaN for the batch's own."""
        outermost = self.objective.outermost
        for name in normalizers or {}:
            if name != outermost:
                wanted = f"the one it uses is '{outermost}'" if outermost else "it uses none"
                raise ValueError(
                    f"normalizers['{name}'] has no effect on '{self.objective.name}'; {wanted}"
                )
        value = (normalizers or {}).get(outermost or "")
        if value is None:
            # Made once a device: an upload a call would make the host wait.
            if device not in self._unset:
                self._unset[device] = torch.tensor(math.nan, dtype=torch.float64).to(device)
            return self._unset[device]
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(
                    f"normalizers['{outermost}'] is one number, not {tuple(value.shape)}"
                )
            return value.detach().reshape(()).to(device=device, dtype=torch.float64)
        if not value >= 1:
            raise ValueError(f"normalizers['{outermost}'] = {value} is not a count of 1 or more")
        return torch.tensor(value, dtype=torch.float64).to(device)


_COMMON = (
    "the objective",
    "its parameters",
    "the number type",
    "whether rows are pieces",
    "how their gradients are put together",
    "the budgets of cells",
)


def _loadable(mask: Tensor) -> Tensor:
    """The mask as float32 on a CPU, where the graph's loads of bytes are several times slower."""
    mask = mask.detach()
    return mask.to(torch.float32) if mask.device.type == "cpu" else mask


def _ranks_running() -> int:
    """How many ranks torch.distributed has in this process's default group; 1 without it."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


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


def _promoted(*tensors: Tensor) -> torch.dtype:
    """The type that tensors of several types are computed in; their own if it is one."""
    types = {t.dtype for t in tensors}
    if len(types) == 1:
        return types.pop()
    common = tensors[0].dtype
    for tensor in tensors[1:]:
        common = torch.promote_types(common, tensor.dtype)
    return compute_dtype(common)


def _nothing(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    keys: Mapping[str, Tensor] | None,
    cu_seqlens: Tensor | BlockLayout | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor], Tensor | None]:
    """The arguments of a batch of one token under the mask."""
    shape = (1,) if cu_seqlens is not None else (1, 1)
    token, old, advantage = (t.new_zeros(shape) for t in (logp, old_logp, advantages))
    mask = torch.zeros(shape, dtype=torch.bool, device=logp.device)
    ids = torch.zeros(1, dtype=torch.int64, device=logp.device)
    offsets = None if cu_seqlens is None else ids.new_tensor([0, 1])
    return token, old, advantage, mask, dict.fromkeys(keys or {}, ids), offsets
