"""An objective as judges of properties see it: values a token, and derivatives.

For random specs these are plain numpy (`tests/property/model.py`), for shipped ones the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from fibc import interp
from fibc.ir import nodes as ir
from fibdsl.objective import Objective
from tests.meaning.batches import Tensors
from tests.property.model import World
from tests.property.nodes import Floats
from tests.property.specs import Spec
from tests.property.tokens import tokens_of

STEP = 1e-6


@dataclass(frozen=True)
class Values:
    """Of each valid token: G, weight * surrogate, the penalty."""

    gated_ratio: Floats
    factor: Floats
    penalty: Floats


class Subject(Protocol):
    """An objective at parameter values."""

    @property
    def objective(self) -> Objective: ...

    def values(self, tensors: Tensors) -> Values: ...

    def jacobians(self, tensors: Tensors) -> tuple[Floats, Floats]:
        """d surrogate_i / d log-ratio_j of the valid tokens, stop-gradients held: to the right and
        to the left."""


@dataclass(frozen=True)
class ByNumpy:
    """A random spec by `World`."""

    objective: Objective
    spec: Spec

    def world(self, tensors: Tensors) -> World:
        spec = replace(self.spec, params=self.objective.params)
        tokens = tokens_of(spec, tensors)
        return World(spec, tokens, tokens.values["logp"])

    def values(self, tensors: Tensors) -> Values:
        world = self.world(tensors)
        return Values(world.bypassed[0], world.factor, world.penalty)

    def jacobians(self, tensors: Tensors) -> tuple[Floats, Floats]:
        world = self.world(tensors)
        sides = []
        for step in (STEP, -STEP):
            moved = [world.moved(world.logp + step * e) for e in np.eye(len(world.logp))]
            sides.append(np.array([(m.surrogate - world.surrogate) / step for m in moved]).T)
        return sides[0], sides[1]


@dataclass(frozen=True)
class ByReference:
    """Any objective by the reference interpreter; its surrogate is that without the weight."""

    objective: Objective

    def run(self, tensors: Tensors) -> interp.Run:
        objective = self.objective
        words = ("logp", "old_logp", "advantages", "mask", *objective.tensors)
        given: dict[str, Any] = {word: tensors[word] for word in words}
        batch = objective.batch(**given, keys={k: tensors["keys"][k] for k in objective.keys})
        return interp.run(objective.program, batch, objective.params)

    def values(self, tensors: Tensors) -> Values:
        run = self.run(tensors)
        [term] = [op for op in run.program.ops if isinstance(op, ir.Term)]
        factor = run.values[term.factor]
        penalty = np.zeros_like(factor) if term.penalty is None else run.values[term.penalty]
        return Values(run.gated_ratio, factor, penalty)

    def jacobians(self, tensors: Tensors) -> tuple[Floats, Floats]:
        typed = replace(self.objective.typed, weight=None)
        run = ByReference(replace(self.objective, typed=typed)).run(tensors)
        seeds = np.eye(len(run.gated_ratio))
        found = np.array([interp.pullback(run, run.program.factor, seed) for seed in seeds])
        return found, found
