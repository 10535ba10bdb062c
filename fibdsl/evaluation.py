"""What the reference takes and gives: arrays of tensors, and what it says of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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


def as_array(tensor: Any) -> Any:
    """A numpy array of a tensor; bfloat16, which numpy lacks, becomes float32."""
    if type(tensor).__module__.partition(".")[0] != "torch":
        return tensor
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        tensor = tensor.float()
    return tensor.numpy()
