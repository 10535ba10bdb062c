"""What a batch must be before it is looked at: shapes, types, devices, 0/1 masks, row offsets."""

from __future__ import annotations

import torch
from torch import Tensor


def require(condition: Tensor, message: str) -> None:
    """Raises ValueError if `condition` (0-dim bool) is false. On a GPU, where reading it would
    make the host wait, the device stops with the message instead."""
    if condition.device.type == "cpu":
        if not bool(condition):
            raise ValueError(message)
    else:
        torch._assert_async(condition, message)


def check_tokens(tokens: dict[str, Tensor], packed: bool) -> None:
    for name, tensor in tokens.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; give a torch tensor")
    logp = tokens["logp"]
    shape = tuple(logp.shape)
    if not packed and logp.dim() != 2:
        raise ValueError(
            f"logp has shape {shape}: padded tensors are (B, T), and packed ones (N,) need "
            "cu_seqlens"
        )
    if packed and logp.dim() != 1:
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


def check_offsets(cu_seqlens: Tensor, tokens: int) -> None:
    """Raises unless these are the row offsets of so many tokens."""
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(f"cu_seqlens is a {type(cu_seqlens).__name__}; give a torch tensor")
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"cu_seqlens is {cu_seqlens.dtype}; give int32 or int64")
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 2:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)}; it is (B + 1,), row offsets"
        )
    rising = (cu_seqlens[1:] >= cu_seqlens[:-1]).all()
    require(
        rising & (cu_seqlens[0] == 0) & (cu_seqlens[-1] == tokens),
        f"cu_seqlens must rise from 0 to the {tokens} tokens of logp",
    )


class Checks:
    """Conditions on the values of a batch, collected where they are at hand (inside the graph) and
    read together when it has run.

    Attributes:
        conditions: 0-dim bool tensors, by what to say where one does not hold.
    """

    def __init__(self) -> None:
        self.conditions: dict[str, Tensor] = {}

    def require(self, condition: Tensor, message: str) -> None:
        self.conditions[message] = condition

    def failed(self, like: Tensor) -> Tensor:
        """1 if a condition does not hold, else 0; of the type of `like`, 0-dim."""
        holds = [condition.to(like.dtype) for condition in self.conditions.values()]
        return 1 - torch.stack(holds).amin() if holds else like.new_zeros(())


def raise_for(conditions: dict[str, Tensor]) -> None:
    """Raises ValueError for the first condition that does not hold (as `require`)."""
    for message, condition in conditions.items():
        require(condition, message)


def error_of(conditions: dict[str, Tensor]) -> ValueError | None:
    """The error for the first condition that does not hold, if any; waits for the device."""
    return next((ValueError(said) for said, holds in conditions.items() if not bool(holds)), None)


def binary(mask: Tensor, checks: Checks) -> Tensor:
    """The mask as bool; its numbers have to be 0 and 1."""
    if mask.dtype == torch.bool:
        return mask
    there = mask != 0
    # As sums of lines, which other sums of lines are computed along with.
    off = (mask.to(torch.float32) - there.to(torch.float32)).abs().sum(-1).sum()
    checks.require(off == 0, "mask has values other than 0 and 1; weights do not belong into it")
    return there
