"""The losses of the language: every shipped spec, and FiberPO of six levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import fibdsl
from benchmarks.fused.batches import LEVELS, Batch
from benchmarks.fused.cases import Case, differentiated
from fibdsl.resources import shipped_specs

TWO, FOUR, SIX = "fiberpo", "fiberpo_domain", "fiberpo_6"
NO_METRICS = ", no metrics"
BOOL_MASK = ", bool mask"


@dataclass(frozen=True)
class Budgets:
    """Of FiberPO: (plus, minus) of each level from the trajectory up, and the token's clip."""

    pairs: tuple[tuple[float, float], ...]
    epsilon: float


def budgets(name: str) -> Budgets:
    """Those of a shipped FiberPO, so that what is written by hand computes the same."""
    values = fibdsl.load(name).params
    prefixes = ("c",) if name == TWO else ("trajectory", "group", "domain")
    pairs = tuple((values[f"{p}_plus"], values[f"{p}_minus"]) for p in prefixes)
    return Budgets(pairs, values["epsilon"])


def many_levels(name: str, above: int) -> str:
    """A spec like `fiberpo_domain` with `above` keyed levels above the trajectory."""
    chosen = LEVELS[:above]
    names = ["trajectory", *(f"level_{key}" for key in chosen)]
    chain = " < ".join(f"level_{key} by {key}" for key in chosen)
    gates = [
        f"  at {level} {{ {'base ' if level == names[-1] else 'fiber'} rollback(+0.08, -0.05) }}"
        for level in reversed(names)
    ]
    return "\n".join(
        [
            "edition 2026",
            "",
            f"objective {name} {{",
            "  signal log_ratio split",
            f"  levels token < trajectory < {chain}",
            *gates,
            "  at token { fiber clip(0.02) }",
            "  reduce mean over trajectory, mean over token",
            "}",
            "",
        ]
    )


def load(name: str) -> fibdsl.Objective:
    """A shipped objective, or the one of six levels."""
    if name == SIX:
        return fibdsl.load_text(many_levels(SIX, 4), path=f"{SIX}.fib")
    return fibdsl.load(name)


MEASURED = ("apc", "dapo", "fiberpo", "fiberpo_domain", "grpo", "gspo", "ppo")
"""What is measured unless others are asked for: one of each way to gate."""


def names() -> list[str]:
    """What can be measured: all whose cells a batch of the benchmark has."""
    ids = {*LEVELS, "state_id"}
    specs = {name: load(name) for name in shipped_specs()}
    return [*(name for name, spec in specs.items() if set(spec.keys) <= ids), SIX]


def measured() -> list[str]:
    return [*MEASURED, SIX]


def compiled(name: str, *, metrics: bool = True) -> Any:
    """The loss module, as a user makes it."""
    return load(name).compile(metrics=None if metrics else ())


def keys_of(module: Any, batch: Batch) -> dict[str, Tensor] | None:
    """The ids that a loss module needs."""
    wanted = [key for _, key in module.objective.levels if key is not None]
    return {key: batch.keys[key] for key in wanted} or None


def called(module: Any, *, bool_mask: bool = False) -> Callable[[Batch], Tensor]:
    """The loss of a batch, as a training step calls it."""

    def loss(batch: Batch) -> Tensor:
        mask = batch.bool_mask if bool_mask else batch.mask
        tensors = (batch.logp, batch.old_logp, batch.advantages, mask)
        out = module(*tensors, keys=keys_of(module, batch), cu_seqlens=batch.layout)
        value: Tensor = out.loss
        return value

    return loss


def cases(chosen: Sequence[str]) -> list[Case]:
    """Every chosen objective; FiberPO also without metrics, and of two and four levels with a bool
    mask."""
    out: list[Case] = []
    for name in chosen:
        module = compiled(name)
        out.append(differentiated(name, called(module)))
        if name in (TWO, FOUR):
            out.append(differentiated(name + BOOL_MASK, called(module, bool_mask=True)))
        if name in (TWO, FOUR, SIX):
            plain = compiled(name, metrics=False)
            out.append(differentiated(name + NO_METRICS, called(plain)))
    return out
