"""The gradient of the loss, written out: every operation transposed, from the last to the first.

Written rather than left to autograd so that the module can be exported, and so that what is added
at a token by the token itself is one array: it is known when the token is gated, and is all that
has to be kept until the cells above have been gone through.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fibc.analysis.proofs.shape import shape
from fibc.emit import syntax as py
from fibc.emit.expressions import torch_expression
from fibc.emit.operations import Operations
from fibc.ir import nodes as ir
from fibc.ir.expression import Const, Input, inputs_of
from fibc.ir.functions import derivative, times
from fibc.ir.gradient import differentiable
from fibdsl.types import BATCH, TOKEN, Signal

# Where a derivative at a token comes from: from gating the token, or through an aggregate that the
# token is in.
_OWN, _PULLED = "own", "pulled"


@dataclass(frozen=True)
class _Term:
    """A derivative by the name it has in the module, and its sign: what differs in nothing else is
    computed once."""

    name: str
    sign: int = 1


@dataclass(frozen=True)
class Part:
    """A function of the module that computes derivatives.

    Attributes:
        body: its statements.
        takes: the derivatives that it has from the part before, by name.
        gives: those that it hands on, or the expression that it returns.
        reads: the values of the forward pass that it uses.
    """

    body: tuple[ast.stmt, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...] | ast.expr
    reads: tuple[str, ...]


class Adjoint:
    """Writes the two functions that compute d loss / d x.

    Attributes:
        token: the first: up to what each token adds to d loss / d x itself. It comes before all
            sums of derivatives, so that one loop over the tokens makes all of these: compilers put
            a sum with an array that is there, not an array with a sum.
        rest: the second.
        weights: the derivatives from which, with what they are derivatives of, the loss is added
            up: with respect to G it is minus what a token counts for, times A.
        loss: the loss, from those.
    """

    def __init__(self, code: Operations) -> None:
        self.code = code
        self._body: list[ast.Assign] = []
        self._values: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._hints: Counter[str] = Counter()
        self._own: list[str] = []
        self._terms: dict[tuple[str, str], list[_Term]] = {}
        # The loss is added up from derivatives too, whether or not a gradient flows on from there.
        self._flows = differentiable(code.program) | code.surrogates
        # What the loss is linear in: the derivative, and the value.
        self._linear: list[tuple[_Term, str]] = []
        one = py.call(py.dotted("torch", "ones_like"), py.name("normalizer"))
        # The loss is -J.
        self._add(code.program.objective, _OWN, _Term(self._assigned("d_loss", one), -1))
        for op in reversed(code.program.ops):
            for source in (_OWN, _PULLED):
                if (op.name, source) in self._terms and not isinstance(op, ir.LogRatio):
                    self._transpose(op, source, self._sum(op.name, source))
        result = self._whole()
        # What follows from the tokens themselves, and the rest.
        self.weights = tuple(dict.fromkeys(term.name for term, _ in self._linear))
        self.loss = self._loss()
        names = {_target(s) for s in self._body}
        first: set[str] = set()
        wanted = [*self.weights, *self._own]
        defined = {_target(s): s for s in self._body}
        while wanted:
            name = wanted.pop()
            if name not in first:
                first.add(name)
                wanted += _names(defined[name].value) & names
        token = [s for s in self._body if _target(s) in first]
        rest = [s for s in self._body if _target(s) not in first]
        used = set().union(*(_names(s.value) for s in rest), _names(result), self.weights)
        handed = tuple(_target(s) for s in token if _target(s) in used)
        self.token = Part(tuple(token), (), handed, self._read(token))
        self.rest = Part(tuple(rest), handed, result, self._read(rest, result))

    def _loss(self) -> ast.expr:
        """The loss. It is linear in G, and in a penalty: of each token the derivatives times the
        values, added up."""
        first, _ = self._linear[0]
        added: ast.expr | None = None
        for term, value in self._linear:
            product = py.binary("*", py.name(term.name), py.name(self.code.value_name(value)))
            if added is None:
                added = product
            else:
                added = py.binary("+" if term.sign == first.sign else "-", added, product)
        assert added is not None
        total = py.method(self._level(TOKEN), "total", added)
        return total if first.sign > 0 else py.negative(total)

    def _read(self, body: list[ast.Assign], result: ast.expr | None = None) -> tuple[str, ...]:
        expressions = [s.value for s in body] + ([result] if result is not None else [])
        used = dict.fromkeys(n for e in expressions for n in _ordered(e) if n in self._values)
        return tuple(self._values[name] for name in used)

    # --- bookkeeping ----------------------------------------------------------------------------

    def _whole(self) -> ast.expr:
        """The derivative at the log-ratio, from both sources."""
        [x] = [op.name for op in self.code.program.ops if isinstance(op, ir.LogRatio)]
        parts = {s: self._sum(x, s) for s in (_OWN, _PULLED) if (x, s) in self._terms}
        if not parts:
            return py.call(py.dotted("torch", "zeros_like"), py.name("x"))
        own = pulled = None
        if _OWN in parts:
            # Known when the token is gated, and stored: the one array of tokens that is needed
            # again when the cells above have been gone through. Under the mask advantages are 0,
            # and so is it.
            own = self._assigned("d_own", py.call("kept", _signed(parts[_OWN])))
            self._own.append(own)
        if _PULLED in parts:
            pulled = _counted(_signed(parts[_PULLED]))
        if own is None or pulled is None:
            whole = pulled if own is None else py.name(own)
            assert whole is not None
            return whole
        return py.binary("+", py.name(own), pulled)

    def _add(self, value: str, source: str, term: _Term) -> None:
        self._terms.setdefault((value, source), []).append(term)

    def _sum(self, value: str, source: str) -> _Term:
        """The derivative with respect to a value: all that was added, as one term."""
        terms = self._terms[value, source]
        if len(terms) == 1:
            return terms[0]
        # What is taken away is added up first: where all gates pass it is made of the same parts
        # as what it is taken from, and the difference has to be 0 and not rounding.
        sides = [[t.name for t in terms if t.sign == sign] for sign in (1, -1)]
        sign = 1 if sides[0] else -1
        total = _added(sides[0] or sides[1])
        if sides[0] and sides[1]:
            total = py.binary("-", total, _added(sides[1]))
        suffix = "" if source == _OWN else "_pulled"
        name = f"d_{self.code.value_name(value)}{suffix}"
        return _Term(self._assigned(name, total), sign)

    def _assigned(self, hint: str, expression: ast.expr) -> str:
        """The name of an expression; the same for the same one."""
        text = ast.unparse(expression)
        if text not in self._known:
            self._hints[hint] += 1
            again = self._hints[hint]
            hint = f"{hint}_{again}" if again > 1 else hint
            self._known[text] = self.code.names.fresh(hint)
            statement = py.assign(self._known[text], expression)
            assert isinstance(statement, ast.Assign)
            self._body.append(statement)
        return self._known[text]

    def _value(self, name: str) -> ast.expr:
        python = self.code.value_name(name)
        self._values[python] = name
        return py.name(python)

    def _level(self, name: str) -> ast.expr:
        return py.name(self.code.level_names[name])

    # --- one operation --------------------------------------------------------------------------

    def _transpose(self, op: ir.Op, source: str, d: _Term) -> None:
        """Adds to the derivatives of the operands of `op`, given that of its value."""
        g = py.name(d.name)

        def give(operand: str, expression: ast.expr, sign: int = 1, into: str = source) -> None:
            if operand not in self._flows:
                return
            if isinstance(expression, ast.Name):
                term = _Term(expression.id, d.sign * sign)
            else:
                hint = f"d_{self.code.value_name(operand)}"
                term = _Term(self._assigned(hint, expression), d.sign * sign)
            self._add(operand, into, term)

        zero = py.constant(0.0)
        match op:
            case ir.Deviation(name, _, x):
                slope = py.call(
                    "exp_slope", py.binary("+", self._value(name), py.constant(1.0)), self._value(x)
                )
                give(x, py.binary("*", g, slope))
            case ir.Ratio(name, _, x):
                slope = py.call("exp_slope", self._value(name), self._value(x))
                give(x, py.binary("*", g, slope))
            case ir.Channel(_, _, x, sign):
                plus = py.compare(self._value(x), ">=", zero)
                if sign > 0:
                    give(x, _where(plus, g, zero))
                else:
                    give(x, _where(plus, zero, g), -1)
            case ir.OwnChannel(_, _, x, plus, minus):
                own = py.compare(self._value(x), ">=", zero)
                give(plus, _where(own, g, zero))
                give(minus, _where(own, zero, g), -1)
            case ir.GatedRatio(name, _, y, signal, bounded):
                if signal is Signal.LOG_RATIO:
                    ratio = self._value(name)
                    slope = ratio if bounded else py.call("exp_slope", ratio, self._value(y))
                    give(y, py.binary("*", g, slope))
                else:
                    give(y, g)
            case ir.Term(_, _, gated, penalty):
                hint = f"d_{self.code.value_name(gated)}"
                weight = _Term(
                    self._assigned(hint, py.binary("*", g, py.name("advantages"))), d.sign
                )
                self._linear.append((weight, gated))
                give(gated, py.name(weight.name))
                if penalty is not None:
                    # What the mask leaves of it, a value a token: alike in a row, it is one a line.
                    hint = f"d_{self.code.value_name(penalty)}"
                    counted = _Term(self._assigned(hint, _counted(g)), -d.sign)
                    self._linear.append((counted, penalty))
                    give(penalty, py.name(counted.name), -1)
            case ir.LogProb(_, _, x):
                give(x, g)
            case ir.Pointwise():
                self._pointwise(op, g, give)
            case ir.Divided(_, _, x, divisor):
                give(x, py.binary("/", g, self.code.scalar(divisor)))
            case ir.Select(_, _, up, down):
                rising = py.compare(py.name("advantages"), ">=", zero)
                give(up, _where(rising, g, zero))
                give(down, _where(rising, zero, g))
            case ir.PushForward(_, level, x):
                aggregate = op.name not in self.code.surrogates
                into = _PULLED if aggregate and self.code.ops[x].level == TOKEN else source
                if level == BATCH:
                    below = self.code.ops[x].level
                    give(x, py.method(self._level(below), "spread", g), into=into)
                else:
                    how = "lift" if op.name in self.code.surrogates else "pull"
                    give(x, py.method(self._level(level), how, g), into=into)
            case ir.Weighted(_, _, x, count):
                give(x, py.binary("*", g, self._value(count)))
            case ir.Mean(_, _, total, count):
                give(total, py.call("mean", g, self._value(count)))
            case ir.Lift(_, _, x):
                above = self.code.ops[x].level
                give(x, py.method(self._level(above), "collect", g), into=_OWN)
            case ir.Residual(_, _, x, coarse):
                give(x, g)
                give(coarse, g, -1)
            case ir.Compose(_, _, coarse, fine):
                give(coarse, g)
                give(fine, g)
            case ir.Recombine(_, _, plus, minus):
                give(plus, g)
                give(minus, g, -1)
            case ir.Magnitude(_, _, x):
                give(x, _where(py.compare(self._value(x), ">=", zero), g, py.negative(g)))
            case ir.Present(_, _, x, members):
                there = py.name("mask") if members is None else self._value(members)
                give(x, _where(py.compare(there, ">", zero), g, zero))
            case ir.NeighbourBudget(name, _, total, _, magnitude, _):
                inside = self._assigned(
                    f"d_{self.code.value_name(name)}",
                    _where(py.compare(self._value(name), ">", zero), g, zero),
                )
                give(total, py.name(inside), -1)
                give(magnitude, py.name(inside))
            case ir.Gate():
                self._gate(op, g, give)
            case ir.Count() | ir.NonNegativeAdvantage() | ir.Data() | ir.Shared():
                pass
            case _:
                raise AssertionError(op)

    def _pointwise(self, op: ir.Pointwise, g: ast.expr, give: Callable[..., None]) -> None:
        for index, name in enumerate(op.inputs):
            slope = derivative(op.expr, index)
            if slope == Const(0.0) or name not in self._flows:
                continue
            if slope == Const(1.0):
                # As below: of a lifted derivative there is one a line, and none is masked.
                give(name, _counted(g) if op.level == TOKEN else g)
                continue
            # The derivative of the result goes into each case: times an infinite slope of a case
            # that is not taken it would be NaN.
            expr = times(slope, Input(len(op.inputs)))
            used = inputs_of(expr)
            values = [
                self._value(value) if i in used else py.constant(0.0)
                for i, value in enumerate(op.inputs)
            ]
            written = torch_expression(
                expr, [*values, g], lambda name: py.name(self.code.params[name])
            )
            give(name, _counted(written) if op.level == TOKEN else written)

    def _gate(self, op: ir.Gate, g: ast.expr, give: Callable[..., None]) -> None:
        pieces = op.rule.pieces
        if shape(op.rule).identity:
            give(op.x, g)
            return
        for name in op.operands:
            self._value(name)
        arguments = [g, *self.code.gate_arguments(op)]

        def where_it_acts(acting: ast.expr, beyond: ast.expr) -> ast.expr:
            if op.side is None:
                return acting
            acts = "<" if op.side > 0 else ">"
            condition = py.compare(self._value(op.name), acts, self._value(op.x))
            return _where(condition, acting, beyond)

        if all(piece.slope(1, 1) == 0 for piece in pieces):
            if op.side is not None:
                give(op.x, where_it_acts(py.constant(0.0), g))
        else:
            give(op.x, where_it_acts(py.call(f"slope_{op.rule.name}", *arguments), g))
        if op.budget is not None and op.budget in self._flows:
            by_budget = py.call(f"budget_slope_{op.rule.name}", *arguments)
            give(op.budget, where_it_acts(by_budget, py.constant(0.0)))


def _target(statement: ast.Assign) -> str:
    [target] = statement.targets
    assert isinstance(target, ast.Name)
    return target.id


def _ordered(expression: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(expression) if isinstance(node, ast.Name)]


def _names(expression: ast.expr) -> set[str]:
    return set(_ordered(expression))


def _added(names: list[str]) -> ast.expr:
    total = py.name(names[0])
    for name in names[1:]:
        total = py.binary("+", total, py.name(name))
    return total


def _where(condition: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
    return py.call(py.dotted("torch", "where"), condition, yes, no)


def _counted(expression: ast.expr) -> ast.expr:
    """The expression at tokens that count, 0 under the mask."""
    return _where(py.compare(py.name("mask"), ">", py.constant(0.0)), expression, py.constant(0.0))


def _signed(term: _Term) -> ast.expr:
    return py.name(term.name) if term.sign > 0 else py.negative(py.name(term.name))
