"""A typed objective to IR: the recursion of docs/semantics.md, for any number of levels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TypeVar

from fibc.gates.use import cell_budget_name
from fibc.ir import nodes as ir
from fibc.ir.expression import Call, Const, Expr, Input, of_scalar, substituted
from fibc.ir.scalar import Scalar, counted, leaning
from fibc.ir.simplify import simplified
from fibc.typed import Aggregate, TokenValue, TypedGate, TypedObjective
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
    leaves: dict[str, str] = field(default_factory=dict)
    hits: dict[str, tuple[tuple[str, ...], tuple[Expr, ...]]] = field(default_factory=dict)

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
                self.add(ir.Recombine("y" + _suffix(None, lean), TOKEN, channels[1], channels[-1]))
                if split
                else channels[None]
            )
        y = (
            gated[None]
            if leans == (None,)
            else self.add(ir.Select("y", TOKEN, gated[1], gated[-1]))
        )
        name = "gated_ratio" if not spec.bypasses else "gated_ratio.gates"
        G = self.add(ir.GatedRatio(name, TOKEN, y, spec.signal))
        self.leaves["gated_ratio"] = G
        G = self.leaves["gated_ratio"] = self.bypassed(G)
        J = self.reduce(self.term(G))
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
            {
                level: budget
                for level, budget in spec.budgets.items()
                if f"data.{cell_budget_name(level)}" in self.known
            },
        )

    # --- expressions at the token ---------------------------------------------------------------

    def leaf(self, name: str) -> str:
        """The value that an input of an expression at the token is."""
        if name not in self.leaves:
            x = "log_ratio"
            match name:
                case "log_ratio":
                    self.leaves[name] = x
                case "logp":
                    self.leaves[name] = self.add(ir.LogProb("logp", TOKEN, x))
                case "advantage":
                    self.leaves[name] = self.add(ir.Data("data.advantages", TOKEN, "advantages"))
                case "old_logp" | "ref_logp" | "rollout_logp":
                    self.leaves[name] = self.add(ir.Data(f"data.{name}", TOKEN, name))
                case _:
                    [found] = [a for a in self.spec.sums if a.name == name]
                    self.leaves[name] = self.aggregated(found)
        return self.leaves[name]

    def pointwise(self, name: str, value: TokenValue, expr: Expr | None = None) -> str:
        """An expression at the token; `expr` in place of its own, over the same inputs."""
        inputs = tuple(map(self.leaf, value.inputs)) or (self.leaf("log_ratio"),)
        return self.add(ir.Pointwise(name, TOKEN, inputs, value.expr if expr is None else expr))

    def aggregated(self, aggregate: Aggregate) -> str:
        """`mean(e over LEVEL)` at every token: up to the level, and down again."""
        value = self.pointwise(aggregate.name, aggregate.value)
        path = self.path(TOKEN, aggregate.level)
        for step in path:
            value = self.add(ir.PushForward(f"{aggregate.name}.{step}", step, value))
        if aggregate.reduction == "mean":
            count = self.count(TOKEN, aggregate.level)
            value = self.add(ir.Mean(f"{aggregate.name}.mean", aggregate.level, value, count))
        for step in reversed((TOKEN, *path[:-1])):
            value = self.add(ir.Lift(f"K.{aggregate.name}.{step}", step, value))
        return value

    def bypassed(self, G: str) -> str:
        """G, or what stands for it where a bypass holds."""
        if not self.spec.bypasses:
            return G
        inputs = [G]
        expr: Expr = Input(0)
        acting: Expr = Const(0.0)
        for bypass in reversed(self.spec.bypasses):
            condition = self.placed(bypass.condition, inputs)
            expr = Call("where", (condition, self.placed(bypass.value, inputs), expr))
            acting = Call("where", (condition, Const(1.0), acting))
        self.add(ir.Pointwise("bypassed", TOKEN, tuple(inputs), acting))
        return self.add(ir.Pointwise("gated_ratio", TOKEN, tuple(inputs), expr))

    def placed(self, value: TokenValue, inputs: list[str]) -> Expr:
        """An expression over a longer list of inputs, which grows by what it needs."""
        places: list[Expr] = []
        for name in value.inputs:
            leaf = self.leaf(name)
            if leaf not in inputs:
                inputs.append(leaf)
            places.append(Input(inputs.index(leaf)))
        return substituted(value.expr, places)

    def term(self, G: str) -> str:
        """What a token adds to the objective: weight * surrogate * advantage - penalty."""
        spec = self.spec
        value = G
        if spec.surrogate is not None or spec.weight is not None:
            inputs: list[str] = []
            surrogate = spec.surrogate or TokenValue(Input(0), ("gated_ratio",))
            expr = self.placed(surrogate, inputs)
            if spec.weight is not None:
                weight = self.pointwise("weight", spec.weight)
                inputs.append(weight)
                # A weight is data: no gradient flows through it.
                expr = Call("*", (Call("stopgrad", (Input(len(inputs) - 1),)), expr))
            inputs = inputs or [G]
            value = self.add(ir.Pointwise("term", TOKEN, tuple(inputs), expr))
        penalty = None
        if spec.penalty is not None:
            penalty = self.pointwise("penalty", spec.penalty)
        return self.add(ir.Surrogate("surrogate", TOKEN, value, penalty))

    # --- up: push-forward -----------------------------------------------------------------------

    def after(self, signal: str, gate: TypedGate) -> str:
        """The signal after the gate that it passes before it is aggregated."""
        if not gate.by_advantage:
            return self.gate(TOKEN, "after", signal, None, None, gate)
        up, down = (
            self.gate(TOKEN, "after" + _suffix(None, lean), signal, None, lean, gate)
            for lean in (1, -1)
        )
        return self.add(ir.Select("after", TOKEN, up, down))

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
            if level in self.spec.summed:
                child = S[over]
                for step in self.path(over, level):
                    name = f"sum.{over}.{level}.{step}" + _suffix(sign)
                    child = self.add(ir.PushForward(name, step, child))
                S[level] = child
                continue
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

    def gate(
        self, level: str, name: str, x: str, sign: Lean, lean: Lean, gate: TypedGate | None = None
    ) -> str:
        gate = self.spec.gates[level] if gate is None else gate
        side: Lean = None
        if gate.pessimistic and lean is not None:
            # Lowering y in the - channel raises the ratio, so the channel flips the side.
            side = 1 if lean * (sign or 1) > 0 else -1
        if gate.rule.neighbours:
            return self.add(self.censor(level, name, x, gate, side))
        if not gate.rule.pieces:
            return self.cases(level, name, x, gate, self.sides(gate, sign, lean), lean, side)
        upper = lower = None
        budget = None
        if gate.budget is not None:
            upper, lower = self.sides(gate, sign, lean)[gate.rule.budgets[0]]
            if cell_budget_name(level) in counted(upper) | counted(lower):
                budget = self.cell_budget(level, f"budget.{name}", x, upper, lower)
                upper = lower = None
        k = None
        if gate.steepness is not None:
            k = leaning(gate.steepness, lean or 1)
        used = counted(k) if k is not None else frozenset()
        return self.add(
            ir.Gate(
                name,
                level,
                x,
                gate.rule,
                upper,
                lower,
                budget,
                k,
                self.count(self.children(level), level) if "size" in used else None,
                self.count(TOKEN, level) if "tokens" in used else None,
                side,
            )
        )

    def sides(self, gate: TypedGate, sign: Lean, lean: Lean) -> dict[str, tuple[Scalar, Scalar]]:
        """What a gate is given for x >= 0 and for x < 0, for one channel and one lean."""
        found = {}
        for name, both in gate.arguments.items():
            upper, lower = leaning(both.upper, lean or 1), leaning(both.lower, lean or 1)
            # Split: each channel has its own budget, for deviations of either sign.
            if sign is not None:
                upper = lower = upper if sign > 0 else lower
            found[name] = upper, lower
        return found

    def cases(
        self,
        level: str,
        name: str,
        x: str,
        gate: TypedGate,
        sides: dict[str, tuple[Scalar, Scalar]],
        lean: Lean,
        side: Lean,
    ) -> str:
        """A gate that is not made of pieces, as an expression; which case holds is measured."""
        inputs = [x]
        places = [self.gate_input(word, level, sides, lean, inputs) for word in gate.rule.inputs]
        gated: Expr = Const(0.0)
        hits: list[Expr] = [Const(0.0)] * len(gate.rule.cases)
        for index, case in reversed(list(enumerate(gate.rule.cases))):
            value = substituted(case.value, places)
            hit = [Const(1.0 if i == index else 0.0) for i in range(len(hits))]
            if case.condition is None:
                gated, hits = value, list(hit)
                continue
            condition = substituted(case.condition, places)
            gated = Call("where", (condition, value, gated))
            hits = [
                Call("where", (condition, one, other)) for one, other in zip(hit, hits, strict=True)
            ]
        if side is not None:
            acts = Call("<", (gated, Input(0)) if side > 0 else (Input(0), gated))
            idle = [Const(1.0 if i == 0 else 0.0) for i in range(len(hits))]
            hits = [Call("where", (acts, h, i)) for h, i in zip(hits, idle, strict=True)]
            gated = Call("where", (acts, gated, Input(0)))
        self.hits[name] = tuple(inputs), tuple(map(simplified, hits))
        return self.add(ir.Pointwise(name, level, tuple(inputs), simplified(gated)))

    def gate_input(
        self,
        word: str,
        level: str,
        sides: dict[str, tuple[Scalar, Scalar]],
        lean: Lean,
        inputs: list[str],
    ) -> Expr:
        """What an input of a gate's cases is, over `inputs`, which grow by what it needs."""

        def given(value: str) -> Expr:
            if value not in inputs:
                inputs.append(value)
            return Input(inputs.index(value))

        def of_cell(of: str) -> Expr:
            if of == cell_budget_name(level):
                return given(self.budget_of(level))
            count = self.count(self.children(level) if of == "size" else TOKEN, level)
            return Call("max", (given(count), Const(1.0)))

        if word == "x":
            return Input(0)
        if word in sides:
            upper, lower = (of_scalar(s, of_cell) for s in sides[word])
            if upper == lower:
                return upper
            return Call("where", (Call("<=", (Const(0.0), Input(0))), upper, lower))
        if word == "advantage":
            return Const(float(lean or 1))
        return of_cell(word) if word in ("size", "tokens") else given(self.leaf(word))

    def cell_budget(self, level: str, name: str, x: str, upper: Scalar, lower: Scalar) -> str:
        """A budget that is made of that of the cell."""
        inputs = [x]
        expr = self.gate_input("C", level, {"C": (upper, lower)}, None, inputs)
        return self.add(ir.Pointwise(name, level, tuple(inputs), simplified(expr)))

    def budget_of(self, level: str) -> str:
        """The budget of each cell: what the caller gives its tokens."""
        tensor = cell_budget_name(level)
        value = self.add(ir.Data(f"data.{tensor}", TOKEN, tensor))
        for step in self.path(TOKEN, level):
            value = self.add(ir.Shared(f"{tensor}.{step}", step, value))
        return value

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
        return ir.Gate(name, level, x, gate.rule, budget=budget, side=side)

    # --- the objective --------------------------------------------------------------------------

    def reduce(self, value: str) -> str:
        """J: nested means or sums, from the token outwards to the batch."""
        steps = self.spec.reduce
        enclosing = [BATCH, *(step.level for step in steps[:-1])]
        for step, outer in reversed(list(zip(steps, enclosing, strict=True))):
            for level in self.path(step.level, outer):
                value = self.add(ir.PushForward(f"J.sum.{step.level}.{level}", level, value))
            if step.reduction == "mean":
                count = self.count(step.level, outer)
                value = self.add(ir.Mean(f"J.{outer}", outer, value, count))
            if step.divisor is not None:
                value = self.add(ir.Divided(f"J.{outer}.divided", outer, value, step.divisor))
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
        for name, value in (
            ("bypassed", "bypassed"),
            ("weight/mean", "weight"),
            ("penalty/mean", "penalty"),
        ):
            if value in self.known:
                self.metrics.append(ir.MeanOf(name, value))

    def measure_gate(
        self, level: str, aggregates: dict[Lean, dict[str, str]], leans: tuple[Lean, ...]
    ) -> None:
        gate = self.spec.gates[level]
        regimes = gate.rule.regimes
        if len(regimes) < 2:
            return
        stem = ("y." if level == self.spec.coarsest_gated else "g.") + level
        up_share = None
        pair = leans if gate.by_advantage else leans[:1]
        if len(pair) == 2:
            up_share = self.up_share(level)
        signs: tuple[ir.Sign, ...] = (1, -1)
        for sign in signs:
            channel = sign if sign in aggregates else None
            names = [stem + _suffix(channel, lean) for lean in pair]
            for index, regime in enumerate(regimes):
                if not gate.rule.pieces:
                    side: Lean = sign if channel is None else None
                    value = self.hit(level, names, index, side, up_share)
                    name = f"regime/{level}/{_WORD[sign]}/{regime}"
                    self.metrics.append(ir.MeanOf(name, value, self.members(level)))
                    continue
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
        if level == TOKEN and not gate.rule.pieces:
            self.acting(stem, aggregates, leans)
        elif level == TOKEN:
            sides = [
                tuple(stem + _suffix(channel, lean) for channel in aggregates) for lean in leans
            ]
            self.metrics.append(ir.TokensClipped("tokens_clipped", sides[0], sides[-1]))

    def hit(
        self, level: str, gates: list[str], index: int, side: Lean, up_share: str | None
    ) -> str:
        """Which cells are in a case of a gate; of two gates, by how many of their tokens are."""
        inputs: list[str] = [] if up_share is None else [up_share]
        parts = []
        for name in gates:
            own, hits = self.hits[name]
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
        name = f"hit.{gates[0]}.{index}" + _suffix(side)
        return self.add(ir.Pointwise(name, level, tuple(inputs), simplified(expr)))

    def acting(
        self, stem: str, aggregates: dict[Lean, dict[str, str]], leans: tuple[Lean, ...]
    ) -> None:
        """The share of tokens whose gate, in either channel, is not in its case `pass`."""
        if "pass" not in self.spec.gates[TOKEN].rule.regimes:
            return
        index = self.spec.gates[TOKEN].rule.regimes.index("pass")
        inputs = [self.leaf("advantage")]
        sides: list[Expr] = []
        for lean in leans:
            clipped: Expr = Const(0.0)
            for channel in aggregates:
                own, hits = self.hits[stem + _suffix(channel, lean)]
                inputs += [value for value in own if value not in inputs]
                places: list[Expr] = [Input(inputs.index(value)) for value in own]
                off = Call("-", (Const(1.0), substituted(hits[index], places)))
                clipped = Call("max", (clipped, off))
            sides.append(clipped)
        expr = sides[0]
        if len(sides) == 2:
            expr = Call("where", (Call("<=", (Const(0.0), Input(0))), *sides))
        value = self.add(ir.Pointwise("clipped", TOKEN, tuple(inputs), simplified(expr)))
        self.metrics.append(ir.MeanOf("tokens_clipped", value))

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
