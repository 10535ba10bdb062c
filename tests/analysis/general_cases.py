"""Random specs with gates that are not made of pieces, statements at the token, `after` and sums,
such as say something that can be proved or refuted."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from tests.analysis.random_cases import random_batch
from tests.meaning.batches import Tensors
from tests.property.gate_uses import BUILT_IN, use
from tests.property.nodes import Node, call, name, number, over
from tests.property.specs import Definition, Spec, Step, Use

CHAINS = (
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None), ("group", "uid")),
    (("token", None), ("expert", "expert_id")),
)
SIGNALS = ("log_ratio split", "log_ratio net", "ratio net", "ratio split")

X, C, G = name("x"), name("C"), name("gated_ratio")
MAGNITUDE = Node("magnitude", of="x")
RATIO, LOG_RATIO, LOGP = name("ratio"), name("log_ratio"), name("logp")
ONE, ZERO, TWO = number("1"), number("0"), number("2")


def minus(node: Node) -> Node:
    return Node("negative", (node,))


def cases(*parts: Node) -> Node:
    return Node("cases", parts)


def gate(body: Node, odd: bool = False, signal: str = "") -> Definition:
    return Definition("own", ("C",) if "C" in _names(body) else (), body, signal, odd)


def _names(node: Node) -> set[str]:
    return {node.of} | {word for part in node.parts for word in _names(part)}


HELD = call("clip", X, minus(C), C)
ABOVE, BELOW = call(">", X, C), call("<", X, minus(C))
GATES = (
    gate(HELD),
    gate(call("sign", X) * call("min", MAGNITUDE, C), odd=True),
    gate(cases(X, call("<=", MAGNITUDE, C), C, call(">", X, ZERO), minus(C))),
    # A mask, as pieces and as an expression: it jumps.
    gate(cases(X, call("<=", MAGNITUDE, C), ZERO), odd=True),
    gate(call("mask", X, minus(C), C)),
    # Soft ones; slope 1, and 1/2, at 0.
    gate(C * call("tanh", X / C), odd=True),
    gate(C * (number("4") * call("sigmoid", X / C) - TWO)),
    gate(C * call("tanh", X / (TWO * C))),
    gate(X / (ONE + MAGNITUDE / C), odd=True),
    gate(X * (ONE - call("sign", name("advantage")) * X / (TWO * C))),
    # One side by the advantage.
    gate(cases(call("min", X, C), call(">=", name("advantage"), ZERO), call("max", X, minus(C)))),
    gate(call("by_advantage", call("min", X, C), X)),
    # Nothing but x, and nothing of it.
    gate(cases(X, call(">=", X, ZERO), X)),
    gate(X - call("stopgrad", X)),
    gate(X - X),
    # A rollback by its values; one with a slope of its own on either side.
    gate(call("sign", X) * call("max", call("min", MAGNITUDE, TWO * C - MAGNITUDE), ZERO)),
    gate(call("max", call("min", X, (C + X) / TWO), minus(C))),
)
FOR_TOKENS = (
    gate(cases(X, call("<=", name("prob"), name("old_prob")), HELD)),
    gate(cases(LOG_RATIO, call("<", ABOVE.parts[0], C), C), signal="log"),
    gate(call("min", RATIO - ONE, C), signal="deviation"),
)

SURROGATES = (
    call("min", G, name("h")),
    call("clip", G, number("0.6"), name("h")),
    call("by_advantage", G, call("min", G, number("3"))),
    call("stopgrad", G) * LOGP,
    LOGP,
    call("stopgrad", RATIO) * LOGP,
    call("exp", call("stopgrad", over("mean", "trajectory", LOG_RATIO) - LOG_RATIO) + LOG_RATIO),
    call("exp", over("mean", "trajectory", LOG_RATIO)),
    call("exp", over("mean", "trajectory", LOG_RATIO) - LOG_RATIO) * RATIO,
    RATIO / (RATIO + ONE),
    number("3e6") * RATIO / (RATIO + ONE),
    cases(G, call("<", RATIO, name("h")), call("stopgrad", G)),
    cases(G, call(">=", name("advantage"), ZERO), RATIO * RATIO),
    G * G / call("max", call("stopgrad", G), number("0.5")),
)
WEIGHTS = (
    call("min", RATIO, name("h")),
    call("mask", RATIO, number("0.5"), name("h")),
    call("by_advantage", ONE, call("exp", call("min", over("sum", "trajectory", LOG_RATIO), ZERO))),
    call("exp", call("clip", name("rollout_logp") - name("old_logp"), minus(name("b")), name("b"))),
    call("sigmoid", LOGP),
    number("0.5"),
)
PENALTIES = (
    name("p") * call("k2", LOG_RATIO),
    name("p") * call("k3", name("ref_logp") - LOGP),
    over("mean", "trajectory", call("k2", LOG_RATIO)),
    call("k2", over("mean", "trajectory", LOG_RATIO)),
)
POSITIVE, NEGATIVE = call(">", name("advantage"), ZERO), call("<", name("advantage"), ZERO)
BYPASSES = (
    (call("and", POSITIVE, call("<", LOG_RATIO, ZERO)), RATIO),
    (call("and", NEGATIVE, call(">", LOG_RATIO, ZERO)), call("min", RATIO, number("3"))),
    (call(">", RATIO, name("h")), call("min", RATIO, name("h"))),
    (NEGATIVE, RATIO),
    (call(">", name("prob"), name("old_prob")), ONE),
)


def random_spec(rng: random.Random) -> Spec:
    """A spec that checks, of few statements of those above."""
    signal, channels = rng.choice(SIGNALS).split()
    chain = rng.choice(CHAINS)
    names = [level for level, _ in chain]
    top = rng.choice([0, 0, len(chain) - 1])
    gates = {level: _gate(rng, level, signal) for level in names[: top + 1]}
    own = {str(use.definition): use.definition for use in gates.values() if _own(use)}
    for number_, definition in enumerate(own.values()):
        gates = {level: _named(use, definition, f"own_{number_}") for level, use in gates.items()}
    aggregates = {level: ("sum", "token") for level in names[1 : top + 1] if rng.random() < 0.25}
    after = _gate(rng, "after", signal, built_in=True) if rng.random() < 0.2 else None
    outer = rng.choice([[], [], names[1:2]])
    steps = tuple(Step(rng.choice(["mean", "mean", "sum"]), level) for level in [*outer, "token"])
    params = {"p": 0.5, "h": 1.2, "b": 0.4, "c": 0.2}
    return Spec(
        signal,
        channels == "split",
        chain,
        gates,
        steps,
        {key: round(value * rng.uniform(0.9, 1.3), 3) for key, value in params.items()},
        aggregates,
        after,
        {},
        (rng.choice(BYPASSES),) if rng.random() < 0.25 else (),
        rng.choice(SURROGATES) if rng.random() < 0.45 else None,
        rng.choice(WEIGHTS) if rng.random() < 0.25 else None,
        rng.choice(PENALTIES) if rng.random() < 0.25 else None,
    )


def _own(use: Use) -> bool:
    return not use.definition.built_in


def _named(use: Use, definition: Definition, own: str) -> Use:
    if use.definition != definition:
        return use
    named = Definition(
        own, definition.parameters, definition.body, definition.signal, definition.odd
    )
    return Use(named, use.arguments, use.written.replace("own", own, 1), use.pessimistic)


def _gate(rng: random.Random, level: str, signal: str, built_in: bool = False) -> Use:
    if built_in or rng.random() < 0.35:
        chosen = BUILT_IN[rng.choice(["clip", "clip", "rollback", "pass", "drop"])]
    else:
        space = "log" if signal == "log_ratio" else "deviation"
        fitting = [g for g in FOR_TOKENS if g.signal in ("", space)] if level == "token" else []
        chosen = rng.choice([*GATES, *GATES, *fitting])
    return use(rng, chosen, level, signal, after=level == "after")


def random_tensors(rng: np.random.Generator) -> Tensors:
    """`random_cases.random_batch`, with two more models; what is probable moves too."""
    tensors = flat(random_batch(rng))
    shape = tensors["mask"].shape
    lower = rng.exponential(1.0, shape) * rng.choice([0.0, 1.0])
    for word in ("logp", "old_logp"):
        tensors[word] = tensors[word] - lower
    for word in ("rollout_logp", "ref_logp"):
        tensors[word] = np.minimum(tensors["old_logp"] + rng.normal(0.0, 0.3, shape), 0.0)
    return tensors


def flat(tensors: Mapping[str, object]) -> Tensors:
    """A batch with its ids where `tokens_of` and `evaluate` look for them."""
    words = ("logp", "old_logp", "advantages", "mask", "rollout_logp", "ref_logp")
    found: Tensors = {word: np.array(tensors[word]) for word in words if word in tensors}
    for word in ("rollout_logp", "ref_logp"):
        found.setdefault(word, found["old_logp"].copy())
    found["keys"] = {k: np.asarray(ids) for k, ids in tensors.items() if k not in words}
    return found
