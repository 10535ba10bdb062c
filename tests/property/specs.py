"""Random objectives as data, and the text that says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.property.nodes import Node, text

PARAMS = {"p": "pure", "h": "ratio", "b": "log", "c": ""}
"""The parameters of every random objective and their spaces; `c` has the signal's."""

RANGES = {"p": "(0.1, 3)", "h": "(1, 2)", "b": "(0.25, 2)", "c": "(0.001, 0.9)"}


@dataclass(frozen=True)
class Definition:
    """A gate of the file: parameters as they are declared, the body, what is gated by name `x`."""

    name: str
    parameters: tuple[str, ...]
    body: Node
    signal: str = ""
    odd: bool = False
    built_in: bool = False

    def __str__(self) -> str:
        first = f"x : {self.signal}" if self.signal else "x"
        body = text(self.body)
        body = body if self.body.head == "cases" else f"{{ {body} }}"
        odd = " odd" if self.odd else ""
        return f"gate {self.name}({', '.join([first, *self.parameters])}){odd} {body}"


@dataclass(frozen=True)
class Use:
    """A gate where it stands: arguments (what it is given for x >= 0 and for x < 0) and their text.

    `definition` has the built-in gates too, written out.
    """

    definition: Definition
    arguments: Mapping[str, tuple[Node, Node]]
    written: str
    pessimistic: bool = False

    def __str__(self) -> str:
        return self.written + (" pessimistic" if self.pessimistic else "")


@dataclass(frozen=True)
class Step:
    reduction: str
    level: str
    divisor: float | None = None


@dataclass(frozen=True)
class Spec:
    """A random objective.

    Attributes:
        levels: names and keys, token first.
        gates: by level, from the token to the coarsest gated one.
        aggregates: by level, "mean" or "sum" and the finer level it is over.
    """

    signal: str
    split: bool
    levels: tuple[tuple[str, str | None], ...]
    gates: Mapping[str, Use]
    reduce: tuple[Step, ...]
    params: Mapping[str, float]
    aggregates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    after: Use | None = None
    lets: Mapping[str, Node] = field(default_factory=dict)
    bypasses: tuple[tuple[Node, Node], ...] = ()
    surrogate: Node | None = None
    weight: Node | None = None
    penalty: Node | None = None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.levels]


def spec_text(spec: Spec) -> str:
    """The file that says what a spec says."""
    own = dict.fromkeys(
        use.definition
        for use in [*spec.gates.values(), *([spec.after] if spec.after else [])]
        if not use.definition.built_in
    )
    lines = [str(gate) for gate in own]
    lines += ["objective any {"]
    space = "log" if spec.signal == "log_ratio" else "deviation"
    lines += [
        f"  param {param} : {PARAMS[param] or space} = {value} in {RANGES[param]}"
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
