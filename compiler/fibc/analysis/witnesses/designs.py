"""Batches made to measure: one whose aggregates, on the way to one token, are given numbers.

A path says how far the cells that hold a token have drifted, coarsest to finest. The batch gives
each of those cells as many children as it takes for the others to make up the mean, all cells of a
level equally many, so that every weighing of the children gives the same aggregate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibc.typed import TypedObjective
from fibdsl.types import TOKEN, TRAJECTORY, Channels, Signal

Drift = tuple[float, float]
"""The aggregate of a cell in the unit of the signal: (+ channel, - channel), both 0 or more; where
the signal is net, (its value, 0)."""

_SIZES = (1, 2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 45, 64)
# Tokens of a batch beyond which it is no witness any more.
_LARGEST = 4096
# Under this much a deviation r - 1 is no longer that of a positive ratio.
_LEAST_DEVIATION = -0.999


@dataclass(frozen=True, slots=True)
class Path:
    """A token and the cells it is in.

    Attributes:
        drifts: of each level above the token, finest first, the aggregate of the token's cell.
        token: the token's own signal, signed.
    """

    drifts: tuple[Drift, ...]
    token: float

    def mirrored(self, channels: Channels) -> Path:
        """The path whose every signal is the negative of this one's."""
        if channels is Channels.NET:
            return Path(tuple((-d, 0.0) for d, _ in self.drifts), -self.token)
        return Path(tuple((minus, plus) for plus, minus in self.drifts), -self.token)


@dataclass(frozen=True)
class Built:
    """A batch and where the tokens of its paths are.

    Attributes:
        tensors: logp, old_logp, advantages, mask (B, T), and ids by key.
        at: for each path, the position of its token in a token tensor.
        cells: for each level, the cell of every position, (B, T).
    """

    tensors: dict[str, NDArray[Any]]
    at: tuple[tuple[int, int], ...]
    cells: dict[str, NDArray[np.int64]]


def build(
    objective: TypedObjective,
    paths: Sequence[Path],
    top: str,
    advantages: Sequence[float] = (1.0,),
    minimum: Mapping[str, int] | None = None,
) -> Built | None:
    """A batch with a cell of the level `top` for each path, or None where no batch of a
    reasonable size has such a path.

    Args:
        top: the coarsest level with more than one cell; drifts go up to it.
        advantages: of all tokens of each path's cell; one number is for all paths.
        minimum: the least number of children of the cells of a level; 2 where it is not given.
    """
    names = objective.level_names
    levels = names[: names.index(top) + 1]
    if not all(_real(objective, path) for path in paths):
        return None
    sizes = _sizes(objective, paths, levels, minimum or {})
    if sizes is None or math.prod(sizes.values()) * len(paths) > _LARGEST:
        return None
    leaves: list[float] = []
    starts = []
    for path in paths:
        starts.append(len(leaves))
        try:
            leaves += _subtree(objective, path, len(levels) - 1, sizes)
        except _ImpossibleError:
            return None
    return _lay_out(objective, np.array(leaves), starts, levels, sizes, advantages)


class _ImpossibleError(Exception):
    """The tokens of some other cell cannot make up its mean."""


# --- how many children --------------------------------------------------------------------------


def _sizes(
    objective: TypedObjective,
    paths: Sequence[Path],
    levels: tuple[str, ...],
    minimum: Mapping[str, int],
) -> dict[str, int] | None:
    """The number of children of the cells of each level above the token."""
    sizes = {}
    for index, level in enumerate(levels[1:]):
        fitting = (
            size
            for size in _SIZES
            if size >= minimum.get(level, 2)
            and all(_fits(objective, path, index, size) for path in paths)
        )
        size = next(fitting, None)
        if size is None:
            return None
        sizes[level] = size
    return sizes


def _real(objective: TypedObjective, path: Path) -> bool:
    """Whether a token can have such a ratio and its cells such aggregates."""
    token = objective.signal is Signal.LOG_RATIO or path.token > _LEAST_DEVIATION
    return token and all(_possible(objective, drift) for drift in path.drifts)


def _fits(objective: TypedObjective, path: Path, index: int, size: int) -> bool:
    """Whether the other children can make up for the path's child, at the cell drifts[index]."""
    parent = path.drifts[index]
    if index == 0:
        return _fillers(objective, parent, size, path.token) is not None
    child = path.drifts[index - 1]
    if size == 1:
        return all(math.isclose(p, c, abs_tol=1e-15) for p, c in zip(parent, child, strict=True))
    return _possible(objective, _others(parent, child, size))


def _others(parent: Drift, child: Drift, size: int) -> Drift:
    plus, minus = ((size * p - c) / (size - 1) for p, c in zip(parent, child, strict=True))
    return plus, minus


def _possible(objective: TypedObjective, drift: Drift) -> bool:
    """Whether a cell can have such an aggregate."""
    ratio = objective.signal is Signal.RATIO
    if objective.channels is Channels.NET:
        return not ratio or drift[0] > _LEAST_DEVIATION
    return min(drift) >= -1e-15 and (not ratio or drift[1] < -_LEAST_DEVIATION)


# --- the tokens of a cell -----------------------------------------------------------------------


def _subtree(
    objective: TypedObjective, path: Path, index: int, sizes: Mapping[str, int]
) -> list[float]:
    """The tokens below the path's cell of levels[index], the path's token first."""
    if index == 0:
        return [path.token]
    names = objective.level_names
    size, parent = sizes[names[index]], path.drifts[index - 1]
    if index == 1:
        fillers = _fillers(objective, parent, size, path.token)
        assert fillers is not None
        return [path.token, *fillers]
    tokens = _subtree(objective, path, index - 1, sizes)
    if size > 1:
        others = _others(parent, path.drifts[index - 2], size)
        for _ in range(size - 1):
            tokens += _uniform(objective, others, index - 1, sizes)
    return tokens


def _uniform(
    objective: TypedObjective, drift: Drift, index: int, sizes: Mapping[str, int]
) -> list[float]:
    """The tokens of a cell whose children all have its own aggregate."""
    size = sizes[objective.level_names[index]]
    if index > 1:
        return [t for _ in range(size) for t in _uniform(objective, drift, index - 1, sizes)]
    tokens = _fillers(objective, drift, size, None)
    if tokens is None:
        raise _ImpossibleError
    return tokens


def _fillers(
    objective: TypedObjective, drift: Drift, size: int, token: float | None
) -> list[float] | None:
    """The signals of the other tokens of a cell, or None where they cannot make up its mean."""
    count = size if token is None else size - 1
    own = 0.0 if token is None else token
    if objective.channels is Channels.NET:
        if count == 0:
            return [] if math.isclose(own, drift[0], abs_tol=1e-15) else None
        each = (size * drift[0] - own) / count
        return [each] * count if _possible(objective, (each, 0.0)) else None
    plus = size * drift[0] - max(own, 0.0)
    minus = size * drift[1] - max(-own, 0.0)
    if min(plus, minus) < -1e-15:
        return None
    ups = 0 if plus <= 1e-15 else count if minus <= 1e-15 else count // 2
    downs = 0 if minus <= 1e-15 else count - ups
    if (plus > 1e-15 and ups == 0) or (minus > 1e-15 and downs == 0):
        return None
    rest = [0.0] * (count - ups - downs)
    filled = [plus / ups] * ups if ups else []
    filled += [-minus / downs] * downs if downs else []
    limit = -_LEAST_DEVIATION if objective.signal is Signal.RATIO else math.inf
    return [*filled, *rest] if downs == 0 or minus / downs < limit else None


# --- tensors ------------------------------------------------------------------------------------


def _lay_out(
    objective: TypedObjective,
    signal: NDArray[np.float64],
    starts: list[int],
    levels: tuple[str, ...],
    sizes: Mapping[str, int],
    advantages: Sequence[float],
) -> Built:
    names = objective.level_names
    per_cell, tokens = {TOKEN: 1}, 1
    for level in levels[1:]:
        tokens *= sizes[level]
        per_cell[level] = tokens
    # Coarser levels only group: one cell, which holds everything.
    width = per_cell.get(TRAJECTORY, 1 if TRAJECTORY not in names else len(signal))
    shape = (len(signal) // width, width)
    x = signal if objective.signal is Signal.LOG_RATIO else np.log1p(signal)
    index = np.arange(len(signal))
    of_path = index // per_cell[levels[-1]]
    tensors: dict[str, NDArray[Any]] = {
        # One of the two is 0, so that their difference is x to the last digit.
        "logp": np.minimum(x, 0.0).reshape(shape),
        "old_logp": np.minimum(-x, 0.0).reshape(shape),
        "advantages": np.array(advantages, float)[of_path % len(advantages)].reshape(shape),
        "mask": np.ones(shape, bool),
    }
    tensors |= dict.fromkeys(objective.tensors, tensors["old_logp"])
    cells = {}
    for cell in objective.levels:
        ids = index // per_cell[cell.name] if cell.name in per_cell else np.zeros_like(index)
        cells[cell.name] = ids.reshape(shape)
        if cell.key is not None:
            tensors[cell.key] = cells[cell.name]
    at = tuple(divmod(start, width) for start in starts)
    return Built(tensors, at, cells)


# --- paths worth trying -------------------------------------------------------------------------


def single_deviations(
    objective: TypedObjective, sizes: Mapping[str, Sequence[float]], top: str
) -> Iterator[tuple[str, int, Path]]:
    """Paths on which one level deviates from the cell above it and the others do not.

    Args:
        sizes: for each gated level, the magnitudes to try.

    Yields:
        the level, the sign of the deviation, and the path; for each magnitude, both signs and both
        channels.
    """
    names = objective.level_names
    levels = names[: names.index(top) + 1]
    split = objective.channels is Channels.SPLIT
    for position, level in enumerate(levels):
        for magnitude in sizes.get(level, ()):
            for sign in (1, -1):
                for channel in (0, 1) if split else (0,):
                    path = _deviating(levels, position, sign * magnitude, channel, split)
                    if path is not None:
                        yield level, sign, path


def _deviating(
    levels: tuple[str, ...], position: int, deviation: float, channel: int, split: bool
) -> Path | None:
    # A magnitude cannot fall below 0: what falls, falls from somewhere. A little above 0 in any
    # case, so that a cell has something for its other children to make up.
    height = 0.0
    if split:
        height = 1.25 * abs(deviation) if deviation < 0 else 0.25 * abs(deviation)
    top = position == len(levels) - 1
    if top:
        if split and deviation < 0:
            return None
        height = deviation
    values = [height] * len(levels)
    if not top:
        for index in range(position + 1):
            values[index] = height + deviation
    drifts = tuple((v, 0.0) if channel == 0 else (0.0, v) for v in values[1:])
    return Path(drifts, -values[0] if channel == 1 else values[0])


def random_tensors(objective: TypedObjective, seed: int, scale: float) -> dict[str, NDArray[Any]]:
    """A small batch of random drifts and cells and ragged rows, valid for the objective; its first
    token is under no mask."""
    rng = np.random.default_rng(seed)
    rows, width = int(rng.integers(2, 6)), int(rng.integers(1, 6))
    x = rng.normal(0.0, scale, (rows, width)) * rng.choice([0.0, 1.0, 1.0, 3.0], (rows, width))
    x += rng.normal(0.0, scale, (rows, 1)) * rng.choice([0.0, 1.0, 2.0], (rows, 1))
    tensors: dict[str, NDArray[Any]] = {
        "logp": np.minimum(x, 0.0),
        "old_logp": np.minimum(-x, 0.0),
        "advantages": rng.choice([1.0, -1.0], (rows, width)),
        "mask": np.arange(width)[None, :] < rng.integers(1, width + 1, (rows, 1)),
    }
    for name in objective.tensors:
        # Other policies are near the old one.
        other = tensors["old_logp"] + rng.normal(0.0, scale, (rows, width))
        tensors[name] = np.minimum(other, 0.0)
    names = objective.level_names
    row = names.index(TRAJECTORY) if TRAJECTORY in names else -1
    coarser = np.arange(rows)[:, None] + np.zeros((1, width), np.int64)
    finer = np.arange(width)[None, :] + np.zeros((rows, 1), np.int64)
    free = rng.integers(0, 3, (rows, width))
    for position, level in enumerate(objective.levels):
        if level.key is None:
            continue
        if row < 0:
            free = free // 2 if position > 1 else free
            tensors[level.key] = free
        elif position > row:
            coarser = coarser // 2
            tensors[level.key] = coarser
        else:
            finer = finer // 2
            tensors[level.key] = finer
    return tensors
