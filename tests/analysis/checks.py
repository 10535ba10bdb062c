"""Judges of properties, written from their definitions (docs/semantics.md) and no analysis code.

A judge looks at one batch and says how far a property is violated on it: 0.0 where it is not, and
never by rounding. A batch is what a batch file holds: logp, old_logp, advantages, mask (B, T) and
ids by key. Gated ratios come from a function of such a batch, so that the reference interpreter and
a closed form can both be judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibc import interp
from fibc.ir import nodes as ir
from fibc.ir.scalar import Scalar, evaluate
from fibdsl.evaluation import Evaluation
from fibdsl.objective import Objective

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tensors = Mapping[str, NDArray[Any]]
GatedRatio = Callable[[Tensors], Floats]
"""G of every token, (B, T); what is under the mask is not looked at."""

TOKENS = ("logp", "old_logp", "advantages", "mask")


def evaluation(
    objective: Objective, tensors: Tensors, normalizers: Mapping[str, float] | None = None
) -> Evaluation:
    """What the reference says of a batch."""
    keys = {key: tensors[key] for key in objective.keys}
    logp, old_logp, advantages, mask = (tensors[name] for name in TOKENS)
    return objective.evaluate(logp, old_logp, advantages, mask, keys, normalizers=normalizers)


def by_reference(objective: Objective) -> GatedRatio:
    def gated_ratio(tensors: Tensors) -> Floats:
        keys = {key: tensors[key] for key in objective.keys}
        logp, old_logp, advantages, mask = (tensors[name] for name in TOKENS)
        return np.asarray(objective.gated_ratio(logp, old_logp, advantages, mask, keys))

    return gated_ratio


def interpreted(objective: Objective, tensors: Tensors) -> interp.Run:
    """Every value of the reference program on a batch."""
    keys = {key: tensors[key] for key in objective.keys}
    logp, old_logp, advantages, mask = (tensors[name] for name in TOKENS)
    batch = objective.batch(logp, old_logp, advantages, mask, keys)
    return interp.run(objective.program, batch, objective.params)


# --- signals and cells --------------------------------------------------------------------------


def is_log(objective: Objective) -> bool:
    return str(objective.typed.signal) == "log_ratio"


def signal(objective: Objective, tensors: Tensors) -> Floats:
    """What the gates see, (B, T): log r or r - 1; 0 under the mask."""
    with np.errstate(all="ignore"):
        x = np.where(tensors["mask"], tensors["logp"] - tensors["old_logp"], 0.0)
    return np.asarray(x if is_log(objective) else np.expm1(x), np.float64)


def with_signal(objective: Objective, tensors: Tensors, s: Floats) -> dict[str, NDArray[Any]]:
    """The same batch with other signals."""
    x = s if is_log(objective) else np.log1p(s)
    return {**tensors, "logp": np.minimum(x, 0.0), "old_logp": np.minimum(-x, 0.0)}


def scale_of(objective: Objective, tensors: Tensors) -> float:
    """What rounding of sums of signals is relative to."""
    return max(1.0, float(np.abs(signal(objective, tensors)).max()))


def cells(objective: Objective, tensors: Tensors, level: str) -> Ints:
    """The cell of each token, (B, T); -1 under the mask. Ids of levels below the trajectory count
    within it (docs/language.md, levels)."""
    mask = np.asarray(tensors["mask"], bool)
    rows, width = mask.shape
    row = np.repeat(np.arange(rows), width).reshape(mask.shape)
    names = objective.typed.level_names
    if level == "token":
        named = np.arange(rows * width).reshape(mask.shape)[:, :, None]
    elif level == "trajectory":
        named = row[:, :, None]
    else:
        key = next(entry.key for entry in objective.typed.levels if entry.name == level)
        assert key is not None
        ids = np.asarray(tensors[key])
        ids = np.repeat(ids[:, None], width, axis=1) if ids.ndim == 1 else ids
        within = "trajectory" in names and names.index(level) < names.index("trajectory")
        named = np.stack([row, ids] if within else [ids], axis=-1)
    _, numbers = np.unique(named.reshape(rows * width, -1), axis=0, return_inverse=True)
    return np.where(mask, numbers.reshape(mask.shape), -1)


@dataclass(frozen=True)
class Cell:
    """A cell of a level: a token of it, what its gate sees, its children, its tokens."""

    token: tuple[int, int]
    tokens: NDArray[np.bool_]
    seen: float
    size: int


def gate_inputs(objective: Objective, tensors: Tensors, level: str, values: Floats) -> list[Cell]:
    """S at the coarsest gated level, S - K S below it, by plain sums over the children."""
    names = objective.typed.level_names
    index = names.index(level)
    own = {c.token: c for c in _aggregates(objective, tensors, level, values)}
    if level == objective.typed.coarsest_gated:
        return list(own.values())
    above = _aggregates(objective, tensors, names[index + 1], values)
    return [
        Cell(t, c.tokens, c.seen - next(p.seen for p in above if p.tokens[t]), c.size)
        for t, c in own.items()
    ]


def _aggregates(objective: Objective, tensors: Tensors, level: str, values: Floats) -> list[Cell]:
    """S of each cell of a level: the mean over its children, weighed by how many cells of the
    level that `aggregate` names each of them has."""
    names = objective.typed.level_names
    ids = cells(objective, tensors, level)
    found = []
    if level == "token":
        for place in zip(*np.nonzero(ids >= 0), strict=True):
            at = (int(place[0]), int(place[1]))
            found.append(Cell(at, ids == ids[at], float(values[at]), 0))
        return found
    finer = names[names.index(level) - 1]
    children = _aggregates(objective, tensors, finer, values)
    over = cells(objective, tensors, objective.typed.aggregates[level])
    for number in np.unique(ids[ids >= 0]):
        inside = ids == number
        members = [c for c in children if inside[c.token]]
        weights = [len(np.unique(over[c.tokens])) for c in members]
        total = sum(w * c.seen for w, c in zip(weights, members, strict=True))
        at = members[0].token
        found.append(Cell(at, inside, total / sum(weights), len(members)))
    return found


def channels(objective: Objective, tensors: Tensors) -> dict[int, Floats]:
    """The channel signals by sign; 0 is the net channel."""
    s = signal(objective, tensors)
    if str(objective.typed.channels) == "net":
        return {0: s}
    return {1: np.where(s >= 0, s, 0.0), -1: np.where(s < 0, -s, 0.0)}


# --- judges -------------------------------------------------------------------------------------


def first_order_agreement(objective: Objective, tensors: Tensors, G: GatedRatio) -> float:
    """How far dG/dr is from the identity at r = 1 with these advantages and cells, by central
    differences; only the rows of tokens with an advantage are looked at."""
    mask = np.asarray(tensors["mask"], bool)
    shown = mask & (np.asarray(tensors["advantages"]) != 0)
    worst, h = 0.0, 1e-6
    for place in list(zip(*np.nonzero(mask), strict=True))[:24]:
        step = np.zeros(mask.shape)
        step[place] = h
        up = G(with_signal(objective, tensors, step))
        down = G(with_signal(objective, tensors, -step))
        column = (up - down) / (2 * h)
        column[place] -= 1.0
        worst = max(worst, float(np.abs(column[shown]).max()) if shown.any() else 0.0)
    return worst if worst > 1e-4 else 0.0


def odd(objective: Objective, tensors: Tensors, G: GatedRatio) -> float:
    """How far G of the mirrored batch is from the mirror of G. A ratio of 2 or more has none."""
    s = signal(objective, tensors)
    if not is_log(objective) and s.max() >= 1.0:
        return 0.0
    mask = np.asarray(tensors["mask"], bool)
    here, there = G(tensors)[mask], G(with_signal(objective, tensors, -s))[mask]
    if is_log(objective):
        here, there = np.log(here), np.log(there)
    else:
        here, there = here - 1.0, there - 1.0
    apart = float(np.abs(here + there).max())
    return apart if apart > 1e-11 * scale_of(objective, tensors) else 0.0


def lower_bound(objective: Objective, tensors: Tensors, G: GatedRatio) -> float:
    """How far G A exceeds r A, for A = +1 or -1 by the sign of the advantage, relative to r."""
    here = np.asarray(tensors["mask"], bool)
    x = np.asarray(tensors["logp"])[here] - np.asarray(tensors["old_logp"])[here]
    r = np.exp(np.minimum(x, 700.0))
    sign = np.where(np.asarray(tensors["advantages"])[here] >= 0, 1.0, -1.0)
    excess = float(((G(tensors)[here] - r) * sign / np.maximum(1.0, r)).max(initial=0.0))
    return excess if excess > 1e-12 * scale_of(objective, tensors) else 0.0


def outside(
    objective: Objective,
    tensors: Tensors,
    G: GatedRatio,
    low: float,
    high: float,
    favoured: bool | None = None,
) -> float:
    """How far G leaves [low, high], in the unit of the signal; where `favoured` is given only for
    advantages >= 0 or only for those < 0."""
    here = np.asarray(tensors["mask"], bool)
    if favoured is not None:
        here = here & ((np.asarray(tensors["advantages"]) >= 0) == favoured)
    if not here.any():
        return 0.0
    values, ends = G(tensors)[here], np.array([low, high])
    if is_log(objective):
        with np.errstate(divide="ignore"):
            values, ends = np.log(values), np.log(np.maximum(ends, 0.0))
    excess = float(max(ends[0] - values.min(), values.max() - ends[1]))
    return excess if excess > 1e-12 * scale_of(objective, tensors) else 0.0


def grows(objective: Objective, tensors: Tensors, G: GatedRatio) -> float:
    """By what factor |G| grows where all that rises, or all that falls, does so further (tenfold,
    in log space twice as far), if it is large to begin with: what an unbounded G does."""
    s = signal(objective, tensors)
    times = 2.0 if is_log(objective) else 10.0
    further = [np.where(s > 0, s * times, s)]
    if is_log(objective):
        further += [np.where(s < 0, s * times, s), s * times]
    mask = np.asarray(tensors["mask"], bool)
    before = np.abs(G(tensors)[mask])
    at = int(before.argmax())
    after = [np.abs(G(with_signal(objective, tensors, f))[mask])[at] for f in further]
    ratio = float(max(after) / before[at])
    return ratio if before[at] >= 1e5 and ratio >= 2.0 else 0.0


def block_diagonal(
    objective: Objective, tensors: Tensors, G: GatedRatio, level: str, rng: np.random.Generator
) -> float:
    """How much G of the tokens of a cell changes when all others drift elsewhere. The cells tried
    are those of tokens with an advantage."""
    ids = cells(objective, tensors, level)
    s, before = signal(objective, tensors), G(tensors)
    shown = (ids >= 0) & (np.asarray(tensors["advantages"]) != 0)
    worst = 0.0
    for cell in np.unique(ids[shown])[:6]:
        inside = ids == cell
        for size in (1e-4, 0.1, -0.1, 0.9):
            other = np.where(inside, s, s + size * rng.random(s.shape) * (1.0 + np.minimum(s, 0.0)))
            changed = with_signal(objective, tensors, other)
            apart = float(np.abs(G(changed) - before)[inside & shown].max())
            scale = max(scale_of(objective, changed), float(np.abs(before[inside]).max()))
            worst = max(worst, apart if apart > 1e-11 * scale else 0.0)
    return worst


def trust_region(
    objective: Objective, tensors: Tensors, G: GatedRatio, level: str, bound: float
) -> float:
    """How far the mean of |G - 1| exceeds the bound in the worst cell of the level."""
    ids, far = cells(objective, tensors, level), np.abs(G(tensors) - 1.0)
    worst = max(float(far[ids == cell].mean()) for cell in np.unique(ids[ids >= 0])) - bound
    return worst if worst > 1e-12 * scale_of(objective, tensors) else 0.0


def split_invariant(objective: Objective, tensors: Tensors, parts: list[NDArray[np.intp]]) -> float:
    """How far losses and gradients of parts, rows each, are from those of the whole."""
    whole = evaluation(objective, tensors)
    outer = objective.typed.reduce[0]
    normalizers = None
    if outer.reduction == "mean":
        ids = cells(objective, tensors, outer.level)
        normalizers = {outer.level: float(len(np.unique(ids[ids >= 0])))}
    loss, gradient = 0.0, np.zeros(np.asarray(tensors["mask"]).shape)
    for rows in parts:
        if len(rows):
            part = {name: tensor[rows] for name, tensor in tensors.items()}
            found = evaluation(objective, part, normalizers)
            loss, gradient[rows] = loss + found.loss, found.gradient
    scale = max(1.0, abs(whole.loss), float(np.abs(whole.gradient).max()))
    scale *= scale_of(objective, tensors)
    apart = max(abs(loss - whole.loss), float(np.abs(gradient - whole.gradient).max()))
    return apart if apart > 1e-12 * scale else 0.0


def value_of_gate(kind: str, x: float, C: float, k: float) -> float:
    """The gates as docs/language.md prints them (`censor` apart)."""
    a, sign = abs(x), 1.0 if x >= 0 else -1.0
    match kind:
        case "pass":
            return x
        case "drop":
            return 0.0
        case "clip":
            return sign * min(a, C)
        case "rollback":
            if a <= C:
                return x
            return sign * ((k + 1) * C - k * a) if a < (1 + 1 / k) * C else 0.0
    raise AssertionError(kind)


def restorative(objective: Objective, tensors: Tensors, level: str) -> float:
    """1.0 if some cell of the level is beyond the budget of its gate, the gate acts on it, and the
    gate does not fall there. A rollback has to fall up to (1 + 1/k) C only."""
    gate = objective.typed.gates[level]
    if gate.rule.name == "censor":
        return _censor_falls(objective, tensors, level)
    leans = np.asarray(tensors["advantages"]) >= 0
    for sign, values in channels(objective, tensors).items():
        for cell in gate_inputs(objective, tensors, level, values):
            u = cell.seen
            C, k = _budget(objective, level, sign, u), _steepness(objective, level, cell)
            if abs(u) <= C:
                continue
            if gate.rule.name == "rollback" and abs(u) * (1 + 1e-9) >= (1 + 1 / k) * C:
                continue
            h = 1e-7 * abs(u)
            near, far = (
                value_of_gate(gate.rule.name, np.sign(u) * a, C, k) for a in (abs(u), abs(u) + h)
            )
            falls = abs(far) < abs(near) and near * u > 0
            # A pessimistic gate acts where it lowers the ratio for A >= 0, raises it for A < 0.
            lowers = (near - u) * (-1 if sign < 0 else 1) < 0
            acting = cell.tokens & (leans == lowers) if gate.pessimistic else cell.tokens
            if not falls and acting.any():
                return 1.0
    return 0.0


def _censor_falls(objective: Objective, tensors: Tensors, level: str) -> float:
    gate = objective.typed.gates[level]
    assert gate.over is not None
    assert gate.budget is not None
    delta = _number(objective, gate.budget.upper)
    found = gate_inputs(objective, tensors, level, signal(objective, tensors))
    ids = cells(objective, tensors, gate.over)
    for cell in found:
        members = [c for c in found if ids[c.token] == ids[cell.token]]
        others = sum(abs(c.seen) for c in members) - abs(cell.seen)
        if abs(cell.seen) > max(0.0, len(members) * delta - others) + 1e-12:
            return 1.0  # clipped to that, whatever it is: it does not fall
    return 0.0


def _number(objective: Objective, scalar: Scalar, **counts: float) -> float:
    return float(evaluate(scalar, objective.params, counts))


def _budget(objective: Objective, level: str, sign: int, u: float) -> float:
    budget = objective.typed.gates[level].budget
    if budget is None:
        return 0.0
    upper = u >= 0 if sign == 0 else sign > 0
    return _number(objective, budget.upper if upper else budget.lower)


def _steepness(objective: Objective, level: str, cell: Cell) -> float:
    k = objective.typed.gates[level].steepness
    return (
        1.0
        if k is None
        else _number(objective, k, size=max(cell.size, 1), tokens=int(cell.tokens.sum()))
    )


def just_beyond(
    objective: Objective, tensors: Tensors, level: str
) -> Iterator[tuple[dict[str, NDArray[Any]], tuple[int, int], int]]:
    """Multiples of a batch in which a cell of the level is a little beyond its budget (what gates
    see is proportional to the signal): the batch, a token of the cell, the channel."""
    s = signal(objective, tensors)
    for sign, values in channels(objective, tensors).items():
        for cell in gate_inputs(objective, tensors, level, values)[:4]:
            if abs(cell.seen) < 1e-9:
                continue
            C, k = _budget(objective, level, sign, cell.seen), _steepness(objective, level, cell)
            factor = C * (1 + 0.3 / max(k, 1.0)) / abs(cell.seen)
            if not np.isfinite(factor) or 1e-6 * np.abs(s * factor).max() > C:
                continue  # what is seen would be mostly rounding
            if is_log(objective) or (s * factor).min() > -0.99:
                yield with_signal(objective, tensors, s * factor), cell.token, sign


def gate_falls(
    objective: Objective, tensors: Tensors, level: str, token: tuple[int, int], sign: int
) -> bool:
    """Whether the interpreter's gate on the cell of a token falls, or does not act, as the batch is
    scaled up."""
    s = signal(objective, tensors)
    lean = ".up" if tensors["advantages"][token] >= 0 else ".down"
    word = {1: ".plus", -1: ".minus", 0: ""}[sign]
    runs = []
    for factor in (1.0, 1.0 + 1e-7):
        runs.append(interpreted(objective, with_signal(objective, tensors, s * factor)))
    names = objective.typed.level_names
    cell = int(np.flatnonzero(runs[0].batch.where == np.ravel_multi_index(token, s.shape))[0])
    for fine, coarse in itertools.pairwise(names[: names.index(level) + 1]):
        cell = int(runs[0].batch.parents[fine, coarse][cell])
    ops = [
        op
        for op in objective.program.ops
        if isinstance(op, ir.Gate)
        and op.level == level
        and op.name.removesuffix(".up").removesuffix(".down").endswith(level + word)
        and not (op.name.endswith((".up", ".down")) and not op.name.endswith(lean))
    ]
    assert len(ops) == 1
    x, near, far = (
        float(r.values[name][cell])
        for r, name in ((runs[0], ops[0].x), (runs[0], ops[0].name), (runs[1], ops[0].name))
    )
    return near == x or abs(far) < abs(near)
