"""Objectives beside their closed forms, so that the two can be compared on any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import fibdsl
from fibdsl.objective import Objective
from tests import closed_forms
from tests.closed_forms import Batch, Floats, Level
from tests.meaning.batches import spec

DATA = Path(__file__).parents[2] / "examples" / "data"


@dataclass(frozen=True)
class Pair:
    """An objective, its closed form `batch -> (G, loss)`, and the drift at which gates act."""

    objective: Objective
    closed_form: Callable[[Batch], tuple[Floats, float]]
    drift: float = 0.2
    trajectory_drift: float = 0.15


def real(name: str) -> Batch:
    """The rollouts of a real model, `near` or `far`; a state is a prompt, for lack of another."""
    t = load_file(DATA / f"rollouts_{name}.safetensors")
    keys = {"uid": t["uid"], "data_source": t["data_source"], "state_id": t["uid"]}
    logp, old_logp, A = (t[k].astype(np.float64) for k in ("logp", "old_logp", "advantages"))
    return Batch(logp, old_logp, A, t["mask"], keys)


# --- chains of rollback gates -------------------------------------------------------------------

NAMES = {
    None: "trajectory",
    "uid": "group by uid",
    "data_source": "domain by data_source",
    "campus": "campus by campus",
    # One cell, two names: ids within a trajectory for the spec, global ones for the closed form.
    "turn_cell": "turn by turn_id",
    # Without the trajectory in the chain ids are global, so this is not the same level.
    "turn_id": "turn by turn_id",
    "expert_id": "expert by expert_id",
}


def chain(
    levels: Sequence[Level], epsilon: float, reduce: str = "mean over trajectory, mean over token"
) -> Objective:
    """The spec that says what `closed_forms.hierarchy(batch, levels, epsilon)` computes."""
    entries = [NAMES[key] for key, *_ in levels]
    statements = []
    for entry, (_, budgets, k, mean_over) in zip(entries, levels, strict=True):
        assert isinstance(budgets, tuple)
        steepness = "" if k is None else f", k = {k}"
        aggregate = "aggregate mean over token" if mean_over == "token" else ""
        role = "base" if entry is entries[-1] else "fiber"
        gate = f"{role} rollback(+{budgets[0]}, -{budgets[1]}{steepness})"
        statements.append(f"at {entry.split()[0]} {{ {aggregate} {gate} }}")
    statements += [f"at token {{ fiber clip({epsilon}) }}", f"reduce {reduce}"]
    return spec("log_ratio split", " < ".join(["token", *entries]), *statements)


def chain_pair(levels: Sequence[Level], epsilon: float) -> Pair:
    return Pair(
        chain(levels, epsilon),
        lambda batch: closed_forms.hierarchy(batch, list(levels), epsilon),
    )


TRAJECTORY: Level = (None, (0.15, 0.09), None, "children")
GROUP: Level = ("uid", (0.08, 0.05), None, "children")
DOMAIN: Level = ("data_source", (0.05, 0.03), None, "children")
CAMPUS: Level = ("campus", (0.04, 0.03), 3.0, "children")
TURN: Level = ("turn_cell", (0.06, 0.09), None, "children")
EXPERT: Level = ("expert_id", (0.05, 0.04), None, "children")


def over_tokens(level: Level, k: float | None = None) -> Level:
    return (level[0], level[1], k, "token")


CHAINS: Mapping[str, Sequence[Level]] = {
    "two": [TRAJECTORY],
    "three": [TRAJECTORY, GROUP],
    "four": [TRAJECTORY, GROUP, DOMAIN],
    "five": [TRAJECTORY, GROUP, DOMAIN, CAMPUS],
    "six": [TURN, TRAJECTORY, GROUP, DOMAIN, CAMPUS],
    "turn": [TURN, TRAJECTORY],
    "only_turn": [("turn_id", (0.05, 0.04), None, "children")],
    "expert": [EXPERT],
    "domain_of_trajectories": [TRAJECTORY, DOMAIN],
    "means_over_tokens": [TRAJECTORY, over_tokens(GROUP), over_tokens(DOMAIN, 4.0)],
    "mixed_means": [TURN, over_tokens(TRAJECTORY), GROUP, over_tokens(DOMAIN)],
    "explicit_k": [(None, (0.1, 0.05), 8.0, "children")],
    "fractional_k": [(None, (0.1, 0.05), 0.5, "children"), ("uid", (0.05, 0.05), 2.5, "token")],
}

SHIPPED: Mapping[str, Pair] = {
    "ppo": Pair(fibdsl.load("ppo"), lambda b: closed_forms.ppo(b, 0.2, 0.2, "token")),
    "grpo": Pair(fibdsl.load("grpo"), lambda b: closed_forms.ppo(b, 0.2, 0.2, "trajectory")),
    "dapo": Pair(fibdsl.load("dapo"), lambda b: closed_forms.ppo(b, 0.2, 0.28, "token")),
    "gspo": Pair(fibdsl.load("gspo"), lambda b: closed_forms.gspo(b, 0.9997, 1.0004), 5e-4, 5e-4),
    "apc": Pair(fibdsl.load("apc"), lambda b: closed_forms.apc(b, 0.1, "state_id"), 0.1, 0.0),
    "fiberpo": Pair(fibdsl.load("fiberpo"), lambda b: closed_forms.fiberpo(b, 0.2, 0.1, 0.02)),
    "fiberpo_domain": Pair(
        fibdsl.load("fiberpo_domain"),
        lambda b: closed_forms.hierarchy(b, [TRAJECTORY, GROUP, DOMAIN], 0.02),
    ),
}

WITH_PARAMS: Mapping[str, Pair] = {
    "ppo": Pair(
        fibdsl.load("ppo", epsilon=0.07), lambda b: closed_forms.ppo(b, 0.07, 0.07, "token")
    ),
    "dapo": Pair(
        fibdsl.load("dapo", epsilon_high=1.5, epsilon_low=0.05),
        lambda b: closed_forms.ppo(b, 0.05, 1.5, "token"),
    ),
    "gspo": Pair(fibdsl.load("gspo", high=1.2, low=0.9), lambda b: closed_forms.gspo(b, 0.9, 1.2)),
    "apc": Pair(fibdsl.load("apc", delta=0.3), lambda b: closed_forms.apc(b, 0.3, "state_id"), 0.3),
    "fiberpo": Pair(
        fibdsl.load("fiberpo", c_plus=0.11, c_minus=0.04, epsilon=0.07),
        lambda b: closed_forms.fiberpo(b, 0.11, 0.04, 0.07),
    ),
}


def _clip(signal: str, bounds: str) -> Pair:
    """DAPO in other words: units of the bounds, and channels, which at the token never cancel."""
    return Pair(
        spec(
            signal,
            "token",
            f"at token {{ base clip({bounds}) pessimistic }}",
            "reduce mean over token",
        ),
        lambda b: closed_forms.ppo(b, 0.2, 0.28, "token"),
    )


def _censor(levels: str, over: str, key: str) -> Pair:
    return Pair(
        spec(
            "ratio",
            levels,
            f"at token {{ base censor(0.1, over {over}) }}",
            "reduce mean over token",
        ),
        lambda b: closed_forms.apc(b, 0.1, key),
        0.1,
        0.0,
    )


IN_OTHER_WORDS: Mapping[str, Pair] = {
    "dapo_log_net": _clip("log_ratio net", "+ratio(1.28), -ratio(0.8)"),
    "dapo_log_split": _clip("log_ratio split", "+ratio(1.28), -ratio(0.8)"),
    "dapo_ratio_split": _clip("ratio split", "+0.28, -ratio(0.8)"),
    "apc_over_groups": _censor("token < trajectory < group by uid", "group", "uid"),
    "apc_over_turns": _censor("token < turn by turn_id < trajectory", "turn", "turn_cell"),
}

PAIRS: Mapping[str, Pair] = {
    **SHIPPED,
    **IN_OTHER_WORDS,
    **{f"{name}_with_params": pair for name, pair in WITH_PARAMS.items()},
    **{f"chain_{name}": chain_pair(levels, 0.02) for name, levels in CHAINS.items()},
}
