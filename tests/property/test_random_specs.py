"""Random well-typed specs: the generated code against the reference interpreter, in float64.

Any depth, keys a token and a trajectory, every gate, modifiers, aggregates over any finer level,
any nesting of the reduce; padded and packed, ragged, with empty rows and arbitrary ids.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

import fibdsl
from tests import deep
from tests.compiled.cases import LAYOUTS, compiled, random_case, reference

INNER = [("turn", "turn_id"), ("expert", "expert_id")]
OUTER = [("group", "uid"), ("domain", "data_source")]


def random_spec(rng: random.Random) -> str:
    """A spec that checks; what it says is arbitrary."""
    signal = rng.choice(["log_ratio split", "log_ratio net", "ratio split", "ratio net", "ratio"])
    chain = random_chain(rng)
    names = [name for name, _ in chain]
    coarsest = rng.randrange(len(chain))
    blocks = []
    for index, name in enumerate(names):
        clauses = []
        if index <= coarsest:
            role = "base" if index == coarsest else "fiber"
            clauses.append(f"{role} {random_gate(rng, names, index, signal)}")
        if index and rng.random() < 0.4:
            clauses.append(f"aggregate mean over {rng.choice(names[:index])}")
        if clauses:
            blocks.append(f"at {name} {{ {' '.join(clauses)} }}")
    levels = " < ".join(name + (f" by {key}" if key else "") for name, key in chain)
    reduce = ", ".join(
        f"{rng.choice(['mean', 'mean', 'sum'])} over {n}" for n in random_steps(rng, names)
    )
    return (
        f"objective any {{ param p : pure = 0.7 in (0, 2) signal {signal} levels {levels} "
        f"{' '.join(blocks)} reduce {reduce} }}"
    )


def random_chain(rng: random.Random) -> list[tuple[str, str | None]]:
    if rng.random() < 0.25:
        # Without trajectories: one key per token, across the whole batch.
        return [("token", None), ("expert", "expert_id")]
    inner = [INNER[0]] if rng.random() < 0.4 else []
    outer = OUTER[: rng.randrange(3)]
    return [("token", None), *inner, ("trajectory", None), *outer]


def random_gate(rng: random.Random, names: list[str], index: int, signal: str) -> str:
    kinds = ["clip", "clip", "rollback", "rollback", "pass", "drop"]
    coarser = names[index + 1 :]
    if coarser and signal in ("ratio", "ratio net"):
        kinds += ["censor"]
    kind = rng.choice(kinds)
    if kind in ("pass", "drop"):
        return kind
    upper, lower = (f"{rng.uniform(0.01, 0.3):.3f}" for _ in range(2))
    if kind == "censor":
        arguments = [f"{upper} * p", f"over {rng.choice(coarser)}"]
    else:
        arguments = rng.choice([[f"+{upper} * p", f"-{lower}"], [upper]])
    if kind == "rollback" and (index == 0 or rng.random() < 0.3):
        counts = ["p"] if index == 0 else ["p", "size", "tokens", "size / 2 + tokens * p"]
        arguments.append(f"k = 1 + {rng.choice(counts)}")
    modifier = " pessimistic" if rng.random() < 0.3 else ""
    return f"{kind}({', '.join(arguments)}){modifier}"


def random_steps(rng: random.Random, names: list[str]) -> list[str]:
    if "trajectory" not in names and rng.random() < 0.5:
        return ["trajectory", "token"]
    outer = [name for name in reversed(names[1:]) if rng.random() < 0.5]
    return [*outer, "token"]


@pytest.mark.parametrize("seed", deep.cases(range(150), 90))
def test_generated_code_means_what_the_interpreter_says(seed: int) -> None:
    rng = random.Random(seed)
    text = random_spec(rng)
    objective = fibdsl.load_text(text)
    loss_fn = objective.compile(backend=None)
    case = random_case(rng.randint(1, 12), rng.randint(1, 20), seed, drift=rng.choice([0.02, 0.2]))
    expected = reference(objective, case)
    scale = max(1.0, abs(expected.loss), float(np.abs(expected.gradient).max()))
    for layout in LAYOUTS:
        result = compiled(loss_fn, case, layout)
        assert result.loss == pytest.approx(expected.loss, abs=1e-12 * scale), text
        # k may be large: in a rollback band rounding grows with it.
        assert np.abs(result.gradient - expected.gradient).max() <= 1e-11 * scale, text
        assert result.metrics == pytest.approx(expected.metrics, rel=1e-11, abs=1e-11), text
