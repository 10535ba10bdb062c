"""Random well-typed specs, and random batches for any of them.

More than `tests/property/test_random_specs.py` draws: up to five levels, levels without
trajectories, budgets and steepness as parameters with ranges, infinite and one-sided budgets,
bounds written as ratios.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.analysis.checks import Tensors

CHAINS = (
    (("token", None),),
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None), ("group", "uid")),
    (("token", None), ("trajectory", None), ("group", "uid"), ("domain", "data_source")),
    (("token", None), ("turn", "turn_id"), ("trajectory", None)),
    (("token", None), ("turn", "turn_id"), ("trajectory", None), ("group", "uid")),
    (
        ("token", None),
        ("turn", "turn_id"),
        ("trajectory", None),
        ("group", "uid"),
        ("domain", "data_source"),
    ),
    (("token", None), ("expert", "expert_id")),
    (("token", None), ("expert", "expert_id"), ("cluster", "cluster_id")),
)
SIGNALS = ("log_ratio split", "log_ratio split", "log_ratio net", "ratio split", "ratio net")


def random_spec(rng: random.Random, chain: tuple[tuple[str, str | None], ...] | None = None) -> str:
    """A spec that checks; what it says is arbitrary."""
    signal = rng.choice(SIGNALS)
    chain = chain or rng.choice(CHAINS)
    names = [name for name, _ in chain]
    coarsest = rng.choice([rng.randrange(len(chain)), len(chain) - 1])
    blocks = []
    for index, name in enumerate(names):
        clauses = []
        if index <= coarsest:
            role = "base" if index == coarsest else "fiber"
            clauses.append(f"{role} {_gate(rng, names, index, signal)}")
        if index and rng.random() < 0.3:
            clauses.append(f"aggregate mean over {rng.choice(names[:index])}")
        if clauses:
            blocks.append(f"at {name} {{ {' '.join(clauses)} }}")
    levels = " < ".join(name + (f" by {key}" if key else "") for name, key in chain)
    space = "log" if signal.startswith("log") else "deviation"
    params = (
        f"param p : pure = {rng.uniform(0.3, 1.5):.2f} in (0, 2) "
        f"param c : {space} = {rng.uniform(0.01, 0.4):.3f} in (0.001, 0.9) "
        f"param h : ratio = {rng.uniform(1.01, 1.4):.3f} in (1, 2) "
    )
    return (
        f"objective any {{ {params} signal {signal} levels {levels} "
        f"{' '.join(blocks)} reduce {_reduce(rng, names)} }}"
    )


def _gate(rng: random.Random, names: list[str], index: int, signal: str) -> str:
    kinds = ["clip"] * 3 + ["rollback"] * 3 + ["pass", "drop"]
    coarser = names[index + 1 :]
    if coarser and signal == "ratio net":
        kinds += ["censor", "censor"]
    kind = rng.choice(kinds)
    if kind in ("pass", "drop"):
        return kind
    upper, lower = (_budget(rng) for _ in range(2))
    if kind == "censor":
        arguments = [rng.choice(["c", _number(rng)]), f"over {rng.choice(coarser)}"]
    else:
        pair = [f"+{upper}", f"-{lower}"]
        bounds = ["+ratio(h)", f"-ratio({rng.uniform(0.6, 0.99):.3f})"]
        arguments = rng.choice([pair, pair, ["c"], [_number(rng)], bounds])
    if kind == "rollback" and (index == 0 or rng.random() < 0.4):
        counts = ["p"] if index == 0 else ["p", "1 + size", "tokens", "size / 2 + tokens * p"]
        arguments.append(f"k = {rng.choice(['4', *counts])}")
    modifier = " pessimistic" if rng.random() < 0.25 else ""
    return f"{kind}({', '.join(arguments)}){modifier}"


def _budget(rng: random.Random) -> str:
    return rng.choice([_number(rng), _number(rng), "c", "2 * c", f"{_number(rng)} * p", "inf"])


def _number(rng: random.Random) -> str:
    return f"{rng.choice([0.02, 0.2, 0.2, 1.0]) * rng.uniform(0.3, 1.5):.3g}"


def _reduce(rng: random.Random, names: list[str]) -> str:
    if "trajectory" not in names and rng.random() < 0.4:
        steps = ["trajectory", "token"]
    else:
        steps = [name for name in reversed(names[1:]) if rng.random() < 0.5]
        steps.append("token")
    return ", ".join(f"{rng.choice(['mean', 'mean', 'sum'])} over {n}" for n in steps)


def random_batch(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Any drift from tiny to huge, holes and ragged rows, zeros, tokens that agree, advantages of
    all signs, and nested ids for every key of `CHAINS`."""
    rows, width = int(rng.integers(1, 7)), int(rng.integers(1, 8))
    shape = rows, width
    scale = 10.0 ** rng.uniform(-5, 0.3) if rng.random() < 0.85 else 10.0 ** rng.uniform(0.3, 1.4)
    x = rng.normal(0.0, scale, shape) * rng.choice([0.0, 1.0, 1.0, 3.0], shape)
    x += rng.normal(0.0, scale, (rows, 1)) * rng.choice([0.0, 1.0, 2.0], (rows, 1))
    x += rng.normal(0.0, scale) * rng.choice([0.0, 0.0, 1.0])
    if rng.random() < 0.2:
        x = np.abs(x) * rng.choice([-1.0, 1.0])
    x = np.clip(x, -25.0, 25.0)
    mask = rng.random(shape) < rng.choice([0.6, 1.0, 1.0])
    mask &= np.arange(width)[None, :] < rng.integers(0, width + 1, (rows, 1))
    mask[rng.integers(rows), rng.integers(width)] = True
    groups = rng.integers(0, rng.integers(1, 4), rows)
    experts = rng.integers(0, rng.integers(1, 5), shape)
    advantages = rng.choice([1.0, 0.5, -0.7, -1.0], shape)
    if rng.random() < 0.3:
        advantages = np.repeat(rng.choice([1.0, 0.0, -1.0], (rows, 1)), width, axis=1)
    return {
        "logp": np.minimum(x, 0.0),
        "old_logp": np.minimum(-x, 0.0),
        "advantages": advantages,
        "mask": mask,
        "turn_id": np.cumsum(rng.random(shape) < 0.4, axis=1),
        "uid": groups,
        "data_source": groups // 2,
        "expert_id": experts,
        "cluster_id": experts // 2,
    }


def split_in_two(rng: np.random.Generator, tensors: Tensors) -> list[NDArray[np.intp]]:
    """The rows of a batch, dealt to two parts."""
    side = rng.random(len(tensors["mask"])) < 0.5
    return [np.flatnonzero(side), np.flatnonzero(~side)]
