"""Judges of properties of any objective, from their definitions in docs/language.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibdsl.objective import Objective
from tests.analysis import checks
from tests.analysis.general_subjects import ByNumpy, Subject
from tests.meaning.batches import Tensors
from tests.property.nodes import Floats

# --- batches ------------------------------------------------------------------------------------


def log_ratio(tensors: Tensors) -> Floats:
    """x of each token, (B, T), 0 under the mask."""
    return np.where(tensors["mask"], tensors["logp"] - tensors["old_logp"], 0.0)


def with_log_ratio(tensors: Tensors, x: Floats) -> Tensors:
    """The same batch with other log-ratios: new log-probabilities, lower ones where needed."""
    x = np.where(tensors["mask"], x, 0.0)
    return {
        **tensors,
        "old_logp": np.minimum(tensors["old_logp"], -x),
        "logp": np.minimum(tensors["old_logp"], -x) + x,
    }


def moved(tensors: Tensors, by: Floats) -> Tensors:
    """The same batch with other new log-probabilities, none above 0."""
    return {**tensors, "logp": np.minimum(tensors["logp"] + by, 0.0)}


def lowered(tensors: Tensors) -> Tensors:
    """The same log-ratios of less probable tokens, which can move upwards too."""
    return {**tensors, "logp": tensors["logp"] - 1.0, "old_logp": tensors["old_logp"] - 1.0}


def cells(subject: Subject, tensors: Tensors, level: str) -> NDArray[np.int64]:
    """The cell of each valid token."""
    found = checks.cells(subject.objective, {**tensors, **tensors["keys"]}, level)
    return np.asarray(found[np.asarray(tensors["mask"], bool)], np.int64)


def scale_of(*values: Floats) -> float:
    finite = [np.abs(v[np.isfinite(v)]).max(initial=0.0) for v in values]
    return max(1.0, *map(float, finite))


def counted(tensors: Tensors, values: Floats) -> Floats:
    """What a (B, T) array says of the valid tokens."""
    return np.asarray(np.asarray(values)[np.asarray(tensors["mask"], bool)], np.float64)


# --- judges -------------------------------------------------------------------------------------


def first_order_agreement(subject: Subject, tensors: Tensors, refuted: bool) -> float:
    """How far the derivative of the surrogate at r = 1 is from the identity, for these advantages
    and cells. At a kink one side of it will do: which one is the gradient is a convention."""
    at_one = {**tensors, "logp": np.minimum(tensors["old_logp"], -1e-3)}
    at_one["old_logp"] = at_one["logp"]
    shown = counted(tensors, tensors["advantages"]) != 0
    errors = [np.abs(side - np.eye(len(shown)))[shown] for side in subject.jacobians(at_one)]
    worst = float((np.maximum if refuted else np.minimum)(*errors).max(initial=0.0))
    return worst if worst > 1e-4 else 0.0


def odd(subject: Subject, tensors: Tensors) -> float:
    """How far G of the mirrored batch is from the mirror of G."""
    x = log_ratio(tensors)
    log = str(subject.objective.typed.signal) == "log_ratio"
    if not log:
        deviation = np.expm1(x)
        if deviation.max(initial=0.0) >= 0.999:
            return 0.0
        mirrored = np.log1p(-deviation)
    else:
        mirrored = -x
    here = with_log_ratio(tensors, x)
    there = with_log_ratio({**tensors, "old_logp": here["old_logp"]}, mirrored)
    # The same old policy for both: gates may look at probabilities.
    here = with_log_ratio({**tensors, "old_logp": there["old_logp"]}, x)
    a, b = subject.values(here).gated_ratio, subject.values(there).gated_ratio
    a, b = (np.log(a), np.log(b)) if log else (a - 1.0, b - 1.0)
    worst = float(np.abs(a + b).max(initial=0.0))
    return worst if worst > 1e-10 * scale_of(x, np.expm1(x)) else 0.0


def lower_bound(subject: Subject, tensors: Tensors) -> float:
    """How far factor * A exceeds r A, for A = +-1 by the sign of the advantage."""
    r = np.exp(counted(tensors, log_ratio(tensors)))
    sign = np.where(counted(tensors, tensors["advantages"]) >= 0, 1.0, -1.0)
    excess = (subject.values(tensors).factor - r) * sign / np.maximum(1.0, r)
    worst = float(excess.max(initial=0.0))
    return worst if worst > 1e-10 * scale_of(log_ratio(tensors)) else 0.0


def outside(
    values: Floats, advantages: Floats, by_advantage: tuple[Any, Any], scale: float
) -> float:
    """How far values leave the ranges for advantages >= 0 and < 0."""
    worst = 0.0
    for favoured, interval in zip((True, False), by_advantage, strict=True):
        here = values[(advantages >= 0) == favoured]
        if here.size:
            low, high = float(interval.low), float(interval.high)
            worst = max(worst, low - float(here.min()), float(here.max()) - high)
    return worst if worst > 1e-10 * scale else 0.0


def grows(subject: Subject, tensors: Tensors) -> float:
    """By what factor |weight * surrogate| grows, where it is large, as all that rises, or all that
    falls, does so further: what no number bounds. Infinite where it is as large as numbers are."""
    x = log_ratio(tensors)
    before = np.abs(subject.values(tensors).factor)
    if not before.size or before.max() < 1e5:
        return 0.0
    if before.max() >= 1e300:
        return float("inf")
    at = int(before.argmax())
    further = [x + 3.0 * np.sign(np.maximum(x, 0)), x + 3.0 * np.sign(np.minimum(x, 0)), x * 1.2]
    after = [np.abs(subject.values(with_log_ratio(tensors, f)).factor)[at] for f in further]
    ratio = float(max(after) / before[at])
    return ratio if ratio >= 1.5 else 0.0


def block_diagonal(
    subject: Subject, tensors: Tensors, level: str, rng: np.random.Generator
) -> float:
    """How much factor and penalty of a cell's tokens change when the others move, and how much
    they follow them where stop-gradients are held."""
    ids, mask = cells(subject, tensors, level), np.asarray(tensors["mask"], bool)
    tensors = lowered(tensors)
    before = subject.values(tensors)
    shown = counted(tensors, tensors["advantages"]) != 0
    worst = 0.0
    for cell in np.unique(ids)[:4]:
        inside = ids == cell
        for size in (1e-4, -1e-4, 0.3, -0.3):
            by = np.zeros(mask.shape)
            by[mask] = np.where(inside, 0.0, size * rng.random(len(ids)))
            after = subject.values(moved(tensors, by))
            for own, other, kept in (
                (before.factor, after.factor, inside & shown),
                (before.penalty, after.penalty, inside),
            ):
                apart = float(np.abs(other - own)[kept].max(initial=0.0))
                worst = max(worst, apart if apart > 1e-10 * scale_of(own, other) else 0.0)
    return max(worst, _followed(subject, tensors, ids, shown))


def _followed(
    subject: Subject, tensors: Tensors, ids: NDArray[np.int64], shown: NDArray[np.bool_]
) -> float:
    if len(ids) > 12:
        return 0.0
    slopes = np.minimum(*map(np.abs, subject.jacobians(tensors)))
    foreign = np.where(ids[:, None] == ids[None, :], 0.0, slopes)[shown]
    worst = float(foreign.max(initial=0.0))
    return worst if worst > 1e-5 * scale_of(slopes) else 0.0


def trust_region(subject: Subject, tensors: Tensors, level: str, bound: float) -> float:
    """How far the mean of |G - 1| exceeds the bound in the worst cell of the level."""
    ids, far = cells(subject, tensors, level), np.abs(subject.values(tensors).gated_ratio - 1.0)
    worst = max(float(far[ids == cell].mean()) for cell in np.unique(ids)) - bound
    return worst if worst > 1e-10 * scale_of(far) else 0.0


def split_invariant(subject: Subject, tensors: Tensors, parts: list[NDArray[np.intp]]) -> float:
    """How far the losses of parts, rows each, add up to another loss than that of the whole."""
    objective = subject.objective
    outer = objective.typed.reduce[0]
    normalizers = None
    if outer.reduction == "mean":
        normalizers = {outer.level: float(len(np.unique(cells(subject, tensors, outer.level))))}
    whole = _evaluate(objective, tensors)
    found = [
        _evaluate(objective, of_rows(tensors, rows), normalizers).loss
        for rows in parts
        if len(rows)
    ]
    apart = abs(sum(found) - whole.loss)
    return apart if apart > 1e-10 * scale_of(np.array([*found, whole.loss])) else 0.0


def of_rows(tensors: Tensors, rows: NDArray[np.intp]) -> Tensors:
    part: Tensors = {word: t[rows] for word, t in tensors.items() if word != "keys"}
    part["keys"] = {key: ids[rows] for key, ids in tensors["keys"].items()}
    return part


def _evaluate(
    objective: Objective, tensors: Tensors, normalizers: Mapping[str, float] | None = None
) -> Any:
    words = ("logp", "old_logp", "advantages", "mask", *objective.tensors)
    given: dict[str, Any] = {word: tensors[word] for word in words}
    keys = {key: tensors["keys"][key] for key in objective.keys}
    return objective.evaluate(**given, keys=keys, normalizers=normalizers)


def jump(subject: Subject, tensors: Tensors, rng: np.random.Generator) -> float:
    """The largest jump of G or factor left on a way to other log-probabilities, halved forty times
    towards where they change most."""
    end = rng.normal(0.0, 0.4, tensors["mask"].shape)
    start = lowered(tensors)

    def at(t: float) -> Floats:
        found = subject.values(moved(start, t * end))
        return np.concatenate([found.gated_ratio, found.factor])

    return halved(at)


def halved(at: Callable[[float], Floats]) -> float:
    ends = np.linspace(0.0, 1.0, 9)
    values = [at(float(t)) for t in ends]
    changes = [float(np.abs(b - a).max()) for a, b in itertools.pairwise(values)]
    widest = int(np.argmax(changes))
    low, high = float(ends[widest]), float(ends[widest + 1])
    below, above = values[widest], values[widest + 1]
    for _ in range(40):
        middle = (low + high) / 2
        value = at(middle)
        if np.abs(value - below).max() >= np.abs(above - value).max():
            high, above = middle, value
        else:
            low, below = middle, value
    left = float(np.abs(above - below).max())
    return left if left > 1e-7 * scale_of(above) else 0.0


def neighbours_jump(subject: Subject, tensors: Tensors) -> float:
    """How far G of two tokens of one batch, alike but for a billionth, is apart: a witness."""
    x = counted(tensors, log_ratio(tensors))
    G = subject.values(tensors).gated_ratio
    signs = np.sign(counted(tensors, tensors["advantages"]))
    near = np.abs(x[:, None] - x[None, :]) <= 1e-6 * np.maximum(1.0, np.abs(x))
    near &= signs[:, None] == signs[None, :]
    return float(np.where(near, np.abs(G[:, None] - G[None, :]), 0.0).max(initial=0.0))


def restorative(subject: ByNumpy, tensors: Tensors, level: str) -> float:
    """1.0 if some cell of the level is beyond the budget of its gate, the gate acts on it, and does
    not fall there. A rollback has to fall until it is 0 only."""
    world = subject.world(tensors)
    use = world.spec.gates[level]
    for channel in (1, -1) if world.spec.split else (0,):
        u = world.seen(level, channel)
        for lean in (1, -1):
            C = world.budget(use, level, channel, lean)
            near, far = (world.gate_of(use, level, channel, lean, u * f) for f in (1, 1 + 1e-7))
            looked = (np.abs(u) > C) & (np.abs(u) > 1e-9) & (world.lean == lean)
            if use.pessimistic:
                looked &= near != u
            if use.definition.name == "rollback":
                looked &= (near != 0) & (far != 0)
            falls = (np.abs(far) < np.abs(near)) & (near * u > 0)
            if (looked & ~falls).any():
                return 1.0
    return 0.0
