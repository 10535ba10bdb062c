"""The statements that compute the metrics of a module, from the values at hand.

A metric is a mean over the cells of a level. What is written here is, cell by cell (of tokens, line
by line), what each adds to it; `summed` (fibdsl/runtime/levels.py) adds up those that are wanted.
"""

from __future__ import annotations

import ast
from dataclasses import replace

from fibc.emit import syntax as py
from fibc.emit.operations import Operations
from fibc.ir import nodes as ir
from fibdsl.types import TOKEN


class Metrics:
    """Fills the dict `metrics` of a module, in the order of the program's metrics."""

    def __init__(self, code: Operations) -> None:
        self.code = code
        self.weights: dict[str, str] = {}

    def statements(self) -> list[ast.stmt]:
        """Which cells count at each level, the regime of each gate, then a line a metric."""
        body: list[ast.stmt] = []
        weights: dict[str | None, str] = {None: "mask"}
        for metric in self.code.program.metrics:
            members = _members(metric)
            if members is not None and members not in weights:
                weights[members] = self.code.names.give(
                    "weight", f"present.{self.code.ops[members].level}"
                )
                present = py.call("present", py.name(self.code.value_name(members)))
                body.append(py.assign(weights[members], present))
        for name in self.measured_gates():
            body.append(py.assign(self.regime_name(name), self.regime(name)))
        body.append(py.assign("metrics", py.dictionary(())))
        shares: dict[ir.RegimeShare, str] = {}
        for metric in self.code.program.metrics:
            if isinstance(metric, ir.RegimeShare):
                # The regimes of one gate are counted together.
                group = replace(metric, name="", regime="")
                weight = py.name(weights[metric.members])
                if group not in shares:
                    stem = metric.name.removesuffix(metric.regime).strip("/")
                    shares[group] = self.code.names.give("counts", stem.replace("regime", "counts"))
                    body.append(py.assign(shares[group], self.counts(metric, weight)))
                index = self.regimes(metric.gate).index(metric.regime)
                counted = py.item(py.name(shares[group]), py.constant(index))
                value = counted
            elif isinstance(metric, ir.MeanOf):
                values = py.name(self.code.value_name(metric.value))
                weight = py.name(weights[metric.members])
                if not self.vanishes(metric.value):
                    values = py.binary("*", values, weight)
                value = py.call("per_line", values)
            else:
                value = py.call("per_line", py.binary("*", self.clipped(metric), py.name("mask")))
            body.append(py.store("metrics", metric.name, value))
            self.weights.setdefault(metric_level(metric, self.code.ops), weights[_members(metric)])
        return body

    def result(self) -> ast.expr:
        """The metrics, and by level which cells count."""
        counting = py.dictionary(
            (py.constant(level), py.name(weight)) for level, weight in self.weights.items()
        )
        return py.tuple_of([py.name("metrics"), counting])

    def vanishes(self, value: str) -> bool:
        """Whether a value is 0 under the mask by itself, as log-ratios are: then its sums may be
        ones that the objective has made already."""
        match self.code.ops[value]:
            case ir.LogRatio():
                return True
            case ir.Channel(_, _, x, _) | ir.Magnitude(_, _, x) | ir.KL(_, _, x, _):
                return self.vanishes(x)
            case ir.Deviation(_, _, x):
                return self.vanishes(x)
            case ir.Pointwise(_, level, _, _):
                return level == TOKEN
            case _:
                return False

    def measured_gates(self) -> list[str]:
        names = [
            name
            for metric in self.code.program.metrics
            if not isinstance(metric, ir.MeanOf)
            for name in metric.operands
            if isinstance(self.code.ops[name], ir.Gate)
        ]
        return list(dict.fromkeys(names))

    def regimes(self, gate: str) -> list[str]:
        return [piece.regime for piece in self.code.gate_of(gate).rule.pieces]

    def regime_name(self, gate: str) -> str:
        return self.code.names.give("regime", f"regime.{gate}")

    def regime(self, name: str) -> ast.expr:
        gate = self.code.gate_of(name)
        regime = py.call(f"regime_{gate.rule.name}", *self.code.gate_arguments(gate))
        if gate.side is None:
            return regime
        acts = py.compare(
            py.name(self.code.value_name(name)),
            "<" if gate.side > 0 else ">",
            py.name(self.code.value_name(gate.x)),
        )
        return py.call(py.dotted("torch", "where"), acts, regime, py.constant(0.0))

    def counts(self, metric: ir.RegimeShare, weight: ast.expr) -> ast.expr:
        """Which cells are in each regime, a list."""

        def of(gate: str, weight: ast.expr) -> ast.expr:
            number = py.constant(len(self.regimes(gate)))
            return py.call("regime_lines", py.name(self.regime_name(gate)), number, weight)

        counted = weight
        if metric.sign is not None:
            side = ">=" if metric.sign > 0 else "<"
            x = py.name(self.code.value_name(self.code.gate_of(metric.gate).x))
            condition = py.compare(x, side, py.constant(0.0))
            counted = py.call(py.dotted("torch", "where"), condition, weight, py.constant(0.0))
        if metric.down is None or metric.up_share is None:
            return of(metric.gate, counted)
        up = py.name(self.code.value_name(metric.up_share))
        down = py.binary("-", py.constant(1.0), up)
        return py.call(
            "both",
            of(metric.gate, py.binary("*", up, counted)),
            of(metric.down, py.binary("*", down, counted)),
        )

    def clipped(self, metric: ir.TokensClipped) -> ast.expr:
        """1.0 at tokens where a token gate does not pass."""

        def acts(gates: tuple[str, ...]) -> ast.expr:
            regimes = [py.name(self.regime_name(name)) for name in gates]
            acting = [py.compare(regime, ">", py.constant(0)) for regime in regimes]
            result = acting[0]
            for other in acting[1:]:
                result = py.binary("|", result, other)
            return result

        result = acts(metric.up)
        if metric.up != metric.down:
            rising = py.compare(py.name("advantages"), ">=", py.constant(0.0))
            result = py.call(py.dotted("torch", "where"), rising, result, acts(metric.down))
        return py.method(result, "to", py.dotted("x", "dtype"))


def metric_level(metric: ir.Metric, ops: dict[str, ir.Op]) -> str:
    """The level over whose cells a metric is a mean."""
    return ops[metric.operands[0]].level


def _members(metric: ir.Metric) -> str | None:
    return None if isinstance(metric, ir.TokensClipped) else metric.members
