"""What is measured of an objective: drifts, regimes of gates, ratios, divergences."""

from __future__ import annotations

from dataclasses import dataclass, field

from fibc.ir import nodes as ir
from fibc.ir.expression import Call, Const, Expr, Input, substituted
from fibc.ir.simplify import simplified
from fibc.lower.gates import Gates
from fibc.lower.values import WORDS, Lean, Values, suffix
from fibdsl.types import TOKEN


@dataclass
class Metrics:
    """Writes what metrics read, and the metrics."""

    values: Values
    gates: Gates
    metrics: list[ir.Metric] = field(default_factory=list)

    def measure(
        self,
        x: str,
        G: str,
        aggregates: dict[Lean, dict[str, str]],
        leans: tuple[Lean, ...],
    ) -> None:
        spec = self.values.spec
        for level in reversed(spec.level_names):
            for sign, S in aggregates.items():
                value = S[level]
                if sign is None:
                    value = self.values.add(ir.Magnitude(f"abs.{value}", level, value))
                name = f"drift/{level}" + (f"/{WORDS[sign]}" if sign else "")
                self.metrics.append(ir.MeanOf(name, value, self.values.members(level)))
            if level in spec.gates:
                self.measure_gate(level, aggregates, leans)
        for name, op in (
            ("ratio/mean", ir.Ratio("ratio", TOKEN, x)),
            ("gated_ratio/mean", None),
            ("kl/k1", ir.KL("kl.k1", TOKEN, x, "k1")),
            ("kl/k3", ir.KL("kl.k3", TOKEN, x, "k3")),
        ):
            self.metrics.append(ir.MeanOf(name, G if op is None else self.values.add(op)))
        for name, value in (
            ("bypassed", "bypassed"),
            ("weight/mean", "weight"),
            ("penalty/mean", "penalty"),
        ):
            if value in self.values.known:
                self.metrics.append(ir.MeanOf(name, value))
        for name, hit in self.values.spec.labelled.items():
            value = self.gates.tokens.pointwise(f"hit.{name}", hit)
            self.metrics.append(ir.MeanOf(name, value))

    def measure_gate(
        self, level: str, aggregates: dict[Lean, dict[str, str]], leans: tuple[Lean, ...]
    ) -> None:
        gate = self.values.spec.gates[level]
        regimes = gate.rule.regimes
        if len(regimes) < 2:
            return
        stem = ("y." if level == self.values.spec.coarsest_gated else "g.") + level
        up_share = None
        pair = leans if gate.by_advantage else leans[:1]
        if len(pair) == 2:
            up_share = self.up_share(level)
        signs: tuple[ir.Sign, ...] = (1, -1)
        for sign in signs:
            channel = sign if sign in aggregates else None
            names = [stem + suffix(channel, lean) for lean in pair]
            for index, regime in enumerate(regimes):
                if not gate.rule.pieces:
                    side: Lean = sign if channel is None else None
                    value = self.hit(level, names, index, side, up_share)
                    name = f"regime/{level}/{WORDS[sign]}/{regime}"
                    self.metrics.append(ir.MeanOf(name, value, self.values.members(level)))
                    continue
                self.metrics.append(
                    ir.RegimeShare(
                        f"regime/{level}/{WORDS[sign]}/{regime}",
                        names[0],
                        regime,
                        sign if channel is None else None,
                        names[1] if len(names) == 2 else None,
                        up_share,
                        self.values.members(level),
                    )
                )
        if level == TOKEN and not gate.rule.pieces:
            self.acting(stem, aggregates, leans)
        elif level == TOKEN:
            sides = [
                tuple(stem + suffix(channel, lean) for channel in aggregates) for lean in leans
            ]
            self.metrics.append(ir.TokensClipped("tokens_clipped", sides[0], sides[-1]))

    def hit(
        self, level: str, gates: list[str], index: int, side: Lean, up_share: str | None
    ) -> str:
        """Which cells are in a case of a gate; of two gates, by how many of their tokens are."""
        inputs: list[str] = [] if up_share is None else [up_share]
        parts = []
        for name in gates:
            own, hits = self.gates.hits[name]
            inputs += [value for value in own if value not in inputs]
            places: list[Expr] = [Input(inputs.index(value)) for value in own]
            hit = substituted(hits[index], places)
            if side is not None:
                positive = Call("<=", (Const(0.0), places[0]))
                both = (hit, Const(0.0)) if side > 0 else (Const(0.0), hit)
                hit = Call("where", (positive, *both))
            parts.append(hit)
        expr = parts[0]
        if len(parts) == 2:
            down = Call("-", (Const(1.0), Input(0)))
            expr = Call("+", (Call("*", (Input(0), parts[0])), Call("*", (down, parts[1]))))
        name = f"hit.{gates[0]}.{index}" + suffix(side)
        return self.values.add(ir.Pointwise(name, level, tuple(inputs), simplified(expr)))

    def acting(
        self, stem: str, aggregates: dict[Lean, dict[str, str]], leans: tuple[Lean, ...]
    ) -> None:
        """The share of tokens whose gate, in either channel, is not in its case `pass`."""
        if "pass" not in self.values.spec.gates[TOKEN].rule.regimes:
            return
        index = self.values.spec.gates[TOKEN].rule.regimes.index("pass")
        inputs = [self.gates.tokens.leaf("advantage")]
        sides: list[Expr] = []
        for lean in leans:
            clipped: Expr = Const(0.0)
            for channel in aggregates:
                own, hits = self.gates.hits[stem + suffix(channel, lean)]
                inputs += [value for value in own if value not in inputs]
                places: list[Expr] = [Input(inputs.index(value)) for value in own]
                off = Call("-", (Const(1.0), substituted(hits[index], places)))
                clipped = Call("max", (clipped, off))
            sides.append(clipped)
        expr = sides[0]
        if len(sides) == 2:
            expr = Call("where", (Call("<=", (Const(0.0), Input(0))), *sides))
        value = self.values.add(ir.Pointwise("clipped", TOKEN, tuple(inputs), simplified(expr)))
        self.metrics.append(ir.MeanOf("tokens_clipped", value))

    def up_share(self, level: str) -> str:
        """The share of each cell's tokens whose advantage is >= 0."""
        # The names hold a sign, so that no level of a spec can be called like them.
        value = self.values.add(ir.NonNegativeAdvantage("A>=0", TOKEN))
        if level == TOKEN:
            return value
        for step in self.values.path(TOKEN, level):
            value = self.values.add(ir.PushForward(f"sum.A>=0.{step}", step, value))
        return self.values.add(
            ir.Mean(f"A>=0.{level}", level, value, self.values.count(TOKEN, level))
        )
