"""A batch weighed before it is cut: the exact gradient of the whole, a micro-batch at a time.

The objective couples tokens through aggregates only, so the gradient of the loss is a weight a
token, d loss / d logp. Once these are known, each micro-batch back-propagates the sum of weight
times log-probability, whatever rows it holds (docs/semantics.md, Reduce).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.checks import require
from fibdsl.runtime.contract import LossOutput
from fibdsl.runtime.joint import Sums
from fibdsl.runtime.sharing import SharedCells

_ROUNDING = 0.2
"""Nats by which two passes of one policy may differ: bfloat16 does a few hundredths."""


class Aggregates(NamedTuple):
    """What the levels with cells in several rows were in one pass over a whole batch.

    Attributes:
        semantic_hash: of the objective.
        cells: the cells of those levels.
        sums: their sums, in the order in which a pass makes them.
    """

    semantic_hash: str
    cells: SharedCells
    sums: Sums


class Weights:
    """The gradient of a batch, token by token.

    Attributes:
        loss: of the whole batch, 0-dim, without gradient.
        metrics: of the whole batch.
        weights: d loss / d logp of every token, shaped like `logp`; 0 under the mask. With ranks
            whose gradients are averaged, times the number of ranks.
        aggregates: those of this pass, for later calls; None unless `keep_aggregates`.
    """

    def __init__(
        self,
        loss: Tensor,
        metrics: dict[str, Tensor],
        weights: Tensor,
        logp: Tensor,
        mask: Tensor,
        stale: bool,
        aggregates: Aggregates | None,
    ) -> None:
        self.loss = loss
        self.metrics = metrics
        self.weights = weights
        self._logp = logp
        self._mask = mask
        self._stale = stale
        self.aggregates = aggregates

    def part(self, logp: Tensor, rows: slice | Tensor) -> LossOutput:
        """The loss of a micro-batch: its gradient is that of the whole batch, for these rows.

        Args:
            logp: log-probabilities of the micro-batch's tokens under the policy that is trained,
                computed again with a gradient, shaped like `weights[rows]`.
            rows: which rows (padded) or tokens (packed) of the batch these are: a slice, or a
                1-d integer or bool tensor.

        Returns:
            A loss whose values add up to `loss` over the parts of this rank's rows (0 on a rank
            that has no token), and the metrics of the batch with `recomputed/max`: by how much
            `logp` differs at most from what the batch was weighed with, in nats; rounding, if the
            policy is the same.

        Raises:
            ValueError: `logp` has another shape than the rows, or differs by more than 0.2 nats
                from what was weighed, which no rounding does, though that was not called stale.
        """
        weights, mask, weighed = self.weights[rows], self._mask[rows], self._logp[rows]
        if logp.shape != weights.shape:
            raise ValueError(
                f"logp has shape {tuple(logp.shape)}, but these rows of the batch have "
                f"{tuple(weights.shape)}"
            )
        dtype = self.loss.dtype
        current = torch.where(mask, logp.to(dtype), 0.0)
        before = torch.where(mask, weighed.to(dtype), 0.0)
        # In this rank's tokens, so that parts without any have no share.
        share = mask.sum().to(dtype) / self._mask.sum().clamp(min=1)
        gradient = (weights.to(dtype) * (current - current.detach())).sum()
        drift = self.loss.new_zeros(())
        if mask.numel():
            drift = (current.detach() - before).abs().amax()
        if not self._stale:
            require(
                drift <= _ROUNDING,
                f"logp differs by more than {_ROUNDING} nats from what the batch was weighed with: "
                "these are other rows, or another policy. Weigh the batch again for each optimizer "
                "step, with dropout off, or say weigh(..., stale=True)",
            )
        return LossOutput(gradient + self.loss * share, {**self.metrics, "recomputed/max": drift})
