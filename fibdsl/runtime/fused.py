"""The loss module: batch layouts, cells, and one joint graph that returns loss and gradient.

This file is copied whole into every generated module, so it imports only torch and the standard
library, and knows nothing of any one objective: a generated module gives it an `Objective`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.fx.experimental._config
from torch import Tensor

BLOCK = 64
"""Tokens a block of the packed layout: rows are cut into blocks, each summed densely."""


class LossOutput(NamedTuple):
    """What a loss module returns.

    Attributes:
        loss: 0-dim, to be minimised; its backward pass scales a gradient already computed.
        metrics: 0-dim tensors by name, without gradient.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


# --- levels: sums over children, and lifts to them ----------------------------------------------


class Rows:
    """Padded tokens (B, T) in trajectories (B,)."""

    def sum(self, values: Tensor) -> Tensor:
        return values.sum(-1)

    def lift(self, values: Tensor) -> Tensor:
        return values.unsqueeze(-1)


class Blocks:
    """Packed tokens, in blocks (n, BLOCK) each of one trajectory, in trajectories (B,)."""

    def __init__(self, row: Tensor, rows: int) -> None:
        self.row = row
        self.rows = rows

    def sum(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.rows).index_add(0, self.row, values.sum(-1))

    def lift(self, values: Tensor) -> Tensor:
        return values[self.row].unsqueeze(-1)


class Cells:
    """Cells, or tokens, in the coarser cells that `parent` names.

    There can be no more coarser cells than finer ones, so `size` needs no count of the ids.
    """

    def __init__(self, parent: Tensor, size: int) -> None:
        self.parent = parent
        self.size = size

    def sum(self, values: Tensor) -> Tensor:
        out = values.new_zeros(self.size)
        return out.index_add(0, self.parent.reshape(-1), values.reshape(-1))

    def lift(self, values: Tensor) -> Tensor:
        return values[self.parent]


def present(count: Tensor) -> Tensor:
    """1.0 in cells with members, 0.0 in empty ones."""
    return (count > 0).to(count.dtype)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """The mean over the members of a cell; 0 in an empty one."""
    return total / count.clamp(min=1)


def total(values: Tensor) -> Tensor:
    """The sum of all values (0-dim): row by row first, so that float32 sums stay short."""
    return values.sum() if values.dim() < 2 else values.sum(-1).sum()


def average(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of `values` where `weight` is 1 (0-dim); 0 where there is nothing to average."""
    return total(values * weight) / total(weight).clamp(min=1)


def shares(regime: Tensor, regimes: int, counted: Tensor, weight: Tensor) -> Tensor:
    """The weight `counted` of the cells in each regime, (regimes,), over all of `weight`."""
    index = torch.arange(regimes, device=regime.device).reshape(-1, *[1] * regime.dim())
    hits = torch.where(regime.unsqueeze(0) == index, counted, 0.0).sum(-1)
    return (hits if hits.dim() == 1 else hits.sum(-1)) / total(weight).clamp(min=1)


# --- numerics -----------------------------------------------------------------------------------


def exp(x: Tensor) -> Tensor:
    """e^x, saturating below the largest finite number so that 0 * ratio stays 0."""
    return torch.exp(x.clamp(max=_log_max(x.dtype)))


def expm1(x: Tensor) -> Tensor:
    """e^x - 1, saturating like `exp`."""
    return torch.expm1(x.clamp(max=_log_max(x.dtype)))


def by_sign(x: Tensor, upper: Any, lower: Any) -> Tensor:
    """`upper` where x >= 0, else `lower`; numbers or 0-dim tensors, result of x's type."""
    return torch.where(x >= 0, upper * torch.ones_like(x), lower * torch.ones_like(x))


def lowered(gated: Tensor, x: Tensor) -> Tensor:
    """The gate where it lowers x, else x: the pessimistic gate for advantages >= 0. Where both are
    equal x is taken, whose slope is 1."""
    return torch.where(gated < x, gated, x)


def raised(gated: Tensor, x: Tensor) -> Tensor:
    """The gate where it raises x, else x: the pessimistic gate for advantages < 0."""
    return torch.where(gated > x, gated, x)


def _log_max(dtype: torch.dtype) -> float:
    return 709.0 if dtype == torch.float64 else 88.0


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type sums are accumulated in: float32 or better."""
    return torch.float64 if dtype == torch.float64 else torch.float32


# --- an objective -------------------------------------------------------------------------------


class Parameter(NamedTuple):
    """A run-time value of an objective and the range it must stay in."""

    default: float
    space: str
    low: float
    high: float
    low_open: bool
    high_open: bool

    def holds(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    def range(self) -> str:
        opening, closing = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{opening}{self.low:g}, {self.high:g}{closing}"


@dataclass(frozen=True)
class Objective:
    """What a generated module says about itself.

    Attributes:
        loss: (x, advantages, mask, params, levels, normalizer) -> (loss, values to measure).
        measure: (x, advantages, mask, params, levels, *values) -> metrics (M,).
        levels: (name, key or None) from the first level above the token to the coarsest.
        outermost: the level whose cells the loss is a mean over, or None.
    """

    name: str
    params: dict[str, Parameter]
    levels: tuple[tuple[str, str | None], ...]
    metrics: tuple[str, ...]
    outermost: str | None
    loss: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
    measure: Callable[..., Tensor]


def joint_padded(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    parents: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, d loss / d logp, metrics) of a padded batch, in one graph."""
    levels = _levels(objective, Rows(), logp.shape[0], parents)
    loss, grad, metrics = _joint(
        objective, logp, old_logp, advantages, mask, params, normalizer, levels
    )
    return loss, grad.to(logp.dtype), metrics


def joint_packed(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    parents: tuple[Tensor, ...],
    source: Tensor,
    inside: Tensor,
    row: Tensor,
    position: Tensor,
    cu_seqlens: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for packed tokens (N,), gathered into blocks and back inside the graph."""
    rows = cu_seqlens.shape[0] - 1
    levels = _levels(objective, Blocks(row, rows), rows, parents)
    loss, grad, metrics = _joint(
        objective,
        logp[source],
        old_logp[source],
        advantages[source],
        mask[source] & inside,
        params,
        normalizer,
        levels,
    )
    return loss, grad.reshape(-1)[position].to(logp.dtype), metrics


def _joint(
    objective: Objective,
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    params: Tensor,
    normalizer: Tensor,
    levels: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(logp.dtype)
    # `where`, never a product: what is under the mask may be NaN.
    x = torch.where(mask, logp.to(dtype) - old_logp.to(dtype), 0.0)
    advantages = torch.where(mask, advantages.to(dtype), 0.0)
    weight = mask.to(dtype)
    params, normalizer = params.to(dtype), normalizer.to(dtype)

    def loss_of(x: Tensor) -> tuple[Tensor, tuple[Tensor, tuple[Tensor, ...]]]:
        loss, values = objective.loss(x, advantages, weight, params, levels, normalizer)
        return loss, (loss, values)

    grad, (loss, values) = torch.func.grad(loss_of, has_aux=True)(x)
    metrics = objective.measure(x, advantages, weight, params, levels, *values)
    return loss, torch.where(mask, grad, 0.0), metrics


def _levels(
    objective: Objective, rows: Any, n_rows: int, parents: tuple[Tensor, ...]
) -> dict[str, Any]:
    """For each level, how the next finer one sums into it."""
    levels: dict[str, Any] = {}
    names = [name for name, _ in objective.levels]
    keyed = iter(parents)
    for index, name in enumerate(names):
        if name == "trajectory":
            # Directly above the token a trajectory is a row; above turns, say, it is a cell.
            levels[name] = rows if index == 0 else Cells(next(keyed), n_rows)
        else:
            parent = next(keyed)
            levels[name] = Cells(parent, parent.numel())
    levels.setdefault("trajectory", rows)
    return levels


class _SavedGradient(torch.autograd.Function):
    """Computes loss and gradient together; the backward pass only scales."""

    @staticmethod
    def forward(ctx: Any, logp: Tensor, joint: Callable[[Tensor], Any]) -> tuple[Tensor, Tensor]:
        loss, grad, metrics = joint(logp)
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(metrics)
        return loss, metrics

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return grad * grad_loss.to(grad.dtype), None


_SIZES: Any = torch.fx.experimental._config


def _without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Trainers call losses under autocast; sums must keep their precision all the same."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


class FusedLoss(torch.nn.Module):
    """A policy loss with its gradient, compiled into one graph a layout and number type.

    Args:
        backend: of torch.compile (a name or a function); None runs the same code eagerly, for
            debugging.
        guard: called with all values before any change; raises to refuse it (an attribute).
        **params: values of the objective's parameters; the others have their defaults.

    Raises:
        ValueError: an unknown parameter, or a value outside its range.
    """

    def __init__(
        self,
        objective: Objective,
        backend: str | Callable[..., Any] | None = "inductor",
        **params: float,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.guard: Callable[[dict[str, float]], object] | None = None
        self._values = {name: p.default for name, p in objective.params.items()}
        self._vectors: dict[torch.device, Tensor] = {}
        self.set_params(**params)

        def prepare(function: Callable[..., Any]) -> Callable[..., Any]:
            if backend is None:
                return function
            return torch.compile(function, backend=backend, fullgraph=True, dynamic=True)

        # Fresh functions, so that each module has a cache of compiled graphs of its own.
        def padded(*tensors: Any) -> tuple[Tensor, Tensor, Tensor]:
            return joint_padded(objective, *tensors)

        def packed(*tensors: Any) -> tuple[Tensor, Tensor, Tensor]:
            return joint_packed(objective, *tensors)

        self._padded, self._packed = prepare(padded), prepare(packed)

    @property
    def params(self) -> dict[str, float]:
        """The parameter values now in force (a copy)."""
        return dict(self._values)

    def set_params(self, **params: float) -> None:
        """Changes parameter values; all or, if one is wrong, none. Never recompiles.

        Raises:
            ValueError: an unknown parameter, or a value outside its range.
        """
        known = self.objective.params
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"objective '{self.objective.name}' has no parameter '{name}'; "
                    f"it has: {', '.join(known) or 'none'}"
                )
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"parameter '{name}' is a number, not {value!r}")
            if not known[name].holds(float(value)):
                raise ValueError(f"{name} = {value} is outside its range {known[name].range()}")
        values = self._values | {name: float(value) for name, value in params.items()}
        if self.guard is not None:
            # What the spec promises (`require`) must hold at the new values too.
            self.guard(values)
        self._values = values
        self._vectors.clear()

    def get_extra_state(self) -> dict[str, float]:
        return self.params

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.set_params(**state)

    def extra_repr(self) -> str:
        return ", ".join([self.objective.name, *(f"{k}={v:g}" for k, v in self._values.items())])

    def forward(
        self,
        logp: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        mask: Tensor,
        keys: Mapping[str, Tensor] | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        normalizers: Mapping[str, float | Tensor] | None = None,
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
                objective has no level for are not looked at.
            cu_seqlens: for packed tensors: int32 or int64 (B + 1,), row offsets from 0 to N.
            normalizers: where the batch is part of a larger one: the number of outermost cells
                (tokens, trajectories, ...) of the whole, by level name. Losses and gradients of
                the parts then add up, as long as no gated cell lies in two parts.

        Returns:
            The loss (0-dim, float32 or better) and the metrics.

        Raises:
            ValueError: shapes, ranges, missing or contradictory keys, naming tensor and level.
            TypeError: a tensor of the wrong type.
        """
        tokens = {"logp": logp, "old_logp": old_logp, "advantages": advantages, "mask": mask}
        _check_tokens(tokens, cu_seqlens)
        mask = _as_bool(mask)
        layout = None if cu_seqlens is None else _blocks(cu_seqlens, logp.shape[0])
        parents = _parents(self.objective, keys or {}, mask, layout, cu_seqlens)
        if len({logp.dtype, old_logp.dtype, advantages.dtype}) > 1:
            # Mixed types would each be a graph of their own.
            dtype = compute_dtype(
                torch.promote_types(
                    torch.promote_types(logp.dtype, old_logp.dtype), advantages.dtype
                )
            )
            logp, old_logp, advantages = (t.to(dtype) for t in (logp, old_logp, advantages))
        rest = (
            old_logp.detach().contiguous(),
            advantages.detach().contiguous(),
            mask.contiguous(),
            self._vector(logp.device),
            self._normalizer(normalizers, logp.device),
            parents,
        )
        function = self._padded if layout is None else self._packed
        if layout is not None:
            rest = (*rest, *layout, cu_seqlens)  # type: ignore[assignment]

        def joint(logp: Tensor) -> Any:
            with (
                _without_autocast(logp.device),
                # One graph for all sizes: sizes that happen to be equal in one batch are not the
                # same size, and no size is special (1, or above where float32 sums are split).
                _SIZES.patch(use_duck_shape=False, backed_size_oblivious=True),
            ):
                return function(logp.detach().contiguous(), *rest)

        loss, metrics = _SavedGradient.apply(logp, joint)  # type: ignore[no-untyped-call]
        return LossOutput(loss, dict(zip(self.objective.metrics, metrics.unbind(), strict=True)))

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
        value = (normalizers or {}).get(outermost or "", math.nan)
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(
                    f"normalizers['{outermost}'] is one number, not {tuple(value.shape)}"
                )
            return value.detach().reshape(()).to(device=device, dtype=torch.float64)
        if not (value > 0 or math.isnan(value)):
            raise ValueError(f"normalizers['{outermost}'] = {value} is not a positive number")
        return torch.tensor(value, dtype=torch.float64).to(device)


# --- checks and layouts, outside the graph -------------------------------------------------------


def _require(condition: Tensor, message: str) -> None:
    """Raises ValueError if `condition` (0-dim bool) is false. On a GPU, where reading it would
    make the host wait, the device stops with the message instead."""
    if condition.device.type == "cpu":
        if not bool(condition):
            raise ValueError(message)
    else:
        torch._assert_async(condition, message)


def _check_tokens(tokens: dict[str, Tensor], cu_seqlens: Tensor | None) -> None:
    for name, tensor in tokens.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; give a torch tensor")
    logp = tokens["logp"]
    shape = tuple(logp.shape)
    if cu_seqlens is None and logp.dim() != 2:
        raise ValueError(
            f"logp has shape {shape}: padded tensors are (B, T), and packed ones (N,) need "
            "cu_seqlens"
        )
    if cu_seqlens is not None and logp.dim() != 1:
        raise ValueError(f"logp has shape {shape}, but with cu_seqlens it must be packed, (N,)")
    if logp.numel() == 0:
        raise ValueError(f"logp has shape {shape}: there is no token in this batch")
    for name, tensor in tokens.items():
        if tuple(tensor.shape) != shape:
            hint = (
                "; one value a trajectory is expanded by `advantages[:, None].expand_as(logp)`"
                if name == "advantages" and tuple(tensor.shape) == shape[:1]
                else ""
            )
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, but logp has {shape}; they must agree"
                + hint
            )
        if tensor.device != logp.device:
            raise ValueError(f"{name} is on {tensor.device}, but logp is on {logp.device}")
        if name != "mask" and not tensor.is_floating_point():
            raise TypeError(f"{name} is {tensor.dtype}; give a floating-point tensor")
    if tokens["mask"].is_complex():
        raise TypeError("mask is complex; give bool or 0/1")
    if cu_seqlens is None:
        return
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"cu_seqlens is {cu_seqlens.dtype}; give int32 or int64")
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 2:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)}; it is (B + 1,), row offsets"
        )
    if cu_seqlens.device != logp.device:
        raise ValueError(f"cu_seqlens is on {cu_seqlens.device}, but logp is on {logp.device}")
    rising = (cu_seqlens[1:] >= cu_seqlens[:-1]).all()
    _require(
        rising & (cu_seqlens[0] == 0) & (cu_seqlens[-1] == shape[0]),
        f"cu_seqlens must rise from 0 to the {shape[0]} tokens of logp",
    )


def _as_bool(mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return mask
    binary = ((mask == 0) | (mask == 1)).all()
    _require(binary, "mask has values other than 0 and 1; weights do not belong into it")
    return mask != 0


class BlockLayout(NamedTuple):
    """Packed tokens cut into blocks, none of which holds tokens of two rows.

    Attributes:
        source: the token at each place of each block, int64 (n, BLOCK).
        inside: whether a token is there at all, bool (n, BLOCK).
        row: the row of each block, int64 (n,).
        position: the place of each token among the blocks, int64 (N,).
    """

    source: Tensor
    inside: Tensor
    row: Tensor
    position: Tensor


def _blocks(cu_seqlens: Tensor, tokens: int) -> BlockLayout:
    """The block layout. Its size depends on N and B alone, so no count is read from the device."""
    cu = cu_seqlens.to(torch.int64)
    rows = cu.shape[0] - 1
    lengths = cu[1:] - cu[:-1]
    ends = ((lengths + BLOCK - 1) // BLOCK).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    n = tokens // BLOCK + rows  # at least the sum of ceil(length / BLOCK)
    block = torch.arange(n, device=cu.device)
    row = torch.searchsorted(ends, block, right=True)
    used = row < rows
    row = row.clamp(max=rows - 1)
    place = ((block - starts[row]) * BLOCK)[:, None] + torch.arange(BLOCK, device=cu.device)
    inside = used[:, None] & (place < lengths[row][:, None])
    source = torch.where(inside, cu[row][:, None] + place, 0)
    token = torch.arange(tokens, device=cu.device)
    own = torch.searchsorted(cu[1:].contiguous(), token, right=True)
    position = starts[own] * BLOCK + token - cu[own]
    return BlockLayout(source, inside, row, position)


def _parents(
    objective: Objective,
    keys: Mapping[str, Tensor],
    mask: Tensor,
    layout: BlockLayout | None,
    cu_seqlens: Tensor | None,
) -> tuple[Tensor, ...]:
    """For each keyed level (and for a trajectory above one) the cell that each finer cell is in.

    Cells are numbered from 0; numbers not used are empty cells. Checks that every cell lies in one
    coarser cell.
    """
    if not any(key for _, key in objective.levels):
        return ()
    if layout is None:
        valid = mask
        rows = mask.shape[0]
        row = torch.arange(rows, device=mask.device)[:, None].expand_as(mask)
    else:
        assert cu_seqlens is not None
        valid = mask[layout.source] & layout.inside
        rows = cu_seqlens.shape[0] - 1
        row = layout.row[:, None].expand_as(valid)
    names = [name for name, _ in objective.levels]
    inner = names[: names.index("trajectory")] if "trajectory" in names else []
    parents: list[Tensor] = []
    # The cell of each unit at the level reached, and which units count. Units are tokens up to the
    # trajectory and rows from there on: above it nothing is as large as the batch.
    own: Tensor | None = None
    finer = "token"
    tokens = valid
    for name, key in objective.levels:
        if key is None:
            if own is not None:
                parents.append(_parent(own, row, valid, "the rows of the batch", name, finer))
            valid = _row_any(tokens, row, rows)
            own = torch.arange(rows, device=mask.device)
        else:
            ids = _ids(name, key, keys, rows, mask, layout)
            per_row = ids.dim() == 1
            if per_row and valid is tokens:
                ids = ids[row]
            elif not per_row and valid is not tokens:
                ids = _row_ids(ids, tokens, row, rows, f"keys['{key}'] (level '{name}')")
            cell = _number(ids, row if name in inner else None)
            if own is None:
                parents.append(cell)
            else:
                parents.append(_parent(own, cell, valid, f"keys['{key}']", name, finer))
            own = cell
        finer = name
    return tuple(parents)


def _ids(
    name: str,
    key: str,
    keys: Mapping[str, Tensor],
    rows: int,
    mask: Tensor,
    layout: BlockLayout | None,
) -> Tensor:
    """The ids of a keyed level, int64: (rows,), or one a token (in block layout if packed)."""
    what = f"keys['{key}'] (level '{name}')"
    if key not in keys:
        given = ", ".join(f"'{k}'" for k in keys) or "none"
        raise ValueError(
            f"keys['{key}'] is missing: level '{name}' takes its cells from it "
            f"(keys given: {given})"
        )
    ids = keys[key]
    if not isinstance(ids, Tensor):
        raise TypeError(f"{what} is a {type(ids).__name__}; give an integer tensor")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{what} is {ids.dtype}; ids are integers")
    if ids.device != mask.device:
        raise ValueError(f"{what} is on {ids.device}, but mask is on {mask.device}")
    if tuple(ids.shape) == (rows,):
        return ids.to(torch.int64)
    if ids.shape == mask.shape:
        return ids.to(torch.int64) if layout is None else ids.to(torch.int64)[layout.source]
    raise ValueError(
        f"{what} has shape {tuple(ids.shape)}; give ({rows},), one id a trajectory, or "
        f"{tuple(mask.shape)}, one a token"
    )


def _row_any(valid: Tensor, row: Tensor, rows: int) -> Tensor:
    """Whether any token of each row counts, bool (rows,)."""
    found = torch.zeros(rows, dtype=torch.int64, device=valid.device)
    by_line = valid.any(-1).to(torch.int64)
    return found.scatter_reduce(0, row[:, 0].contiguous(), by_line, "amax") > 0


def _row_ids(ids: Tensor, valid: Tensor, row: Tensor, rows: int, what: str) -> Tensor:
    """The one id of each row from an id a token; an error if a row has several."""
    low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    line = row[:, 0].contiguous()
    largest = ids.new_full((rows,), low).scatter_reduce(
        0, line, torch.where(valid, ids, low).amax(-1), "amax"
    )
    smallest = ids.new_full((rows,), high).scatter_reduce(
        0, line, torch.where(valid, ids, high).amin(-1), "amin"
    )
    _require(
        ((largest == smallest) | ~_row_any(valid, row, rows)).all(),
        f"{what} splits a trajectory: two of its tokens have different ids; "
        "each trajectory must lie in one cell",
    )
    return largest


def _number(ids: Tensor, within: Tensor | None) -> Tensor:
    """Equal ids (within equal `within`) to equal numbers 0, 1, ... < numel, by sorting: the
    result's size does not depend on how many there are."""
    flat = ids.reshape(-1)
    order = torch.argsort(flat, stable=True)
    if within is not None:
        order = order[torch.argsort(within.reshape(-1)[order], stable=True)]
    ordered = flat[order]
    new = ordered[1:] != ordered[:-1]
    if within is not None:
        ordered = within.reshape(-1)[order]
        new = new | (ordered[1:] != ordered[:-1])
    rank = torch.cat([new.new_zeros(1), new]).cumsum(0)
    return torch.empty_like(flat).scatter(0, order, rank).view_as(ids)


def _parent(own: Tensor, cell: Tensor, valid: Tensor, what: str, name: str, finer: str) -> Tensor:
    """The coarser cell of each finer cell, one for each number a finer cell can have; 0 for empty
    ones. `own` and `cell` give the finer and the coarser cell of each unit."""
    candidate = torch.where(valid, cell, -1).reshape(-1)
    parent = candidate.new_full((own.numel(),), -1)
    parent = parent.scatter_reduce(0, own.reshape(-1), candidate, "amax").clamp(min=0)
    _require(
        ((parent[own] == cell) | ~valid).all(),
        f"{what} (level '{name}') splits a cell of level '{finer}': two members of one "
        f"'{finer}' are in different cells of '{name}'; each cell must lie in one coarser cell",
    )
    return parent
