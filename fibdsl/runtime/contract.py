"""What a generated module and the runtime tell each other, and what a loss returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


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


class CellBudgets(NamedTuple):
    """The budgets of the cells of a level, by the names of the cells.

    Attributes:
        key: whose ids the names stand for.
        names: of cells, in order.
        otherwise: whether all cells without a name have a budget.
        values: params -> the budgets: those of the names in their order, then that of the others.
    """

    key: str
    names: tuple[str, ...]
    otherwise: bool
    values: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """What a generated module says about itself.

    Attributes:
        loss: (x, advantages, mask, params, levels, normalizer, tensors) -> (loss, d loss / d x,
            values to measure).
        measure: (x, advantages, mask, params, levels, normalizer, tensors, *values) -> (metrics,
            weights): what each cell adds to each metric, and by level which cells count.
        metrics: the level over whose cells each metric is a mean, by its name.
        levels: (name, key or None) from the first level above the token to the coarsest.
        tensors: of which tensors, besides advantages, the mask and budgets of cells, it reads
            single values.
        budgets: by level, where cells have budgets by name. `tensors` of the functions holds them
            token by token, as "budget of LEVEL".
        outermost: the level whose cells the loss is a mean over, or None.
        whole: the level of which a part taken for the whole is another objective, or None where
            losses of parts of a batch add up.
        semantic_hash: which loss this is.
    """

    name: str
    params: dict[str, Parameter]
    levels: tuple[tuple[str, str | None], ...]
    metrics: dict[str, str]
    tensors: tuple[str, ...]
    budgets: dict[str, CellBudgets]
    outermost: str | None
    whole: str | None
    semantic_hash: str
    loss: Callable[..., tuple[Tensor, Tensor, tuple[Tensor, ...]]]
    measure: Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]


class LossOutput(NamedTuple):
    """What a loss module returns.

    Attributes:
        loss: 0-dim, to be minimised; its backward pass scales a gradient already computed.
        metrics: 0-dim tensors by name, without gradient.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
