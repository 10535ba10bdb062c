"""The reference interpreter: the meaning of the language, in float64, one rule an operation.

`run` computes every value of a program; `pullback` is its transpose (the derivative of one value
with respect to the log-ratios of all tokens), also one rule an operation and written by hand, so
that compiled gradients are tested against something that no automatic differentiation made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fibc.batch import Batch, BatchError, Floats, Ints
from fibc.ir import functions
from fibc.ir import nodes as ir
from fibc.ir.expression import Const, Expr
from fibc.ir.scalar import evaluate
from fibdsl.types import BATCH, Signal


@dataclass(frozen=True)
class Run:
    """A program evaluated on a batch: `values[name]` is float64, one entry a cell of its level;
    `states` are those of its gates, as far as they were asked for."""

    program: ir.Program
    batch: Batch
    params: Mapping[str, float]
    values: dict[str, Floats]
    normalizers: Mapping[str, float]
    states: dict[str, GateState] = field(default_factory=dict)

    @property
    def gated_ratio(self) -> Floats:
        """G of each valid token."""
        return self.values[self.program.gated_ratio]

    @property
    def loss(self) -> float:
        return -float(self.values[self.program.objective][0])


def run(
    program: ir.Program,
    batch: Batch,
    params: Mapping[str, float],
    normalizers: Mapping[str, float] | None = None,
) -> Run:
    """Evaluates `program`.

    Args:
        params: a value for every param of the program.
        normalizers: the number of outermost cells to divide by, by level name, where the batch is
            a part of a larger one; by default those of the batch.

    Raises:
        BatchError: a normalizer that has no effect, or is below 1.
    """
    for name, count in (normalizers or {}).items():
        if name != program.outermost:
            uses = f"uses '{program.outermost}'" if program.outermost else "uses none"
            raise BatchError(f"normalizers['{name}'] has no effect; '{program.name}' {uses}")
        if not count >= 1:
            raise BatchError(f"normalizers['{name}'] = {count} is not a count of 1 or more")
    result = Run(program, batch, params, {}, normalizers or {})
    for op in program.ops:
        result.values[op.name] = _value(op, result)
    return result


def _value(op: ir.Op, r: Run) -> Floats:
    v, batch = r.values, r.batch
    match op:
        case ir.LogRatio():
            return batch.log_ratio
        case ir.Deviation(_, _, x):
            return _expm1(v[x])
        case ir.Ratio(_, _, x):
            return _exp(v[x])
        case ir.LogProb():
            return batch.tensor("logp")
        case ir.Data(_, _, tensor):
            return batch.tensor(tensor)
        case ir.Pointwise(_, level, inputs, expr):
            # Of a value that does not count (a case that is not taken) anything may come.
            with np.errstate(all="ignore"):
                given = functions.value(expr, r.params, [v[name] for name in inputs])
            return np.array(np.broadcast_to(given, batch.sizes[level]), np.float64)
        case ir.KL(_, _, x, estimator):
            return -v[x] if estimator == "k1" else _expm1(v[x]) - v[x]
        case ir.Channel(_, _, x, sign):
            plus = v[x] >= 0
            return np.where(plus, v[x], 0.0) if sign > 0 else np.where(plus, 0.0, -v[x])
        case ir.OwnChannel(_, _, x, plus, minus):
            return np.where(v[x] >= 0, v[plus], -v[minus])
        case ir.GatedRatio(_, _, y, signal):
            return _exp(v[y]) if signal is Signal.LOG_RATIO else 1.0 + v[y]
        case ir.Term(_, _, gated, penalty):
            term = v[gated] * batch.advantages
            return term if penalty is None else term - v[penalty]
        case ir.NonNegativeAdvantage():
            return (batch.advantages >= 0).astype(np.float64)
        case ir.Select(_, _, up, down):
            return np.where(batch.advantages >= 0, v[up], v[down])
        case ir.Count(_, level, of, counts, _):
            if level == BATCH and of in r.normalizers:
                return np.array([float(r.normalizers[of])])
            finer = np.ones(batch.sizes[of]) if counts is None else v[counts]
            return _sum(finer, _up(op, r), batch.sizes[level])
        case ir.PushForward(_, level, x):
            return _sum(v[x], _up(op, r), batch.sizes[level])
        case ir.Shared(_, level, x):
            shared = np.zeros(batch.sizes[level])
            shared[_up(op, r)] = v[x]
            return shared
        case ir.Weighted(_, _, x, count):
            return v[x] * v[count]
        case ir.Mean(_, _, total, count):
            return v[total] / np.maximum(v[count], 1.0)
        case ir.Divided(_, _, x, divisor):
            quotient: Floats = v[x] / evaluate(divisor, r.params, {})
            return quotient
        case ir.Lift(_, level, x):
            return v[x][batch.parents[level, _level(x, r)]]
        case ir.Residual(_, _, x, coarse):
            return v[x] - v[coarse]
        case ir.Compose(_, _, coarse, fine):
            return v[coarse] + v[fine]
        case ir.Recombine(_, _, plus, minus):
            return v[plus] - v[minus]
        case ir.Magnitude(_, _, x):
            return np.abs(v[x])
        case ir.Present(_, _, x, _):
            return v[x]  # the reference holds nothing that is not there
        case ir.NeighbourBudget(_, _, total, count, magnitude, delta):
            shared = v[count] * evaluate(delta, r.params, {})
            left: Floats = np.maximum(0.0, shared - (v[total] - v[magnitude]))
            return left
        case ir.Gate():
            return gate_state(op, r).value
    raise AssertionError(op)


# Ratios saturate at the largest exponent of the number type, so that an absurd one stays finite and
# 0 * ratio (an advantage of 0, a clipped gradient) is 0. Float64 here, its own type in torch.
_LOG_MAX = 709.0


def _exp(x: Floats) -> Floats:
    return np.exp(np.minimum(x, _LOG_MAX))


def _expm1(x: Floats) -> Floats:
    return np.expm1(np.minimum(x, _LOG_MAX))


def _exp_slope(x: Floats) -> Floats:
    return np.where(x <= _LOG_MAX, _exp(x), 0.0)


def _level(name: str, r: Run) -> str:
    return next(op.level for op in r.program.ops if op.name == name)


def _up(op: ir.PushForward | ir.Shared | ir.Count, r: Run) -> Ints:
    """The parent, at the level of `op`, of each cell it sums over."""
    if isinstance(op, ir.PushForward | ir.Shared):
        below = _level(op.x, r)
    else:
        below = op.of if op.counts is None else _level(op.counts, r)
    return r.batch.parents[below, op.level]


def _sum(values: Floats, parent: Ints, size: int) -> Floats:
    return np.bincount(parent, weights=values, minlength=size).astype(np.float64)


@dataclass(frozen=True)
class GateState:
    """A gate at every cell: its value, its regime (index of the piece), slope and budget slope."""

    value: Floats
    regime: Ints
    slope: Floats
    budget_slope: Floats


def gate_state(op: ir.Gate, r: Run) -> GateState:
    """A gate at every cell of its level; evaluated once a run."""
    if op.name not in r.states:
        r.states[op.name] = _gate_state(op, r)
    return r.states[op.name]


def _gate_state(op: ir.Gate, r: Run) -> GateState:
    """Evaluates the pieces of a gate one after the other."""
    x = r.values[op.x]
    a, sign = np.abs(x), np.where(x >= 0, 1.0, -1.0)
    C = _budget(op, r, x)
    k = _steepness(op, r, x)
    value, slope, budget_slope = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    regime = np.zeros(x.shape, np.int64)
    # Each piece replaces the one before beyond its end, so that NaN stays in the first: the input.
    beyond = np.ones(x.shape, bool)
    for index, piece in enumerate(op.rule.pieces):
        b, m = piece.intercept(C, k), piece.slope(C, k)
        per_budget = piece.intercept(1.0, k) - piece.intercept(0.0, k)
        # 0 * inf would poison passing cells of an unbounded gate; pieces not taken are masked.
        with np.errstate(invalid="ignore"):
            linear = sign * b + m * x
        value = np.where(beyond, linear, value)
        slope = np.where(beyond, m, slope)
        budget_slope = np.where(beyond, sign * per_budget, budget_slope)
        regime = np.where(beyond, index, regime)
        if piece.until is not None:
            end = piece.until(C, k)
            beyond = (a > end) if piece.inclusive else (a >= end)
    if op.side is not None:
        acts = value < x if op.side > 0 else value > x
        value = np.where(acts, value, x)
        slope = np.where(acts, slope, 1.0)
        budget_slope = np.where(acts, budget_slope, 0.0)
        regime = np.where(acts, regime, 0)
    return GateState(value, regime, slope, budget_slope)


def _budget(op: ir.Gate, r: Run, x: Floats) -> Floats:
    if op.budget is not None:
        return r.values[op.budget]
    if op.upper is None or op.lower is None:
        return np.zeros_like(x)
    upper, lower = evaluate(op.upper, r.params, {}), evaluate(op.lower, r.params, {})
    budget: Floats = np.where(x >= 0, upper, lower)
    return budget


def _steepness(op: ir.Gate, r: Run, x: Floats) -> Floats:
    if op.steepness is None:
        return np.ones_like(x)
    counts = {"size": op.size, "tokens": op.tokens}
    present = {word: np.maximum(r.values[name], 1.0) for word, name in counts.items() if name}
    return np.broadcast_to(np.asarray(evaluate(op.steepness, r.params, present)), x.shape)


# --- derivatives --------------------------------------------------------------------------------


def pullback(r: Run, name: str, seed: Floats) -> Floats:
    """d(sum(seed * value[name])) / d(log-ratio of each valid token), float64 (n,).

    Where a derivative is one-sided the convention of docs/semantics.md decides: zero belongs to
    the + channel, and a gate at its budget still passes.
    """
    grads: dict[str, Floats] = {name: np.asarray(seed, np.float64)}
    for op in reversed(r.program.ops):
        if op.name not in grads or isinstance(op, ir.LogRatio):
            continue
        for operand, contribution in _transpose(op, grads[op.name], r).items():
            held = grads.get(operand)
            grads[operand] = contribution if held is None else held + contribution
    source = next(op.name for op in r.program.ops if isinstance(op, ir.LogRatio))
    return grads.get(source, np.zeros_like(r.batch.log_ratio))


def _transpose(op: ir.Op, g: Floats, r: Run) -> dict[str, Floats]:
    """The gradient with respect to each operand, given that with respect to the value."""
    v, batch = r.values, r.batch
    match op:
        case ir.Deviation(_, _, x) | ir.Ratio(_, _, x):
            return {x: g * _exp_slope(v[x])}
        case ir.LogProb(_, _, x):
            return {x: g}
        case ir.Pointwise(_, _, inputs, expr):
            return _merge(*_pointwise(inputs, expr, g, r))
        case ir.Channel(_, _, x, sign):
            plus = v[x] >= 0
            return {x: np.where(plus, g, 0.0) if sign > 0 else np.where(plus, 0.0, -g)}
        case ir.OwnChannel(_, _, x, plus, minus):
            own = v[x] >= 0
            return _merge((plus, np.where(own, g, 0.0)), (minus, np.where(own, 0.0, -g)))
        case ir.GatedRatio(_, _, y, signal):
            return {y: g * _exp_slope(v[y]) if signal is Signal.LOG_RATIO else g}
        case ir.Term(_, _, gated, penalty):
            gradients = [(gated, g * batch.advantages)]
            return _merge(*gradients, *([] if penalty is None else [(penalty, -g)]))
        case ir.Select(_, _, up, down):
            chosen = batch.advantages >= 0
            return _merge((up, np.where(chosen, g, 0.0)), (down, np.where(chosen, 0.0, g)))
        case ir.PushForward(_, _, x):
            return {x: g[_up(op, r)]}
        case ir.Weighted(_, _, x, count):
            return {x: g * v[count]}
        case ir.Mean(_, _, total, count):
            return {total: g / np.maximum(v[count], 1.0)}
        case ir.Divided(_, _, x, divisor):
            return {x: g / evaluate(divisor, r.params, {})}
        case ir.Lift(_, level, x):
            above = _level(x, r)
            return {x: _sum(g, batch.parents[level, above], batch.sizes[above])}
        case ir.Residual(_, _, x, coarse):
            return _merge((x, g), (coarse, -g))
        case ir.Compose(_, _, coarse, fine):
            return _merge((coarse, g), (fine, g))
        case ir.Recombine(_, _, plus, minus):
            return _merge((plus, g), (minus, -g))
        case ir.Magnitude(_, _, x):
            return {x: np.where(v[x] >= 0, g, -g)}
        case ir.Present(_, _, x, _):
            return {x: g}
        case ir.NeighbourBudget(name, _, total, _, magnitude, _):
            inside = np.where(v[name] > 0, g, 0.0)
            return _merge((total, -inside), (magnitude, inside))
        case ir.Gate():
            state = gate_state(op, r)
            grads = {op.x: g * state.slope}
            if op.budget is not None:
                grads[op.budget] = g * state.budget_slope
            return grads
        case ir.Count() | ir.NonNegativeAdvantage() | ir.Data() | ir.Shared():
            return {}
    raise AssertionError(op)


def _pointwise(inputs: tuple[str, ...], expr: Expr, g: Floats, r: Run) -> list[tuple[str, Floats]]:
    """The gradient with respect to each input of an expression."""
    values = [r.values[name] for name in inputs]
    found = []
    for index, name in enumerate(inputs):
        slope = functions.derivative(expr, index)
        if slope != Const(0.0):
            with np.errstate(all="ignore"):
                found.append((name, g * functions.value(slope, r.params, values)))
    return found


def _merge(*parts: tuple[str, Floats]) -> dict[str, Floats]:
    """Gradients of operands that may be the same value."""
    merged: dict[str, Floats] = {}
    for name, grad in parts:
        merged[name] = merged[name] + grad if name in merged else grad
    return merged


# --- metrics ------------------------------------------------------------------------------------


def metrics(r: Run) -> dict[str, float]:
    """Every metric of the program, as a float; 0 where there is nothing to average."""
    ops = r.program.by_name
    return {metric.name: _mean(_measure(metric, ops, r)) for metric in r.program.metrics}


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else 0.0


def _measure(metric: ir.Metric, ops: dict[str, ir.Op], r: Run) -> Floats:
    def gate(name: str) -> ir.Gate:
        op = ops[name]
        assert isinstance(op, ir.Gate)
        return op

    def hits(name: str, regime: str) -> Floats:
        op = gate(name)
        index = [piece.regime for piece in op.rule.pieces].index(regime)
        return np.where(gate_state(op, r).regime == index, 1.0, 0.0)

    match metric:
        case ir.MeanOf(_, value, _):
            return r.values[value]
        case ir.RegimeShare(_, name, regime, sign, down, up_share, _):
            share = hits(name, regime)
            if down is not None and up_share is not None:
                up = r.values[up_share]
                share = up * share + (1.0 - up) * hits(down, regime)
            if sign is not None:
                x = r.values[gate(name).x]
                share = np.where(x >= 0 if sign > 0 else x < 0, share, 0.0)
            return share
        case ir.TokensClipped(_, up, down):
            acts_up = np.any([gate_state(gate(n), r).regime != 0 for n in up], axis=0)
            acts_down = np.any([gate_state(gate(n), r).regime != 0 for n in down], axis=0)
            return np.where(np.where(r.batch.advantages >= 0, acts_up, acts_down), 1.0, 0.0)
