"""The loss module: parameters, checks, and one compiled joint graph a layout."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.fx.experimental._config
from torch import Tensor

from fibdsl.runtime.checks import as_bool, check_tokens
from fibdsl.runtime.contract import LossOutput, Objective
from fibdsl.runtime.joint import joint_packed, joint_padded
from fibdsl.runtime.layouts import cut_blocks, parent_cells
from fibdsl.runtime.numerics import compute_dtype


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
        /,
        backend: str | Callable[..., Any] | None = "inductor",
        **params: float,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.guard: Callable[[dict[str, float]], object] | None = None
        self._values = {name: p.default for name, p in objective.params.items()}
        self._vectors: dict[torch.device, Tensor] = {}
        self._unset: dict[torch.device, Tensor] = {}
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

    def set_params(self, /, **params: float) -> None:
        """Changes parameter values; all or, if one is wrong, none. Never recompiles.

        Raises:
            ValueError: an unknown parameter, or a value outside its range.
            FibError: the spec's promises (`require`) do not hold at the new values; only modules
                of `Objective.compile` can tell.
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
                (tokens, trajectories, ...) of the whole, by level name, 1 or more. Losses and
                gradients of the parts then add up, as long as no cell that is gated, that a
                censor shares, or that `reduce` names lies in two parts.

        Returns:
            The loss (0-dim, float32 or better) and the metrics.

        Raises:
            ValueError: shapes, ranges, missing or contradictory keys, naming tensor and level.
            TypeError: a tensor of the wrong type.
        """
        tokens = {"logp": logp, "old_logp": old_logp, "advantages": advantages, "mask": mask}
        check_tokens(tokens, cu_seqlens)
        mask = as_bool(mask)
        layout = None if cu_seqlens is None else cut_blocks(cu_seqlens, logp.shape[0])
        parents = parent_cells(self.objective, keys or {}, mask, layout, cu_seqlens)
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
