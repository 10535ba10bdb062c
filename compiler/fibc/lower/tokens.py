"""Expressions at the token: aggregates, bypasses, and the term that a token adds to J."""

from __future__ import annotations

from dataclasses import dataclass, field

from fibc.ir import nodes as ir
from fibc.ir.expression import Call, Const, Expr, Input, substituted
from fibc.lower.values import Values
from fibc.typed import Aggregate, TokenValue
from fibdsl.types import TOKEN


@dataclass
class Tokens:
    """Writes what the statements at the token say.

    Attributes:
        leaves: the values that inputs of expressions are, by their names.
    """

    values: Values
    leaves: dict[str, str] = field(default_factory=dict)

    def leaf(self, name: str) -> str:
        """The value that an input of an expression at the token is."""
        if name not in self.leaves:
            x = "log_ratio"
            match name:
                case "log_ratio":
                    self.leaves[name] = x
                case "logp":
                    self.leaves[name] = self.values.add(ir.LogProb("logp", TOKEN, x))
                case "advantage":
                    self.leaves[name] = self.values.add(
                        ir.Data("data.advantages", TOKEN, "advantages")
                    )
                case "old_logp" | "ref_logp" | "rollout_logp":
                    self.leaves[name] = self.values.add(ir.Data(f"data.{name}", TOKEN, name))
                case _:
                    [found] = [a for a in self.values.spec.sums if a.name == name]
                    self.leaves[name] = self.aggregated(found)
        return self.leaves[name]

    def pointwise(self, name: str, value: TokenValue, expr: Expr | None = None) -> str:
        """An expression at the token; `expr` in place of its own, over the same inputs."""
        inputs = tuple(map(self.leaf, value.inputs)) or (self.leaf("log_ratio"),)
        return self.values.add(
            ir.Pointwise(name, TOKEN, inputs, value.expr if expr is None else expr)
        )

    def aggregated(self, aggregate: Aggregate) -> str:
        """`mean(e over LEVEL)` at every token: up to the level, and down again."""
        value = self.pointwise(aggregate.name, aggregate.value)
        path = self.values.path(TOKEN, aggregate.level)
        for step in path:
            value = self.values.add(ir.PushForward(f"{aggregate.name}.{step}", step, value))
        if aggregate.reduction == "mean":
            count = self.values.count(TOKEN, aggregate.level)
            value = self.values.add(
                ir.Mean(f"{aggregate.name}.mean", aggregate.level, value, count)
            )
        for step in reversed((TOKEN, *path[:-1])):
            value = self.values.add(ir.Lift(f"K.{aggregate.name}.{step}", step, value))
        return value

    def bypassed(self, G: str) -> str:
        """G, or what stands for it where a bypass holds."""
        if not self.values.spec.bypasses:
            return G
        inputs = [G]
        expr: Expr = Input(0)
        acting: Expr = Const(0.0)
        for bypass in reversed(self.values.spec.bypasses):
            condition = self.placed(bypass.condition, inputs)
            expr = Call("where", (condition, self.placed(bypass.value, inputs), expr))
            acting = Call("where", (condition, Const(1.0), acting))
        self.values.add(ir.Pointwise("bypassed", TOKEN, tuple(inputs), acting))
        return self.values.add(ir.Pointwise("gated_ratio", TOKEN, tuple(inputs), expr))

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
        spec = self.values.spec
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
            value = self.values.add(ir.Pointwise("factor", TOKEN, tuple(inputs), expr))
        penalty = None
        if spec.penalty is not None:
            penalty = self.pointwise("penalty", spec.penalty)
        return self.values.add(ir.Term("term", TOKEN, value, penalty))
