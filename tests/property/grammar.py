"""Random specs with gates of their own, and expressions wherever one may stand.

What is drawn checks (its units fit, nothing divides by what may be 0) and has a value that is no
absurd number on batches of moderate drift; what it says is arbitrary.
"""

from __future__ import annotations

import random

from tests.property.draws import words
from tests.property.gate_draws import definition
from tests.property.gate_uses import BUILT_IN, use
from tests.property.nodes import Node, text
from tests.property.specs import Spec, Step, Use
from tests.property.token_draws import TokenDraws

CHAINS = (
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None), ("group", "uid")),
    (("token", None), ("turn", "turn_id"), ("trajectory", None)),
    (("token", None), ("trajectory", None), ("group", "uid"), ("domain", "data_source")),
    (("token", None), ("expert", "expert_id")),
)
SIGNALS = ("log_ratio split", "log_ratio net", "ratio net", "ratio split")


def random_spec(rng: random.Random) -> Spec:
    signal, channels = rng.choice(SIGNALS).split()
    chain = rng.choice(CHAINS)
    names = [level for level, _ in chain]
    top = rng.choice([rng.randrange(len(chain)), len(chain) - 1])
    gates = {level: _gate(rng, f"own_{level}", level, signal) for level in names[: top + 1]}
    aggregates = {
        level: (rng.choice(["mean", "sum"]), rng.choice(names[:index]))
        for index, level in enumerate(names)
        if index and rng.random() < 0.3
    }
    after = _gate(rng, "early", "after", signal) if rng.random() < 0.3 else None
    draws = TokenDraws(rng, levels=names[1:] or ["trajectory"])
    lets: dict[str, Node] = {}
    for kind, own in (("log", "one"), ("pure", "two"), ("ratio", "three")):
        if rng.random() < 0.25:
            lets[own] = getattr(draws, kind)(2)
            draws.lets.setdefault(kind, []).append(own)
    bypasses = tuple(
        (draws.condition(draws.comparisons()), draws.ratio(2))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    )
    surrogate = draws.surrogate() if rng.random() < 0.6 else None
    weight = draws.statement(draws.pure) if rng.random() < 0.4 else None
    penalty = draws.statement(draws.pure) if rng.random() < 0.4 else None
    parts = [n for pair in bypasses for n in pair]
    parts += [n for n in (surrogate, weight, penalty) if n is not None]
    used = words(" ".join(map(text, parts)))
    for own in reversed(list(lets)):
        used |= words(text(lets[own])) if own in used else set()
    return Spec(
        signal,
        channels == "split",
        chain,
        gates,
        _reduce(rng, names),
        {
            "p": round(rng.uniform(0.3, 1.5), 2),
            "h": round(rng.uniform(1.05, 1.4), 3),
            "b": round(rng.uniform(0.3, 0.9), 3),
            "c": round(rng.uniform(0.02, 0.3), 3),
        },
        aggregates,
        after,
        {own: lets[own] for own in lets if own in used},
        bypasses,
        surrogate,
        weight,
        penalty,
    )


def _gate(rng: random.Random, own: str, level: str, signal: str) -> Use:
    if rng.random() < 0.35:
        gate = BUILT_IN[rng.choice(["clip", "clip", "rollback", "pass", "drop"])]
    else:
        where = {"token": "token", "after": ""}.get(level, "cell")
        gate = definition(rng, own, "log" if signal == "log_ratio" else "deviation", where)
    return use(rng, gate, level, signal, after=level == "after" and rng.random() < 0.7)


def _reduce(rng: random.Random, names: list[str]) -> tuple[Step, ...]:
    outer = [level for level in reversed(names[1:]) if rng.random() < 0.4]
    return tuple(
        Step(
            rng.choice(["mean", "mean", "sum"]),
            level,
            round(rng.uniform(1.0, 9.0), 1) if rng.random() < 0.2 else None,
        )
        for level in [*outer, "token"]
    )
