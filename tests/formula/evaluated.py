"""Formulas as numbers: what they say of each token of a batch, independently of the interpreter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibc.formula.algebra import Aggregate, Apply, Param, Sum, Symbol, Tree
from fibc.formula.cases import Cases
from fibc.formula.channels import SIGNED
from fibc.formula.formula import Formula
from fibdsl.types import TOKEN, TRAJECTORY, Level
from tests.meaning.batches import Tensors

Floats = NDArray[np.float64]
Signs = {"⁺": 1.0, "⁻": -1.0}

FUNCTIONS: Mapping[str, Any] = {
    "min": np.minimum,
    "max": np.maximum,
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "abs": np.abs,
    "sign": lambda x: np.where(x < 0, -1.0, 1.0),
    "exp": np.exp,
    "log": np.log,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "<": np.less,
    "<=": np.less_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}


class Evaluated:
    """The values of all names of a formula at the valid tokens of a batch; through sg flows what
    they are in `fixed`, so that differences are derivatives."""

    def __init__(
        self,
        formula: Formula,
        levels: tuple[Level, ...],
        params: Mapping[str, float],
        tensors: Tensors,
        fixed: Evaluated | None = None,
    ) -> None:
        self.formula = formula
        self.fixed = self if fixed is None else fixed
        self.params = params
        self.mask = tensors["mask"]
        self.cells = cells(levels, tensors)
        x = (tensors["logp"] - tensors["old_logp"])[self.mask]
        self.known: dict[str, Any] = {
            "log r": x,
            "r": np.exp(x),
            "A": tensors["advantages"][self.mask],
            "∞": np.inf,
        }
        for name, tensor in (
            ("π", "logp"),
            ("π_old", "old_logp"),
            ("π_ref", "ref_logp"),
            ("π_rollout", "rollout_logp"),
        ):
            if tensor in tensors:
                self.known[f"log {name}"] = tensors[tensor][self.mask]
                self.known[name] = np.exp(tensors[tensor][self.mask])
        self.keys = {
            key: np.broadcast_to(np.asarray(ids).reshape(len(ids), -1), self.mask.shape)[self.mask]
            for key, ids in tensors["keys"].items()
        }
        self.names = tensors.get("cells", {})
        for d in formula.definitions:
            if d.name.endswith(SIGNED):
                for sign in Signs:
                    self.known[d.name[:-1] + sign] = self.cases(d.cases, sign)
            else:
                self.known[d.name] = self.cases(d.cases, "")

    @property
    def objective(self) -> float:
        return self.reduced(self.formula.reduce, np.arange(len(self.known["A"])))

    def reduced(self, text: str, tokens: NDArray[np.int64]) -> float:
        """One step of the reduce, over some tokens."""
        if text == "term":
            [token] = tokens
            return float(np.broadcast_to(self.known["term"], self.known["A"].shape)[token])
        if text.startswith("("):
            inner, _, divisor = text[1:].rpartition(") / ")
            by = self.params[divisor] if divisor in self.params else float(divisor)
            return self.reduced(inner, tokens) / by
        match = re.fullmatch(r"(mean|sum) over (\w+) of (.*)", text)
        assert match, text
        word, level, inner = match.groups()
        here = self.cells[level][tokens]
        values = [self.reduced(inner, tokens[here == cell]) for cell in np.unique(here)]
        return float(np.sum(values)) / (len(values) if word == "mean" else 1)

    def cases(self, cases: Cases, sign: str) -> Any:
        *conditional, last = cases
        value = self.value(last.value, sign)
        for case in reversed(conditional):
            holds = np.logical_and.reduce(
                [np.broadcast_to(self.value(c, sign), self.mask.sum()) for c in case.conditions]
            )
            value = np.where(holds, self.value(case.value, sign), value)
        return value

    def value(self, tree: Tree, sign: str) -> Any:
        match tree:
            case Symbol(name):
                return self.known[name[:-1] + sign if name.endswith(SIGNED) else name]
            case Param(name):
                return self.params[name]
            case Aggregate():
                return self.aggregate(tree, sign)
            case Sum(terms):
                total: Any = 0.0
                for coefficient, factors in terms:
                    product: Any = float(coefficient)
                    for factor, power in factors:
                        product = product * self.value(factor, sign) ** float(power)
                    total = total + product
                return total
            case Apply("channel", (x,)):
                return np.maximum(Signs[sign] * self.value(x, sign), 0)
            case Apply("rollback", (x, upper, lower, k)):
                a, b, c, d = (self.value(part, sign) for part in (x, upper, lower, k))
                return self.rollback(a, b, c, d, sign)
            case Apply("bound", (x, upper, lower)):
                C = self.value(upper if sign == "⁺" else lower, sign)
                return np.clip(self.value(x, sign), -C, C)
            case Apply("stopgrad", (x,)):
                return self.fixed.value(x, sign)
            case Apply("is", (Symbol(key), Symbol(cell))):
                return self.keys[key] == self.names[key][cell]
            case Apply(function, arguments):
                return FUNCTIONS[function](*(self.value(a, sign) for a in arguments))

    def rollback(self, x: Any, upper: Any, lower: Any, k: Any, sign: str) -> Any:
        """arXiv 2603.08239; in a channel its own budget on both sides."""
        C = np.where(x >= 0, upper, lower) if not sign else upper if sign == "⁺" else lower
        a = np.abs(x)
        back = np.maximum((k + 1) * C - k * a, 0)
        return np.sign(x) * np.where(a <= C, a, back)

    def aggregate(self, tree: Aggregate, sign: str) -> Any:
        of, over = self.cells[tree.of], self.cells[tree.over]
        members, first = np.unique(of, return_index=True)
        weights = np.ones(len(members))
        if tree.weight:
            inner = self.cells[tree.weight]
            weights = np.array([len(np.unique(inner[of == cell])) for cell in members], float)
        body = np.broadcast_to(self.value(tree.body, sign), of.shape)[first]
        cell = over[first]
        sums = np.bincount(cell, weights * body, minlength=over.max() + 1)
        counts = np.bincount(cell, weights, minlength=over.max() + 1)
        return {"n": counts, "sum": sums, "mean": sums / np.maximum(counts, 1)}[tree.kind][over]


def cells(levels: tuple[Level, ...], tensors: Tensors) -> dict[str, NDArray[np.int64]]:
    """For each level, the number of the cell that each valid token is in."""
    mask = tensors["mask"]
    rows = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)[mask]
    names = [level.name for level in levels]
    found = {TOKEN: np.arange(mask.sum()), TRAJECTORY: _numbered(rows)}
    for index, level in enumerate(levels):
        if level.key is None:
            continue
        ids = np.asarray(tensors["keys"][level.key])
        ids = ids if ids.ndim == 2 else np.broadcast_to(ids[:, None], mask.shape)
        numbers = _numbered(ids[mask])
        if TRAJECTORY in names and index < names.index(TRAJECTORY):
            numbers = _numbered(found[TRAJECTORY] * len(rows) + numbers)
        found[level.name] = numbers
    return found


def _numbered(ids: Any) -> NDArray[np.int64]:
    return np.unique(ids, return_inverse=True)[1]
