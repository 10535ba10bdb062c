"""The hierarchy of one objective: aggregates upwards, gates downwards, and the means of J."""

from __future__ import annotations

import itertools

from fibc.gates.use import cell_budget_name
from fibc.ir import nodes as ir
from fibc.lower.gates import Gates
from fibc.lower.metrics import Metrics
from fibc.lower.tokens import Tokens
from fibc.lower.values import AFTER, Lean, Values, suffix
from fibc.typed import TypedGate, TypedObjective
from fibdsl.types import BATCH, TOKEN, Channels, Signal


class Hierarchy:
    """Writes the program of an objective."""

    def __init__(self, spec: TypedObjective) -> None:
        self.spec = spec
        self.values = Values(spec)
        self.tokens = Tokens(self.values)
        self.gates = Gates(self.values, self.tokens)
        self.metrics = Metrics(self.values, self.gates)

    def program(self) -> ir.Program:
        spec = self.spec
        x = self.values.add(ir.LogRatio("log_ratio", TOKEN))
        signal = x
        if spec.signal is Signal.RATIO:
            signal = self.values.add(ir.Deviation("deviation", TOKEN, x))
        if spec.after is not None:
            signal = self.after(signal, spec.after)
        split = spec.channels is Channels.SPLIT
        leans: tuple[Lean, ...] = (
            (1, -1) if any(g.by_advantage for g in spec.gates.values()) else (None,)
        )
        signs: tuple[Lean, ...] = (1, -1) if split else (None,)
        aggregates = {sign: self.aggregates(self.channel(signal, sign), sign) for sign in signs}
        gated: dict[Lean, str] = {}
        for lean in leans:
            channels = {sign: self.gate_chain(S, sign, lean) for sign, S in aggregates.items()}
            gated[lean] = (
                self.values.add(
                    ir.Recombine("y" + suffix(None, lean), TOKEN, channels[1], channels[-1])
                )
                if split
                else channels[None]
            )
        y = (
            gated[None]
            if leans == (None,)
            else self.values.add(ir.Select("y", TOKEN, gated[1], gated[-1]))
        )
        name = "gated_ratio" if not spec.bypasses else "gated_ratio.gates"
        G = self.values.add(ir.GatedRatio(name, TOKEN, y, spec.signal))
        self.tokens.leaves["gated_ratio"] = G
        G = self.tokens.leaves["gated_ratio"] = self.tokens.bypassed(G)
        J = self.reduce(self.tokens.term(G))
        self.metrics.measure(x, G, aggregates, leans)
        return ir.Program(
            spec.name,
            spec.levels,
            spec.params,
            spec.signal,
            tuple(self.values.ops),
            G,
            J,
            spec.reduce[0].level if spec.reduce[0].reduction == "mean" else None,
            tuple(self.metrics.metrics),
            {
                level: budget
                for level, budget in spec.budgets.items()
                if f"data.{cell_budget_name(level)}" in self.values.known
            },
        )

    def after(self, signal: str, gate: TypedGate) -> str:
        """The signal after the gate that it passes before it is aggregated."""
        if not gate.by_advantage:
            return self.gates.gate(TOKEN, AFTER, signal, None, None, gate)
        up, down = (
            self.gates.gate(TOKEN, AFTER + suffix(None, lean), signal, None, lean, gate)
            for lean in (1, -1)
        )
        return self.values.add(ir.Select(AFTER, TOKEN, up, down))

    def channel(self, signal: str, sign: Lean) -> str:
        if sign is None:
            return signal
        return self.values.add(ir.Channel("x" + suffix(sign), TOKEN, signal, sign))

    def aggregates(self, x: str, sign: Lean) -> dict[str, str]:
        """S at every level of the chain: S_0 = x, S_{l+1} = pi_* S_l, the mean over the children,
        each weighed by how many cells of the level `aggregates[l+1]` it holds."""
        S = {TOKEN: x}
        names = self.spec.level_names
        for fine, level in itertools.pairwise(names):
            over, child = self.spec.aggregates[level], S[fine]
            if level in self.spec.summed:
                child = S[over]
                for step in self.values.path(over, level):
                    name = f"sum.{over}.{level}.{step}" + suffix(sign)
                    child = self.values.add(ir.PushForward(name, step, child))
                S[level] = child
                continue
            if over != fine:
                weight = self.values.count(over, fine)
                name = f"weighted.{fine}.{over}" + suffix(sign)
                child = self.values.add(ir.Weighted(name, fine, child, weight))
            total = self.values.add(
                ir.PushForward(f"sum.{fine}.{level}" + suffix(sign), level, child)
            )
            S[level] = self.values.add(
                ir.Mean(f"S.{level}" + suffix(sign), level, total, self.values.count(over, level))
            )
        return S

    def gate_chain(self, S: dict[str, str], sign: Lean, lean: Lean) -> str:
        """y at the token: the base gate at the coarsest gated level, fiber gates below."""
        names = self.spec.level_names
        coarsest = names.index(self.spec.coarsest_gated)
        y: str | None = None
        for index in range(coarsest, -1, -1):
            level = names[index]
            tag, lean_tag = suffix(sign), suffix(sign, lean)
            if y is None:
                y = self.gates.gate(level, f"y.{level}" + lean_tag, S[level], sign, lean)
                continue
            coarser = names[index + 1]
            lifted = self.values.add(ir.Lift(f"K.S.{coarser}" + tag, level, S[coarser]))
            u = self.values.add(ir.Residual(f"u.{level}" + tag, level, S[level], lifted))
            g = self.gates.gate(level, f"g.{level}" + lean_tag, u, sign, lean)
            lifted_y = self.values.add(ir.Lift(f"K.y.{coarser}" + lean_tag, level, y))
            y = self.values.add(ir.Compose(f"y.{level}" + lean_tag, level, lifted_y, g))
        assert y is not None
        return y

    def reduce(self, value: str) -> str:
        """J: nested means or sums, from the token outwards to the batch."""
        steps = self.spec.reduce
        enclosing = [BATCH, *(step.level for step in steps[:-1])]
        for step, outer in reversed(list(zip(steps, enclosing, strict=True))):
            for level in self.values.path(step.level, outer):
                value = self.values.add(ir.PushForward(f"J.sum.{step.level}.{level}", level, value))
            if step.reduction == "mean":
                count = self.values.count(step.level, outer)
                value = self.values.add(ir.Mean(f"J.{outer}", outer, value, count))
            if step.divisor is not None:
                value = self.values.add(
                    ir.Divided(f"J.{outer}.divided", outer, value, step.divisor)
                )
        return value
