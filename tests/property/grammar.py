"""Random specs with gates of their own, and expressions wherever one may stand.

What is drawn checks (its units fit, nothing divides by what may be 0) and has a value that is no
absurd number on batches of moderate drift; what it says is arbitrary.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.property.model import Definition, Spec, Step, Use
from tests.property.nodes import Node, call, name, number, over, text

Draw = Callable[[], Node]

CHAINS = (
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None)),
    (("token", None), ("trajectory", None), ("group", "uid")),
    (("token", None), ("turn", "turn_id"), ("trajectory", None)),
    (("token", None), ("trajectory", None), ("group", "uid"), ("domain", "data_source")),
    (("token", None), ("expert", "expert_id")),
)
SIGNALS = ("log_ratio split", "log_ratio net", "ratio net", "ratio split")
PARAMS = {"p": "pure", "h": "ratio", "b": "log", "c": ""}
"""Parameters of every objective and their spaces; `c` has the signal's."""


@dataclass
class Draws:
    """Draws one of several things that can be said; leaves only, once it is deep enough."""

    rng: random.Random
    depth: int = 0

    def one(self, leaves: list[Draw], compound: list[Draw], deep: int) -> Node:
        if self.depth >= deep or self.rng.random() < 0.15:
            return self.rng.choice(leaves)()
        self.depth += 1
        found = self.rng.choice(compound)()
        self.depth -= 1
        return found

    def plain(self, low: float = 0.1, high: float = 2.0) -> Node:
        return number(round(self.rng.uniform(low, high), 2))

    def condition(self, comparisons: list[Draw]) -> Node:
        found = self.rng.choice(comparisons)()
        if self.rng.random() < 0.3:
            joined = self.rng.choice(["and", "or"])
            found = call(joined, found, self.rng.choice(comparisons)())
        return found

    def compared(self, left: Node, right: Node) -> Node:
        return call(self.rng.choice(["<", "<=", ">", ">="]), left, right)


# --- gates --------------------------------------------------------------------------------------


@dataclass
class GateDraws(Draws):
    """The body of a gate of x, budgets and plain numbers.

    Attributes:
        budgets, plains: names of its parameters.
        signal: the space of x, where the gate says it; else "".
        where: what it may look at: "token" (a token), "cell" (sizes of a cell), or "".
    """

    budgets: list[str] = field(default_factory=list)
    plains: list[str] = field(default_factory=list)
    signal: str = ""
    where: str = ""

    def body(self) -> Node:
        if self.rng.random() < 0.4:
            return self.value()
        parts: list[Node] = []
        for _ in range(self.rng.randint(1, 3)):
            parts += [self.value(3), self.condition(self.comparisons())]
        return Node("cases", (*parts, self.value(3)))

    def value(self, deep: int = 4) -> Node:
        """Something in the space of x."""
        x, S, P = lambda: name("x"), self.value, self.plain_value
        leaves: list[Draw] = [x, x, x, lambda: call("sign", x()) * self.budget()]
        if self.where == "token" and self.signal == "log":
            leaves += [lambda: name("log_ratio"), lambda: name("logp") - name("old_logp")]
            leaves += [lambda: call("log", name("ratio"))]
        if self.where == "token" and self.signal == "deviation":
            leaves += [lambda: name("ratio") - number("1")]
        pick = self.rng.choice
        return self.one(
            leaves,
            [
                lambda: Node(pick("+-"), (S(deep), S(deep))),
                lambda: P() * S(deep),
                lambda: S(deep) / self.plain(0.5, 3.0),
                lambda: call("abs", x()) * x() / self.named(),
                lambda: call(pick(["min", "max", "truncate"]), S(deep), S(deep)),
                lambda: call("clip", S(deep), Node("negative", (self.budget(),)), self.budget()),
                lambda: call("sign", x()) * call("abs", S(deep)),
                lambda: call("mask", S(deep), Node("negative", (self.budget(),)), self.budget()),
                lambda: call("stopgrad", S(deep)),
                lambda: call("by_advantage", S(deep), S(deep)),
                lambda: call("sign", name("advantage")) * S(deep),
                lambda: self.budget() * call(pick(["tanh", "sigmoid"]), P()),
            ],
            deep,
        )

    def plain_value(self, deep: int = 3) -> Node:
        """A pure number, of moderate size where x is."""
        P = self.plain_value
        leaves: list[Draw] = [self.plain, *(lambda w=w: name(w) for w in self.plains)]
        leaves.append(lambda: name("x") / self.named())
        leaves.append(lambda: call("sign", name("x")))
        if self.where == "cell":
            leaves += [
                lambda: number("1") / name("size"),
                lambda: name("size") / name("tokens"),
                lambda: call("min", name("tokens"), number("5")),
            ]
        if self.where == "token":
            leaves += [lambda: name("prob"), lambda: name("old_prob")]
        pick = self.rng.choice
        return self.one(
            leaves,
            [
                lambda: Node(pick("+-"), (P(deep), P(deep))),
                lambda: call(pick(["tanh", "sigmoid"]), P(deep)),
                lambda: call("exp", call("clip", P(deep), number("0.5"), number("1.5"))),
                lambda: call("log", number("1") + call("exp", call("tanh", P(deep)))),
                lambda: call("sqrt", number("0.2") + call("abs", call("tanh", P(deep)))),
                lambda: call("abs", call("tanh", P(deep))),
                lambda: number("1") / (number("1") + call("abs", P(deep))),
                lambda: call(pick(["k2", "k3"]), call("tanh", P(deep))),
            ],
            deep,
        )

    def budget(self) -> Node:
        if not self.budgets:
            return self.plain(0.02, 0.3)
        found = name(self.rng.choice(self.budgets))
        return found if self.rng.random() < 0.7 else self.plain(0.5, 2.0) * found

    def named(self) -> Node:
        """A quantity of the space of x that is certainly not 0."""
        if self.budgets:
            return name(self.rng.choice(self.budgets))
        return call("max", call("abs", name("x")), self.plain(0.1, 0.5))

    def comparisons(self) -> list[Draw]:
        x = name("x")
        found: list[Draw] = [
            lambda: self.compared(Node("magnitude", of="x"), self.budget()),
            lambda: self.compared(Node("magnitude", of="x"), self.budget()),
            lambda: self.compared(x, self.budget()),
            lambda: call("<=", x, self.budget()),
            lambda: self.compared(x, number("0")),
            lambda: self.compared(name("advantage"), number("0")),
            lambda: self.compared(self.value(2), self.budget()),
        ]
        if self.where == "token":
            found.append(lambda: self.compared(name("prob"), name("old_prob")))
        if self.where == "cell":
            found.append(lambda: self.compared(name("size"), number("2")))
        return found


def definition(rng: random.Random, own: str, space: str, where: str) -> Definition:
    """A gate for signals of a space; one of three says so. Odd ones are of a few forms."""
    if rng.random() < 0.15:
        return rng.choice(ODD)(own)
    budgets = ["C", "D"][: rng.randrange(3)]
    plains = ["tau", "w"][: rng.randrange(3)]
    signal = space if rng.random() < 0.35 else ""
    draws = GateDraws(rng, 0, budgets, plains, signal, where)
    body = draws.body()
    used = text(body)
    parameters = [b for b in budgets if b in _words(used)]
    parameters += [f"{p} : pure" for p in plains if p in _words(used)]
    return Definition(own, tuple(parameters), body, signal)


def _words(written: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in written).split())


def _soft(own: str) -> Definition:
    x, C = name("x"), name("C")
    return Definition(own, ("C",), C * call("tanh", x / C), odd=True)


def _folded(own: str) -> Definition:
    C, w = name("C"), name("w")
    magnitude = Node("magnitude", of="x")
    body = call("sign", name("x")) * (magnitude / (number("1") + w * magnitude / C))
    return Definition(own, ("C", "w : pure"), body, odd=True)


def _banded(own: str) -> Definition:
    x, C, D = name("x"), name("C"), name("D")
    magnitude = Node("magnitude", of="x")
    held = C * x / call("max", magnitude, C)
    cases = (x, call("<=", magnitude, C), held, call("<=", magnitude, C + D))
    return Definition(own, ("C", "D"), Node("cases", (*cases, number("0.1") * x)), odd=True)


ODD = (_soft, _folded, _banded)

BUILT_IN = {
    "pass": Definition("pass", (), name("x")),
    "drop": Definition("drop", (), number("0")),
    "clip": Definition(
        "clip", ("C",), call("clip", name("x"), Node("negative", (name("C"),)), name("C"))
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
    pessimistic = not after and gate.name not in ("pass", "drop") and rng.random() < 0.25
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


# --- statements at the token --------------------------------------------------------------------


@dataclass
class TokenDraws(Draws):
    """Expressions of the statements at the token.

    Attributes:
        levels: those that aggregates may be over.
        lets: by their kind.
        gated: whether `gated_ratio` may stand there.
    """

    levels: list[str] = field(default_factory=list)
    lets: dict[str, list[str]] = field(default_factory=dict)
    gated: bool = True

    def again(self, kind: str) -> list[Draw]:
        return [lambda w=w: name(w) for w in self.lets.get(kind, [])]

    def over(self, of: Node) -> Node:
        level = self.rng.choice(self.levels)
        if self.rng.random() < 0.6:
            return over("mean", level, of)
        return number("0.2") * over("sum", level, of)

    def log(self, deep: int = 3) -> Node:
        """Something in nats."""
        L, P = self.log, self.pure
        words = ("log_ratio", "log_ratio", "logp", "old_logp", "ref_logp", "rollout_logp", "b")
        pick = self.rng.choice
        return self.one(
            [*(lambda w=w: name(w) for w in words), *self.again("log")],
            [
                lambda: Node(pick("+-"), (L(deep), L(deep))),
                lambda: call("tanh", P(deep)) * L(deep),
                lambda: call("clip", L(deep), Node("negative", (name("b"),)), name("b")),
                lambda: call("log", self.ratio(deep)),
                lambda: call("k1", L(deep)),
                lambda: call("stopgrad", L(deep)),
                lambda: self.over(L(deep)),
                lambda: call("by_advantage", L(deep), L(deep)),
                lambda: self.cases(lambda: L(deep)),
            ],
            deep,
        )

    def ratio(self, deep: int = 3) -> Node:
        """A positive ratio."""
        R = self.ratio
        words = ["ratio", "ratio", "h"]
        pick = self.rng.choice
        return self.one(
            [*(lambda w=w: name(w) for w in words), *self.again("ratio")],
            [
                lambda: call(pick(["min", "truncate"]), R(deep), self.plain(0.8, 2.0)),
                lambda: call("max", R(deep), self.plain(0.2, 1.0)),
                lambda: call("clip", R(deep), number("0.7"), name("h")),
                lambda: call("exp", call("clip", self.log(deep), number("0.1"), name("b"))),
                lambda: R(deep) * call("min", R(deep), number("2")),
                lambda: call("stopgrad", R(deep)),
                lambda: over("mean", pick(self.levels), R(deep)),
                lambda: call("by_advantage", R(deep), R(deep)),
            ],
            deep,
        )

    def pure(self, deep: int = 3) -> Node:
        """A number of moderate size."""
        P, L, R = self.pure, self.log, self.ratio
        words = ["p", "prob", "old_prob", "advantage"]
        pick = self.rng.choice
        return self.one(
            [self.plain, *(lambda w=w: name(w) for w in words), *self.again("pure")],
            [
                lambda: Node(pick("+-"), (P(deep), P(deep))),
                lambda: P(deep) * call("tanh", P(deep)),
                lambda: call(pick(["tanh", "sigmoid"]), pick([P, L, R])(deep)),
                lambda: call("sign", L(deep)) * P(deep),
                lambda: call("exp", call("tanh", L(deep))),
                lambda: call(pick(["k2", "k3"]), call("clip", L(deep), number("0.2"), name("b"))),
                lambda: P(deep) / (number("1") + call("abs", P(deep))),
                lambda: call("sqrt", number("0.2") + call("abs", P(deep))),
                lambda: call("stopgrad", P(deep)),
                lambda: self.over(P(deep)),
                lambda: number("1") / over("sum", pick(self.levels), number("1")),
                lambda: call("mask", P(deep), number("0.5"), number("2.5")),
                lambda: call("by_advantage", P(deep), P(deep)),
            ],
            deep,
        )

    def cases(self, of: Draw) -> Node:
        """Cases stand at the top of a statement only; inside, a choice by a condition is a mask."""
        return call("mask", of(), Node("negative", (name("b"),)), name("b"))

    def gated_ratio(self) -> Node:
        """Something made of G, which may be any number."""
        G = name("gated_ratio")
        return self.rng.choice(
            [
                G,
                call("min", G, name("h")),
                call("clip", G, number("0.6"), name("h")),
                call("max", G, call("stopgrad", G) * number("0.5")),
                G * call("stopgrad", self.pure(2)),
                call("by_advantage", G, call("min", G, self.plain(0.9, 1.5))),
                G * self.ratio(2),
                over("mean", self.rng.choice(self.levels), G) + G,
            ]
        )

    def comparisons(self) -> list[Draw]:
        return [
            lambda: self.compared(name("advantage"), number("0")),
            lambda: self.compared(name("log_ratio"), self.rng.choice([name("b"), number("0")])),
            lambda: self.compared(name("ratio"), name("h")),
            lambda: self.compared(self.pure(2), name("p")),
            lambda: self.compared(name("prob"), name("old_prob")),
            lambda: self.compared(self.log(2), number("0")),
        ]

    def statement(self, of: Draw) -> Node:
        """An expression or cases."""
        if self.rng.random() < 0.6:
            return of()
        parts: list[Node] = []
        for _ in range(self.rng.randint(1, 2)):
            parts += [of(), self.condition(self.comparisons())]
        return Node("cases", (*parts, of()))

    def surrogate(self) -> Node:
        """All cases of a statement are of one space."""
        of: Draw = self.rng.choice(
            [
                self.gated_ratio,
                self.gated_ratio,
                lambda: call("stopgrad", self.gated_ratio()) * name("logp"),
                lambda: self.ratio(3),
                lambda: self.pure(3) * self.log(3),
            ]
        )
        return self.statement(of)


# --- objectives ---------------------------------------------------------------------------------


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
    draws = TokenDraws(rng, levels=[n for n in names[1:]] or ["trajectory"])
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
    used = _words(" ".join(map(text, parts)))
    for own in reversed(list(lets)):
        used |= _words(text(lets[own])) if own in used else set()
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


def spec_text(spec: Spec) -> str:
    """The file that says what a spec says."""
    own = dict.fromkeys(
        use.definition
        for use in [*spec.gates.values(), *([spec.after] if spec.after else [])]
        if use.definition not in BUILT_IN.values()
    )
    lines = [str(gate) for gate in own]
    lines += ["objective any {"]
    space = "log" if spec.signal == "log_ratio" else "deviation"
    ranges = {"p": "(0.1, 3)", "h": "(1, 2)", "b": "(0.25, 2)", "c": "(0.001, 0.9)"}
    lines += [
        f"  param {param} : {PARAMS[param] or space} = {value} in {ranges[param]}"
        for param, value in spec.params.items()
    ]
    after = f" after {spec.after}" if spec.after else ""
    lines.append(f"  signal {spec.signal} {'split' if spec.split else 'net'}{after}")
    chain = " < ".join(level + (f" by {key}" if key else "") for level, key in spec.levels)
    lines.append(f"  levels {chain}")
    for level in spec.names:
        clauses = []
        if level in spec.aggregates:
            clauses.append("aggregate {} over {}".format(*spec.aggregates[level]))
        if level in spec.gates:
            role = "base" if level == list(spec.gates)[-1] else "fiber"
            clauses.append(f"{role} {spec.gates[level]}")
        if clauses:
            lines.append(f"  at {level} {{ {' '.join(clauses)} }}")
    lines += [f"  let {own} = {text(node)}" for own, node in spec.lets.items()]
    lines += [f"  bypass when {text(when)} : {text(G)}" for when, G in spec.bypasses]
    for word in ("surrogate", "weight", "penalty"):
        node = getattr(spec, word)
        if node is not None:
            lines.append(f"  {word} {text(node)}")
    steps = [
        f"{s.reduction} over {s.level}" + (f" / {s.divisor}" if s.divisor else "")
        for s in spec.reduce
    ]
    lines.append(f"  reduce {', '.join(steps)}")
    return "\n".join([*lines, "}", ""])
