"""FiberPO as its authors train it (arXiv 2604.03044), and its hierarchy over turns and experts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.closed_forms import Batch, Token, clip, rollback
from tests.published.sums import (
    advantage,
    identity,
    log_ratio,
    loss,
    mean,
    sequence_mean,
    tokens,
    trajectories,
)


def fiberpo_overlays(
    batch: Batch,
    *,
    delta: float = 0.4,
    eps_pos: float = 0.2,
    eps_neg: float = 0.2,
    c: float = 3.0,
) -> float:
    """Eq. 1-5, with the authors' clamp and overlays.

    Published orientation: l = sign(x) (0: +1), u = x - l S^l, v = -l S^-l,
    G = exp(g(S+) - g(S-)) exp(clip(u) - clip(v)); clip has no upper bound where A < 0.
    """
    rows, total = trajectories(batch), 0.0
    for row in rows:
        x = {i: clip(log_ratio(batch, i), -20.0, 20.0) for i in row}
        S = {
            1: mean(max(value, 0.0) for value in x.values()),
            -1: mean(max(-value, 0.0) for value in x.values()),
        }
        w = rollback(S[1], delta / 2, len(row)) - rollback(S[-1], delta / 2, len(row))
        terms = []
        for i in row:
            A, label = advantage(batch, i), 1 if x[i] >= 0 else -1
            eps = eps_pos if A > 0 else eps_neg
            top = math.inf if A < 0 else eps
            u, v = x[i] - label * S[label], -label * S[-label]
            term = math.exp(w + clip(u, -eps, top) - clip(v, -eps, top)) * A
            if A < 0 and x[i] > 0:
                term = max(math.exp(x[i]) * A, c * A)
            if A > 0 and x[i] < 0:
                term = math.exp(x[i]) * A
            terms.append(term)
        total += mean(terms)
    return -total / len(rows)


# --- the hierarchy ------------------------------------------------------------------------------

Cell = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """A level above the token: the cell of every token, budgets, and whether k counts tokens (or
    children)."""

    cell: Mapping[Token, Cell]
    plus: float
    minus: float
    by_tokens: bool = False


def _log_gated(
    x: Mapping[Token, float], chain: Sequence[Level], epsilon: float
) -> dict[Token, float]:
    """log G by the recursion y = g(S_L) + sum_l g_l(S_l - S_{l+1}), one channel a sign, S the means
    over children; levels from fine to coarse."""
    log_G = dict.fromkeys(x, 0.0)
    for sign in (1, -1):
        own = {i: sign * value if sign * value > 0 else 0.0 for i, value in x.items()}
        finer: Mapping[Cell, float] = {(*i,): value for i, value in own.items()}
        S, size = [], []
        for depth, level in enumerate(chain):
            children: dict[Cell, dict[Cell, float]] = {}
            for i in x:
                child: Cell = i if depth == 0 else chain[depth - 1].cell[i]
                children.setdefault(level.cell[i], {})[child] = finer[child]
            finer = {cell: mean(parts.values()) for cell, parts in children.items()}
            S.append(finer)
            size.append({cell: len(parts) for cell, parts in children.items()})
        for i in x:
            y = above = 0.0
            for depth in reversed(range(len(chain))):
                level = chain[depth]
                cell = level.cell[i]
                k = size[depth][cell]
                if level.by_tokens:
                    k = sum(other == cell for other in level.cell.values())
                budget = level.plus if sign > 0 else level.minus
                y += rollback(S[depth][cell] - above, budget, k)
                above = S[depth][cell]
            log_G[i] += sign * (y + clip(own[i] - above, -epsilon, epsilon))
    return log_G


def _loss(batch: Batch, chain: Sequence[Level], epsilon: float) -> float:
    log_G = _log_gated({i: log_ratio(batch, i) for i in tokens(batch)}, chain, epsilon)
    return loss(sequence_mean(batch), lambda i: math.exp(log_G[i]) * advantage(batch, i))


def fiberpo_turns(
    batch: Batch,
    *,
    trajectory_plus: float = 0.2,
    trajectory_minus: float = 0.1,
    turn_plus: float = 0.1,
    turn_minus: float = 0.06,
    epsilon: float = 0.02,
) -> float:
    """token < turn (turn_id, within its row) < trajectory; k: the trajectory's tokens, the turn's
    tokens."""
    every = tokens(batch)
    turns = {i: (i[0], identity(batch, "turn_id", i)) for i in every}
    rows = {i: (i[0],) for i in every}
    chain = [
        Level(turns, turn_plus, turn_minus),
        Level(rows, trajectory_plus, trajectory_minus, by_tokens=True),
    ]
    return _loss(batch, chain, epsilon)


def fiberpo_experts(
    batch: Batch,
    *,
    expert_plus: float = 0.05,
    expert_minus: float = 0.03,
    epsilon: float = 0.02,
) -> float:
    """token < expert (expert_id, over all rows); k: the expert's tokens."""
    experts = {i: (identity(batch, "expert_id", i),) for i in tokens(batch)}
    return _loss(batch, [Level(experts, expert_plus, expert_minus)], epsilon)
