"""A typed objective to IR: the recursion of docs/semantics.md, for any number of levels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TypeVar

from fibc.ir import nodes as ir
from fibc.ir.scalar import counted
from fibc.typed import TypedGate, TypedObjective
from fibdsl.builtins import GATES
from fibdsl.diagnostics.errors import InternalError
from fibdsl.types import BATCH, TOKEN, Channels, Signal

AnyOp = TypeVar("AnyOp", bound=ir.Op)

# The two ways an advantage can lean, for pessimistic gates; one for objectives without.
Lean = ir.Sign | None


def lower(objective: TypedObjective) -> ir.Program:
    """The program of `objective`, unoptimised: an operation a symbol of docs/semantics.md."""
    return _Lowering(objective).run()


@dataclass
class _Lowering:
    spec: TypedObjective
    ops: list[ir.Op] = field(default_factory=list)
    known: dict[str, ir.Op] = field(default_factory=dict)
    metrics: list[ir.Metric] = field(default_factory=list)

    def add(self, op: AnyOp) -> str:
        """Appends `op`, unless it is there already: a name says all of what a value is."""
        if op.name not in self.known:
            self.known[op.name] = op
            self.ops.append(op)
        elif self.known[op.name] != op:
            raise InternalError(f"two values are called {op.name}: {self.known[op.name]} and {op}")
        return op.name

    def run(self) -> ir.Program:
        spec = self.spec
        x = self.add(ir.LogRatio("log_ratio", TOKEN))
        signal = x
        if spec.signal is Signal.RATIO:
            signal = self.add(ir.Deviation("deviation", TOKEN, x))
        split = spec.channels is Channels.SPLIT
        leans: tuple[Lean, ...] = (
            (1, -1) if any(g.pessimistic for g in spec.gates.values()) else (None,)
        )
        signs: tuple[Lean, ...] = (1, -1) if split else (None,)
        aggregates = {sign: self.aggregates(self.channel(signal, sign), sign) for sign in signs}
        gated: dict[Lean, str] = {}
        for lean in leans:
            channels = {sign: self.gate_chain(S, sign, lean) for sign, S in aggregates.items()}
            gated[lean] = (
                self.add(ir.Recombine("y" + _suffix(None, lean), TOKEN, channels[1], channels[-1]))
                if split
                else channels[None]
            )
        y = (
            gated[None]
            if leans == (None,)
            else self.add(ir.Select("y", TOKEN, gated[1], gated[-1]))
        )
        G = self.add(ir.GatedRatio("gated_ratio", TOKEN, y, spec.signal))
        J = self.reduce(G)
        self.measure(x, G, aggregates, leans)
        return ir.Program(
            spec.name,
            spec.levels,
            spec.params,
            spec.signal,
            tuple(self.ops),
            G,
            J,
            spec.reduce[0].level if spec.reduce[0].reduction == "mean" else None,
            tuple(self.metrics),
        )

    # --- up: push-forward -----------------------------------------------------------------------

    def channel(self, signal: str, sign: Lean) -> str:
        if sign is None:
            return signal
        return self.add(ir.Channel("x" + _suffix(sign), TOKEN, signal, sign))

    def aggregates(self, x: str, sign: Lean) -> dict[str, str]:
        """S at every level of the chain: S_0 = x, S_{l+1} = pi_* S_l, the mean over the children,
        each weighed by how many cells of the level `aggregates[l+1]` it holds."""
        S = {TOKEN: x}
        names = self.spec.level_names
        for fine, level in itertools.pairwise(names):
            over, child = self.spec.aggregates[level], S[fine]
            if over != fine:
                weight = self.count(over, fine)
                name = f"weighted.{fine}.{over}" + _suffix(sign)
                child = self.add(ir.Weighted(name, fine, child, weight))
            total = self.add(ir.PushForward(f"sum.{fine}.{level}" + _suffix(sign), level, child))
            S[level] = self.add(
                ir.Mean(f"S.{level}" + _suffix(sign), level, total, self.count(over, level))
            )
        return S

    def path(self, fine: str, coarse: str) -> tuple[str, ...]:
        """The levels stepped through from `fine` (left out) up to `coarse`."""
        names = self.spec.level_names
        if coarse not in names or fine not in names:
            return (coarse,)
        return names[names.index(fine) + 1 : names.index(coarse) + 1]

    def count(self, of: str, level: str) -> str:
        """The number of non-empty `of` cells in each cell of `level`."""
        name: str | None = None
        for step in self.path(of, level):
            members = self.members(of) if name is None else None
            name = self.add(ir.Count(f"n.{of}.{step}", step, of, name, members))
        assert name is not None
        return name

    def members(self, level: str) -> str | None:
        """A count that is 0 exactly in the empty cells of `level`; tokens are never empty."""
        return None if level == TOKEN else self.count(self.children(level), level)

    # --- down: gates ----------------------------------------------------------------------------

    def gate_chain(self, S: dict[str, str], sign: Lean, lean: Lean) -> str:
        """y at the token: the base gate at the coarsest gated level, fiber gates below."""
        names = self.spec.level_names
        coarsest = names.index(self.spec.coarsest_gated)
        y: str | None = None
        for index in range(coarsest, -1, -1):
            level = names[index]
            tag, lean_tag = _suffix(sign), _suffix(sign, lean)
            if y is None:
                y = self.gate(level, f"y.{level}" + lean_tag, S[level], sign, lean)
                continue
            coarser = names[index + 1]
            lifted = self.add(ir.Lift(f"K.S.{coarser}" + tag, level, S[coarser]))
            u = self.add(ir.Residual(f"u.{level}" + tag, level, S[level], lifted))
            g = self.gate(level, f"g.{level}" + lean_tag, u, sign, lean)
            lifted_y = self.add(ir.Lift(f"K.y.{coarser}" + lean_tag, level, y))
            y = self.add(ir.Compose(f"y.{level}" + lean_tag, level, lifted_y, g))
        assert y is not None
        return y

    def gate(self, level: str, name: str, x: str, sign: Lean, lean: Lean) -> str:
        gate = self.spec.gates[level]
        side: Lean = None
        if gate.pessimistic and lean is not None:
            # Lowering y in the - channel raises the ratio, so the channel flips the side.
            side = 1 if lean * (sign or 1) > 0 else -1
        if gate.rule.neighbours:
            return self.add(self.censor(level, name, x, gate, side))
        upper = lower = None
        if gate.budget is not None:
            # Split: each channel has its own budget, for deviations of either sign.
            upper = gate.budget.upper if sign != -1 else gate.budget.lower
            lower = upper if sign is not None else gate.budget.lower
        used = counted(gate.steepness) if gate.steepness is not None else frozenset()
        return self.add(
            ir.Gate(
                name,
                level,
                x,
                gate.rule.name,
                upper,
                lower,
                None,
                gate.steepness,
                self.count(self.children(level), level) if "size" in used else None,
                self.count(TOKEN, level) if "tokens" in used else None,
                side,
            )
        )

    def children(self, level: str) -> str:
        names = self.spec.level_names
        return names[names.index(level) - 1] if level in names else TOKEN

    def censor(self, level: str, name: str, x: str, gate: TypedGate, side: Lean) -> ir.Gate:
        assert gate.over is not None
        assert gate.budget is not None
        path = self.path(level, gate.over)
        magnitude = self.add(ir.Magnitude(f"abs.{x}", level, x))
        total = self.add(ir.Present(f"present.{magnitude}", level, magnitude, self.members(level)))
        for step in path:
            total = self.add(ir.PushForward(f"sum.abs.{x}.{step}", step, total))
        count = self.count(level, gate.over)
        for step in reversed((level, *path[:-1])):
            total = self.add(ir.Lift(f"K.{total}.{step}", step, total))
            count = self.add(ir.Lift(f"K.{count}.{step}", step, count))
        budget = self.add(
            ir.NeighbourBudget(f"budget.{level}", level, total, count, magnitude, gate.budget.upper)
        )
        return ir.Gate(name, level, x, gate.rule.name, budget=budget, side=side)

    # --- the objective --------------------------------------------------------------------------

    def reduce(self, G: str) -> str:
        """J: nested means or sums, from the token outwards to the batch."""
        value = self.add(ir.Surrogate("surrogate", TOKEN, G))
        steps = self.spec.reduce
        enclosing = [BATCH, *(step.level for step in steps[:-1])]
        for step, outer in reversed(list(zip(steps, enclosing, strict=True))):
            for level in self.path(step.level, outer):
                value = self.add(ir.PushForward(f"J.sum.{step.level}.{level}", level, value))
            if step.reduction == "mean":
                count = self.count(step.level, outer)
                value = self.add(ir.Mean(f"J.{outer}", outer, value, count))
        return value

    # --- metrics --------------------------------------------------------------------------------

    def measure(
        self,
        x: str,
        G: str,
        aggregates: dict[Lean, dict[str, str]],
        leans: tuple[Lean, ...],
    ) -> None:
        spec = self.spec
        for level in reversed(spec.level_names):
            for sign, S in aggregates.items():
                value = S[level]
                if sign is None:
                    value = self.add(ir.Magnitude(f"abs.{value}", level, value))
                name = f"drift/{level}" + (f"/{_WORD[sign]}" if sign else "")
                self.metrics.append(ir.MeanOf(name, value, self.members(level)))
            if level in spec.gates:
                self.measure_gate(level, aggregates, leans)
        for name, op in (
            ("ratio/mean", ir.Ratio("ratio", TOKEN, x)),
            ("gated_ratio/mean", None),
            ("kl/k1", ir.KL("kl.k1", TOKEN, x, "k1")),
            ("kl/k3", ir.KL("kl.k3", TOKEN, x, "k3")),
        ):
            self.metrics.append(ir.MeanOf(name, G if op is None else self.add(op)))

    def measure_gate(
        self, level: str, aggregates: dict[Lean, dict[str, str]], leans: tuple[Lean, ...]
    ) -> None:
        gate = self.spec.gates[level]
        regimes = [piece.regime for piece in GATES[gate.rule.name].pieces]
        if len(regimes) < 2:
            return
        stem = ("y." if level == self.spec.coarsest_gated else "g.") + level
        up_share = None
        pair = leans if gate.pessimistic else leans[:1]
        if len(pair) == 2:
            up_share = self.up_share(level)
        for sign in (1, -1):
            channel = sign if sign in aggregates else None
            names = [stem + _suffix(channel, lean) for lean in pair]
            for regime in regimes:
                self.metrics.append(
                    ir.RegimeShare(
                        f"regime/{level}/{_WORD[sign]}/{regime}",
                        names[0],
                        regime,
                        sign if channel is None else None,
                        names[1] if len(names) == 2 else None,
                        up_share,
                        self.members(level),
                    )
                )
        if level == TOKEN:
            sides = [
                tuple(stem + _suffix(channel, lean) for channel in aggregates) for lean in leans
            ]
            self.metrics.append(ir.TokensClipped("tokens_clipped", sides[0], sides[-1]))

    def up_share(self, level: str) -> str:
        """The share of each cell's tokens whose advantage is >= 0."""
        # The names hold a sign, so that no level of a spec can be called like them.
        value = self.add(ir.NonNegativeAdvantage("A>=0", TOKEN))
        if level == TOKEN:
            return value
        for step in self.path(TOKEN, level):
            value = self.add(ir.PushForward(f"sum.A>=0.{step}", step, value))
        return self.add(ir.Mean(f"A>=0.{level}", level, value, self.count(TOKEN, level)))


_WORD = {1: "plus", -1: "minus"}


def _suffix(sign: Lean, lean: Lean = None) -> str:
    """The tail of a value's name: its channel, and the lean of the advantage it is for."""
    channel = f".{_WORD[sign]}" if sign else ""
    return channel + ({1: ".up", -1: ".down"}[lean] if lean else "")
