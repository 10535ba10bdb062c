"""Closed forms of the objectives, written token by token from the printed formulas.

An independent reference in float64: plain loops, no code shared with the compiler. Sources:
FiberPO (arXiv 2604.03044, section 3.3.1), Fibration Policy Optimization (arXiv 2603.08239), PPO
(1707.06347), GRPO (2402.03300), DAPO (2503.14476), GSPO (2507.18071).

Every objective returns `(G, loss)`: G float64 (B, T), the gated ratios, 0 where masked out, and
loss = -sum_i mu_i G_i A_i. Conventions that all of them share:

- what lies under the mask is never read, so it may be NaN;
- a trajectory with no valid token does not exist, and neither does a cell with no children;
- x = 0, and A = 0 in the pessimistic gates, belong to the + side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]

Token: TypeAlias = tuple[int, int]  # row and column
Cell: TypeAlias = tuple[int, ...]  # a token, or the one id of a coarser cell
Budget: TypeAlias = tuple[float, float]  # C+, C-
Reduction: TypeAlias = Literal["token", "trajectory"]
MeanOver: TypeAlias = Literal["children", "token"]

# Key (None: the trajectory), budgets, k (None: number of children), what the mean counts.
# Budgets may be per cell: a mapping from ids to pairs, None standing for `else`.
Level: TypeAlias = tuple[str | None, Budget | Mapping[int | None, Budget], float | None, MeanOver]

PLUS, MINUS = 1, -1


@dataclass(frozen=True)
class Batch:
    """A batch of trajectories, one per row.

    logp, old_logp, advantages: float64 (B, T), nats and any unit; mask: bool (B, T), True where
    the token is valid; keys: ids by name, int64 (B,) or (B, T).
    """

    logp: Floats
    old_logp: Floats
    advantages: Floats
    mask: Bools
    keys: Mapping[str, Ints]


def _trajectories(batch: Batch) -> list[list[Token]]:
    """The valid tokens of every trajectory that has one."""
    B, T = batch.mask.shape
    rows = [[(b, t) for t in range(T) if batch.mask[b, t]] for b in range(B)]
    return [row for row in rows if row]


def _tokens(batch: Batch) -> list[Token]:
    return [i for trajectory in _trajectories(batch) for i in trajectory]


def _log_ratio(batch: Batch, i: Token) -> float:
    return float(batch.logp[i]) - float(batch.old_logp[i])


def _cell(batch: Batch, key: str | None, i: Token) -> int:
    """The id of the cell token i lies in; without a key, its row."""
    if key is None:
        return i[0]
    ids = batch.keys[key]
    return int(ids[i[0]]) if ids.ndim == 1 else int(ids[i])


def _loss(batch: Batch, G: Floats, reduction: Reduction) -> float:
    """-sum mu_i G_i A_i; mu_i = 1/N tokens, or 1/(number of trajectories * T_tau)."""
    trajectories = _trajectories(batch)
    n_tokens = len(_tokens(batch))
    total = 0.0
    for trajectory in trajectories:
        for i in trajectory:
            if reduction == "token":
                mu = 1.0 / n_tokens
            else:
                mu = 1.0 / (len(trajectories) * len(trajectory))
            total += mu * float(G[i]) * float(batch.advantages[i])
    return -total


# Gates


def clip(x: float, lo: float, hi: float) -> float:
    """x held to [lo, hi]."""
    if x < lo:
        return lo
    if x > hi:
        return hi
    return x


def rollback(x: float, C: float, k: float) -> float:
    """g(x, C, k): pass-through to C, slope -k down to 0 at (1 + 1/k) C, then 0."""
    if abs(x) <= C:
        return x
    if abs(x) < (1.0 + 1.0 / k) * C:
        return math.copysign(1.0, x) * (k + 1.0) * C - k * x
    return 0.0


def _pessimistic(value: float, lo: float, hi: float, advantage: float) -> float:
    """For A >= 0 only the upper bound acts, for A < 0 only the lower."""
    if advantage >= 0.0:
        return min(value, hi)
    return max(value, lo)


# PPO, GRPO, DAPO, GSPO


def ppo(
    batch: Batch, eps_low: float, eps_high: float, reduction: Reduction
) -> tuple[Floats, float]:
    """PPO's clip as a gate; "trajectory" is GRPO's mean of means, "token" DAPO's token mean."""
    G = np.zeros(batch.mask.shape)
    for i in _tokens(batch):
        r = math.exp(_log_ratio(batch, i))
        G[i] = _pessimistic(r, 1.0 - eps_low, 1.0 + eps_high, float(batch.advantages[i]))
    return G, _loss(batch, G, reduction)


def gspo(batch: Batch, low_ratio: float, high_ratio: float) -> tuple[Floats, float]:
    """s = exp(mean log r) of the trajectory, clipped pessimistically, for each of its tokens."""
    G = np.zeros(batch.mask.shape)
    for trajectory in _trajectories(batch):
        s = math.exp(sum(_log_ratio(batch, i) for i in trajectory) / len(trajectory))
        for i in trajectory:
            G[i] = _pessimistic(s, low_ratio, high_ratio, float(batch.advantages[i]))
    return G, _loss(batch, G, "trajectory")


# APC-Obj and TV-TRPO


def _states(batch: Batch, key: str) -> list[list[Token]]:
    """The valid tokens of every state that has one."""
    states: dict[int, list[Token]] = {}
    for i in _tokens(batch):
        states.setdefault(_cell(batch, key, i), []).append(i)
    return list(states.values())


def _apc_gate(r: list[float], delta: float) -> list[float]:
    """G of one state: 1 + clip(r_i - 1, +-B_i), B_i = max(0, T_s delta - sum_{j != i} |r_j - 1|)"""
    G = []
    for i in range(len(r)):
        others = sum(abs(r[j] - 1.0) for j in range(len(r)) if j != i)
        B_i = max(0.0, len(r) * delta - others)
        G.append(1.0 + clip(r[i] - 1.0, -B_i, B_i))
    return G


def apc(batch: Batch, delta: float, key: str) -> tuple[Floats, float]:
    """APC-Obj, states being the cells of keys[key]; token mean."""
    G = np.zeros(batch.mask.shape)
    for state in _states(batch, key):
        r = [math.exp(_log_ratio(batch, i)) for i in state]
        for i, value in zip(state, _apc_gate(r, delta), strict=True):
            G[i] = value
    return G, _loss(batch, G, "token")


def linear_program_trpo(batch: Batch, delta: float, key: str) -> tuple[float, Floats]:
    """The optimum of sample-based TV-TRPO and an r (B, T) attaining it, 0 where masked out.

    maximise mean(r_i A_i)  subject to  sum_{i in s} |r_i - 1| <= T_s delta per state,  r >= 0,
    as a linear program in r and d with d_i >= |r_i - 1|. logp and old_logp are not read.
    """
    from scipy.optimize import linprog

    r_star = np.zeros(batch.mask.shape)
    tokens = _tokens(batch)
    n = len(tokens)
    if n == 0:
        return 0.0, r_star
    column = {i: c for c, i in enumerate(tokens)}
    cost = [-float(batch.advantages[i]) / n for i in tokens] + [0.0] * n
    rows: list[list[float]] = []
    bounds: list[float] = []
    for c in range(n):
        above = [0.0] * (2 * n)  # r - d <= 1
        above[c], above[n + c] = 1.0, -1.0
        below = [0.0] * (2 * n)  # -r - d <= -1
        below[c], below[n + c] = -1.0, -1.0
        rows += [above, below]
        bounds += [1.0, -1.0]
    for state in _states(batch, key):
        region = [0.0] * (2 * n)
        for i in state:
            region[n + column[i]] = 1.0
        rows.append(region)
        bounds.append(len(state) * delta)
    result = linprog(cost, A_ub=rows, b_ub=bounds, bounds=(0.0, None), method="highs")
    if not result.success:
        raise RuntimeError(str(result.message))
    for i in tokens:
        r_star[i] = float(result.x[column[i]])
    return -float(result.fun), r_star


def apc_maximum(batch: Batch, delta: float, key: str) -> tuple[float, Floats]:
    """The global maximum of the APC objective over r >= 0, and an r (B, T) attaining it.

    Enumerates points and evaluates the APC gate on each; no linear program. logp and old_logp
    are not read. Why the best of these points is the global maximum:

    1. The objective is a sum over states, so each state is maximised alone. Let D = T_s delta,
       d_i = |r_i - 1|, excess E = max(0, sum d - D). As B_i = max(0, d_i + D - sum d), the gated
       deviation is d_i where E = 0 and max(0, d_i - E) where E > 0.
    2. G(r) satisfies sum_i |G_i - 1| <= D, G >= 0. If E = 0, G = r. Otherwise let M be the tokens
       with d_i > E: if M is empty the sum is 0, else it is sum_M d - |M| E <= sum d - E = D. And
       each G_i lies between r_i and 1.
    3. So r' = G(r) has G(r') = r' = G(r): no value is lost by looking only at r with sum d <= D.
       There the objective is sum r_i A_i, linear, so its maximum is at a vertex of the polytope
       {r >= 0, sum |r_i - 1| <= D}.
    4. With the signs of r - 1 fixed, a piece of that polytope is {m >= 0, m_i <= 1 for the tokens
       that go down, sum m <= D}. At a vertex of a piece all coordinates but one are at a bound of
       their own (0 or 1), and the last is either at one too or takes what is left of D. So every
       vertex is: a set Z of tokens at r = 0, at most one further token j moved up or down by the
       whole remainder D - |Z|, all others at r = 1. All of these are tried.
    """
    r_star = np.zeros(batch.mask.shape)
    n_tokens = len(_tokens(batch))
    total = 0.0
    for state in _states(batch, key):
        T_s = len(state)
        A = [float(batch.advantages[i]) for i in state]
        candidates: list[list[float]] = []
        for size in range(T_s + 1):
            rest = T_s * delta - size
            if rest < 0.0:
                break
            for Z in itertools.combinations(range(T_s), size):
                corner = [0.0 if i in Z else 1.0 for i in range(T_s)]
                candidates.append(corner)
                for j in range(T_s):
                    if j in Z:
                        continue
                    candidates.append([*corner[:j], 1.0 + rest, *corner[j + 1 :]])
                    if rest <= 1.0:
                        candidates.append([*corner[:j], 1.0 - rest, *corner[j + 1 :]])
        best, best_r = -math.inf, [1.0] * T_s
        for r in candidates:
            value = sum(g * a for g, a in zip(_apc_gate(r, delta), A, strict=True))
            if value > best:
                best, best_r = value, r
        total += best
        for i, value in zip(state, best_r, strict=True):
            r_star[i] = value
    return (total / n_tokens if n_tokens else 0.0), r_star


# FiberPO


@dataclass(frozen=True)
class FiberParts:
    """What FiberPO is made of, in nats: S_plus, S_minus, log_w (B,); u, v, log_f (B, T).

    0 for trajectories that do not exist and for masked tokens.
    """

    S_plus: Floats
    S_minus: Floats
    log_w: Floats
    u: Floats
    v: Floats
    log_f: Floats


def fiberpo_log_ratio_parts(
    batch: Batch, c_plus: float, c_minus: float, epsilon: float, k: float | None = None
) -> FiberParts:
    """S, log w, u, v and log f of FiberPO, as printed; k = None stands for T_tau."""
    B, T = batch.mask.shape
    S_plus, S_minus, log_w = np.zeros(B), np.zeros(B), np.zeros(B)
    u, v, log_f = np.zeros((B, T)), np.zeros((B, T)), np.zeros((B, T))
    for trajectory in _trajectories(batch):
        b = trajectory[0][0]
        T_tau = len(trajectory)
        S = {PLUS: 0.0, MINUS: 0.0}
        for i in trajectory:
            x = _log_ratio(batch, i)
            if x >= 0.0:
                S[PLUS] += x / T_tau
            else:
                S[MINUS] += -x / T_tau
        steepness = float(T_tau) if k is None else k
        S_plus[b], S_minus[b] = S[PLUS], S[MINUS]
        log_w[b] = rollback(S[PLUS], c_plus, steepness) - rollback(S[MINUS], c_minus, steepness)
        for i in trajectory:
            x = _log_ratio(batch, i)
            l_i = PLUS if x >= 0.0 else MINUS
            u_i = l_i * x - S[l_i]
            v_i = -S[-l_i]
            u[i], v[i] = u_i, v_i
            log_f[i] = clip(l_i * u_i, -epsilon, epsilon) - clip(l_i * v_i, -epsilon, epsilon)
    return FiberParts(S_plus, S_minus, log_w, u, v, log_f)


def fiberpo(
    batch: Batch, c_plus: float, c_minus: float, epsilon: float, k: float | None = None
) -> tuple[Floats, float]:
    """G_i = exp(log w_tau + log f_i); mean over trajectories of the mean over tokens."""
    parts = fiberpo_log_ratio_parts(batch, c_plus, c_minus, epsilon, k)
    G = np.zeros(batch.mask.shape)
    for i in _tokens(batch):
        G[i] = math.exp(float(parts.log_w[i[0]]) + float(parts.log_f[i]))
    return G, _loss(batch, G, "trajectory")


# The fibration gating hierarchy


def hierarchy(batch: Batch, levels: list[Level], epsilon: float) -> tuple[Floats, float]:
    """Gates at every level: rollback at `levels`, finest first, and clip(epsilon) at the token.

    `levels` starts just above the token, normally with the trajectory (key None). Per channel:
    S_0 = x, S_{l+1} = push-forward of S_l; y_L = g_L(S_L); y_l = y_{l+1} + g_l(S_l - S_{l+1});
    log G_i = y_0^+ - y_0^-. The push-forward is the mean of the children's S_l, each counting
    once ("children") or as often as it has tokens ("token"). Raises ValueError where a key splits
    a finer cell, KeyError where a cell has no budget. Mean over trajectory, mean over token.
    """
    tokens = _tokens(batch)
    L = len(levels)

    # Which cell each token lies in, level by level, and which children each cell has.
    cell_of: list[dict[Token, Cell]] = [{i: i for i in tokens}]
    children: list[dict[Cell, list[Cell]]] = [{}]
    n_tokens: list[dict[Cell, int]] = [dict.fromkeys(tokens, 1)]
    for ell in range(1, L + 1):
        key = levels[ell - 1][0]
        cell_of.append({i: (_cell(batch, key, i),) for i in tokens})
        children.append({})
        n_tokens.append({})
        parent: dict[Cell, Cell] = {}
        for i in tokens:
            child, cell = cell_of[ell - 1][i], cell_of[ell][i]
            if parent.setdefault(child, cell) != cell:
                raise ValueError(f"key {key!r} splits the finer cell {child}")
            siblings = children[ell].setdefault(cell, [])
            if child not in siblings:
                siblings.append(child)
            n_tokens[ell][cell] = n_tokens[ell].get(cell, 0) + 1

    log_G = dict.fromkeys(tokens, 0.0)
    for channel in (PLUS, MINUS):
        # Up: the aggregates.
        S: list[dict[Cell, float]] = [{}]
        for i in tokens:
            x = _log_ratio(batch, i)
            label = PLUS if x >= 0.0 else MINUS
            S[0][i] = channel * x if label == channel else 0.0
        for ell in range(1, L + 1):
            mean_over = levels[ell - 1][3]
            S.append({})
            for cell, parts in children[ell].items():
                weighted, weights = 0.0, 0.0
                for child in parts:
                    weight = 1.0 if mean_over == "children" else float(n_tokens[ell - 1][child])
                    weighted += weight * S[ell - 1][child]
                    weights += weight
                S[ell][cell] = weighted / weights

        # Down: the gates.
        y: list[dict[Cell, float]] = [{} for _ in range(L + 1)]
        for ell in range(L, 0, -1):
            _, budgets, k, _ = levels[ell - 1]
            for i in tokens:
                cell = cell_of[ell][i]
                steepness = float(len(children[ell][cell])) if k is None else k
                C = _budget(budgets, cell[0])[0 if channel == PLUS else 1]
                if ell == L:
                    y[ell][cell] = rollback(S[ell][cell], C, steepness)
                else:
                    above = cell_of[ell + 1][i]
                    deviation = S[ell][cell] - S[ell + 1][above]
                    y[ell][cell] = y[ell + 1][above] + rollback(deviation, C, steepness)
        for i in tokens:
            if L == 0:
                y[0][i] = clip(S[0][i], -epsilon, epsilon)
            else:
                above = cell_of[1][i]
                y[0][i] = y[1][above] + clip(S[0][i] - S[1][above], -epsilon, epsilon)
            log_G[i] += channel * y[0][i]

    G = np.zeros(batch.mask.shape)
    for i in tokens:
        G[i] = math.exp(log_G[i])
    return G, _loss(batch, G, "trajectory")


def _budget(budgets: Budget | Mapping[int | None, Budget], cell: int) -> Budget:
    if isinstance(budgets, tuple):
        return budgets
    return budgets[cell] if cell in budgets else budgets[None]


# Random batches

# Ids that go wrong when narrowed: the pairs agree in int32, or in float64.
_AWKWARD_IDS = [0, 2**32, -1, 2**32 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), -7]


def _distinct_ids(rng: np.random.Generator, n: int) -> Ints:
    """n different int64 ids in random order; the awkward ones come first."""
    ids = list(_AWKWARD_IDS[:n])
    while len(ids) < n:
        new = int(rng.integers(-(2**63), 2**63 - 1, endpoint=True))
        if new not in ids:
            ids.append(new)
    return rng.permutation(np.array(ids, dtype=np.int64))


def random_batch(
    rng: np.random.Generator,
    B: int,
    T: int,
    *,
    drift: float = 0.1,
    trajectory_drift: float = 0.0,
    exact_one: float = 0.0,
    empty_rows: int = 0,
    holes: float = 0.2,
    nan_under_mask: bool = True,
    advantages: Literal["trajectory", "token"] = "trajectory",
    zero_advantages: float = 0.0,
    n_domains: int = 2,
    n_groups: int = 4,
    n_states: int = 5,
) -> Batch:
    """A random batch with keys uid (B,), data_source (B,) and state_id (B, T), uid nested.

    drift: standard deviation of x_i, in nats; trajectory_drift: of a shift common to a row.
    exact_one: share of tokens with logp = old_logp to the bit. empty_rows: rows without a token.
    holes: share of tokens masked out inside a row of random length; one valid token is kept.
    nan_under_mask: NaN rather than ordinary numbers where masked out (and strange state ids).
    advantages: constant per trajectory or per token. zero_advantages: share that is exactly 0.
    """
    mask = np.zeros((B, T), dtype=np.bool_)
    empty = {int(b) for b in rng.permutation(B)[:empty_rows]}
    for b in range(B):
        if b in empty:
            continue
        length = int(rng.integers(1, T, endpoint=True))
        for t in range(length):
            mask[b, t] = rng.random() >= holes
        mask[b, int(rng.integers(length))] = True

    x = drift * rng.standard_normal((B, T)) + trajectory_drift * rng.standard_normal((B, 1))
    x[rng.random((B, T)) < exact_one] = 0.0
    old_logp = -rng.exponential(1.0, (B, T)) - np.maximum(x, 0.0)  # so that logp <= 0
    logp = old_logp + x

    shape = (B, 1) if advantages == "trajectory" else (B, T)
    A = rng.standard_normal(shape)
    A[rng.random(shape) < zero_advantages] = 0.0
    A = np.broadcast_to(A, (B, T)).copy()

    group = rng.integers(n_groups, size=B)
    uid = _distinct_ids(rng, n_groups)[group]
    data_source = _distinct_ids(rng, n_domains)[group % n_domains]
    state_id = _distinct_ids(rng, n_states)[rng.integers(n_states, size=(B, T))]

    if nan_under_mask:
        for array in (logp, old_logp, A):
            array[~mask] = math.nan
        state_id[~mask] = rng.integers(-(2**63), 2**63 - 1, size=int((~mask).sum()))
    keys = {"uid": uid, "data_source": data_source, "state_id": state_id}
    return Batch(logp, old_logp, A, mask, keys)
