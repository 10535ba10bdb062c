"""Gates where they stand: random arguments, and the gates of the language written out."""

from __future__ import annotations

import random

from tests.property.nodes import Node, call, name, number, text
from tests.property.specs import Definition, Use

BUILT_IN = {
    "pass": Definition("pass", (), name("x"), built_in=True),
    "drop": Definition("drop", (), number("0"), built_in=True),
    "clip": Definition(
        "clip",
        ("C",),
        call("clip", name("x"), Node("negative", (name("C"),)), name("C")),
        built_in=True,
    ),
    "rollback": Definition(
        "rollback",
        ("C", "k : pure"),
        Node(
            "cases",
            (
                name("x"),
                call("<=", Node("magnitude", of="x"), name("C")),
                call("sign", name("x"))
                * call(
                    "max",
                    number("0"),
                    (name("k") + number("1")) * name("C") - name("k") * Node("magnitude", of="x"),
                ),
            ),
        ),
        built_in=True,
    ),
}
"""The gates of the language, in other words than its prelude."""


def use(rng: random.Random, gate: Definition, level: str, signal: str, after: bool) -> Use:
    """A gate with arguments."""
    given: dict[str, tuple[Node, Node]] = {}
    words: list[str] = []
    for parameter in gate.parameters:
        own, _, space = parameter.partition(" : ")
        if not space:
            given[own], word = _bound(rng, signal)
        else:
            value = _plain(rng, level)
            given[own] = value, value
            positional = own != "k" and not any("=" in w for w in words)
            named = not positional or "C" not in gate.parameters or rng.random() < 0.5
            word = f"{own} = {text(value)}" if named else text(value)
        words.append(word)
    # After a name every argument has one, and plain numbers of a gate with budgets too.
    budgets = [p for p in gate.parameters if ":" not in p]
    plains = [p.partition(" ")[0] for p in gate.parameters if ":" in p]
    if budgets or any("=" in word for word in words):
        for index, own in enumerate(plains, start=len(budgets)):
            words[index] = f"{own} = {text(given[own][0])}"
    written = f"{gate.name}({', '.join(words)})" if words else gate.name
    bounded = gate.body not in (name("x"), number("0"))
    pessimistic = not after and bounded and rng.random() < 0.25
    return Use(gate, given, written, pessimistic)


def _bound(rng: random.Random, signal: str) -> tuple[tuple[Node, Node], str]:
    """A budget: for x >= 0, for x < 0, and how it is written."""
    one, other = _budget(rng), _budget(rng)
    match rng.randrange(5):
        case 0 | 1:
            return (one, other), f"+{text(one)}, -{text(other)}"
        case 2 if signal.startswith("log"):
            upper, lower = number(rng.uniform(1.05, 1.4)), number(rng.uniform(0.6, 0.95))
            bounds = call("log", upper), number("0") - call("log", lower)
            return bounds, f"+ratio({upper.of}), -ratio({lower.of})"
        case 2:
            upper, lower = number(rng.uniform(1.05, 1.4)), number(rng.uniform(0.6, 0.95))
            bounds = upper - number("1"), number("1") - lower
            return bounds, f"+ratio({upper.of}), -ratio({lower.of})"
        case _:
            return (one, one), text(one)


def _budget(rng: random.Random) -> Node:
    size = number(rng.choice([0.05, 0.2]) * rng.uniform(0.3, 1.5))
    match rng.randrange(6):
        case 0:
            return name("c")
        case 1:
            return size * name("p")
        case 2:
            return call("by_advantage", size, name("c"))
        case _:
            return size


def _plain(rng: random.Random, level: str) -> Node:
    options = [number(rng.uniform(0.3, 3.0)), number(rng.uniform(0.3, 3.0)), name("p")]
    options.append(call("by_advantage", number(rng.uniform(0.3, 3.0)), name("p")))
    if level not in ("token", "after"):
        options += [name("size"), name("tokens") * name("p")]
    return rng.choice(options)
