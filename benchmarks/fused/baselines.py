"""What is used today: PPO as one writes it, as a trainer writes it, and FiberPO written by hand.

All are differentiated by autograd, eagerly or after torch.compile.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.fused.batches import Batch
from benchmarks.fused.cases import Case, differentiated
from benchmarks.fused.objectives import Budgets

EPSILON = 0.2
DUAL_CLIP = 3.0

Parents = tuple[tuple[Tensor, int], ...]


def plain_ppo(logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """PPO's clip (arXiv 1707.06347, eq. 7), averaged over tokens, then over rows."""
    ratio = torch.exp(logp - old_logp)
    clipped = torch.clamp(ratio, 1 - EPSILON, 1 + EPSILON)
    loss = torch.maximum(-advantages * ratio, -advantages * clipped)
    return ((loss * mask).sum(-1) / mask.sum(-1)).mean()


def trainer_ppo(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same as trainers have it: bounded log ratio, dual clip, KL and two clip fractions.

    Returns:
        loss; share of tokens clipped; KL; share of tokens at the dual clip.
    """
    log_ratio = torch.clamp(logp - old_logp, -20.0, 20.0)
    ratio = torch.exp(log_ratio)
    kl = _masked_mean(-log_ratio, mask)
    unclipped = -advantages * ratio
    clipped = -advantages * torch.clamp(ratio, 1 - EPSILON, 1 + EPSILON)
    pessimistic = torch.maximum(unclipped, clipped)
    clip_fraction = _masked_mean(torch.gt(clipped, unclipped).float(), mask)
    bound = -advantages * DUAL_CLIP
    bounded = torch.min(bound, pessimistic)
    dual = torch.gt(pessimistic, bound) * (advantages < 0).float()
    dual_fraction = _masked_mean(dual, mask)
    loss = torch.where(advantages < 0, bounded, pessimistic)
    mean = ((loss * mask).sum(-1) / mask.sum(-1)).mean()
    return mean, clip_fraction.detach(), kl.detach(), dual_fraction.detach()


def fiberpo(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    parents: Parents,
    budgets: Budgets,
) -> Tensor:
    """FiberPO (arXiv 2604.03044, eq. 1-5) with any number of levels, formula by formula.

    Args:
        parents: from the rows up, the coarser cell that each cell is in, and how many of those
            there are; one less than levels above the token.
    """
    x = logp - old_logp
    count = mask.sum(-1)
    plus = (torch.clamp(x, min=0) * mask).sum(-1) / count
    minus = (torch.clamp(-x, min=0) * mask).sum(-1) / count
    base = _gated(plus, count, parents, [pair[0] for pair in budgets.pairs])
    base = base - _gated(minus, count, parents, [pair[1] for pair in budgets.pairs])
    own = torch.where(x >= 0, plus[:, None], -minus[:, None])
    other = torch.where(x >= 0, -minus[:, None], plus[:, None])
    epsilon = budgets.epsilon
    fiber = torch.clamp(x - own, -epsilon, epsilon) - torch.clamp(other, -epsilon, epsilon)
    gated_ratio = torch.exp(base[:, None] + fiber)
    return -((gated_ratio * advantages * mask).sum(-1) / count).mean()


def _gated(mean: Tensor, count: Tensor, parents: Parents, budgets: list[float]) -> Tensor:
    """What the gates of all levels let through of one channel, by row."""
    means, counts = [mean], [count]
    for parent, cells in parents:
        members = mean.new_zeros(cells).index_add(0, parent, torch.ones_like(means[-1]))
        means.append(mean.new_zeros(cells).index_add(0, parent, means[-1]) / members)
        counts.append(members)
    through = _rollback(means[-1], budgets[-1], counts[-1])
    for level in reversed(range(len(parents))):
        parent, _ = parents[level]
        deviation = means[level] - means[level + 1][parent]
        through = through[parent] + _rollback(deviation, budgets[level], counts[level])
    return through


def _rollback(x: Tensor, budget: float, k: Tensor) -> Tensor:
    size = x.abs()
    falling = torch.sign(x) * (k + 1) * budget - k * x
    beyond = torch.where(size < (1 + 1 / k) * budget, falling, torch.zeros_like(x))
    return torch.where(size <= budget, x, beyond)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / (mask.sum() + 1e-8)


def cases(two: Budgets, four: Budgets) -> list[Case]:
    """Every baseline; for padded batches."""

    def plain(function: Callable[..., Tensor]) -> Callable[[Batch], Tensor]:
        return lambda batch: function(*_tensors(batch))

    def trainer(function: Callable[..., tuple[Tensor, ...]]) -> Callable[[Batch], Tensor]:
        return lambda batch: function(*_tensors(batch))[0]

    def by_hand(budgets: Budgets) -> Callable[[Batch], Tensor]:
        above = len(budgets.pairs) - 1

        def loss(batch: Batch) -> Tensor:
            sizes = [parent.numel() for parent in batch.parents[1 : above + 1]]
            parents = tuple(zip(batch.parents[:above], sizes, strict=True))
            return fiberpo(*_tensors(batch), parents, budgets)

        return loss

    quick_plain = torch.compile(plain_ppo, fullgraph=True, dynamic=True)
    quick_trainer = torch.compile(trainer_ppo, fullgraph=True, dynamic=True)
    return [
        differentiated("plain PPO, eager", plain(plain_ppo)),
        differentiated("plain PPO, compiled", plain(quick_plain)),
        differentiated("trainer-style PPO, eager", trainer(trainer_ppo)),
        differentiated("trainer-style PPO, compiled", trainer(quick_trainer)),
        differentiated("two levels by hand, eager", by_hand(two)),
        differentiated("four levels by hand, eager", by_hand(four)),
    ]


def _tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.logp, batch.old_logp, batch.advantages, batch.mask
