"""What a case is: a loss of a trainer with options, and the same loss as one of our objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.trainers.batches import KINDS, Acts, Batch, random_batch

Statements = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A loss of a trainer, and ours.

    Attributes:
        loss: verl's `policy_loss.loss_mode`, TRL's `loss_type`.
        setting: verl's `loss_agg_mode`, TRL's `importance_sampling_level`.
        options: others of the trainer's, by their names in its configuration.
        spec, params: a shipped objective, and values of its parameters.
        statements: what replaces statements of that objective, or is added to it.
        acts: what the batch must reach: tokens on either side of every bound.
        kind: of the batch (`KINDS`).
        token_advantages: whether they differ within a row; TRL's never do.
        of_largest: whether gradients are compared relative to the largest of the batch, not token
            by token, and to 1e-6.
        empty_rows: whether the trainer's loss has -A of each row without a token (exp of no mean is
            1), which no gradient follows: taken out before losses are compared.
        about: what the case is about besides the loss and the setting.
        note: where the trainer does something else than its options or its paper say.
    """

    trainer: Literal["verl", "trl"]
    loss: str
    setting: str
    spec: str
    params: Mapping[str, float] = field(default_factory=dict)
    statements: Statements = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    acts: tuple[Acts, ...] = ()
    kind: str = "tokens"
    token_advantages: bool = False
    of_largest: bool = False
    empty_rows: bool = False
    about: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        words = (self.trainer, self.loss, self.setting, self.spec, self.about)
        return " ".join(word for word in words if word)

    @property
    def tolerance(self) -> float:
        return 1e-6 if self.of_largest else 1e-9

    @property
    def batch(self) -> Batch:
        return random_batch(KINDS[self.kind], 0, token_advantages=self.token_advantages)

    @property
    def extra_tensors(self) -> tuple[str, ...]:
        """What our objective needs beside log-probabilities, advantages and mask."""
        text = " ".join(self.statements)
        return tuple(name for name in ("rollout_logp", "ref_logp") if name in text)


# How losses are averaged.
OVER_TOKENS: Statements = ("reduce mean over token",)
OVER_ROWS: Statements = ("reduce mean over trajectory, mean over token",)
ROW_SUMS: Statements = ("reduce mean over trajectory, sum over token",)
BY_LENGTH: Statements = (
    "param length : pure = 64 in [1, inf)",
    "reduce mean over trajectory, sum over token / length",
)
SUM: Statements = ("reduce sum over token",)

# How far a rollout's log-probabilities are from those of the old policy, by token and by row.
TO_ROLLOUT = "old_logp - rollout_logp"
ROW_TO_ROLLOUT = f"sum({TO_ROLLOUT} over trajectory)"
ROW_RATIO = "exp(mean(log_ratio over trajectory))"
ROW_PRODUCT = "exp(sum(log_ratio over trajectory))"
