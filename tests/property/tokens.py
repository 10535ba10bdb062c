"""The tokens of a batch that count, and the cells they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.property.nodes import Floats
from tests.property.specs import Spec

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """The valid tokens of a batch: values (n,), the row of each, and its cell of each level."""

    values: Mapping[str, Floats]
    row: Ints
    cells: Mapping[str, Ints]

    @cached_property
    def first(self) -> Mapping[str, Ints]:
        """A token of each cell, by level."""
        return {level: np.unique(ids, return_index=True)[1] for level, ids in self.cells.items()}


def tokens_of(spec: Spec, tensors: Mapping[str, object]) -> Tokens:
    """The valid tokens of a batch in the form of `tests.meaning.batches.random_tensors`."""
    mask = np.asarray(tensors["mask"], bool)
    keys = tensors["keys"]
    assert isinstance(keys, Mapping)
    row, _ = np.nonzero(mask)
    values = {
        word: np.asarray(tensors[word], np.float64)[mask]
        for word in ("logp", "old_logp", "advantages", "rollout_logp", "ref_logp")
    }
    cells: dict[str, Ints] = {"token": np.arange(len(row))}
    names = spec.names
    for index, (level, key) in enumerate(spec.levels[1:], start=1):
        ids = row
        if key is not None:
            given = np.asarray(keys[key])
            ids = given[mask] if given.ndim == 2 else given[row]
            if "trajectory" in names[index:]:
                _, ids = np.unique(np.stack([row, ids]), axis=1, return_inverse=True)
        cells[level] = np.unique(ids, return_inverse=True)[1]
    cells.setdefault("trajectory", np.unique(row, return_inverse=True)[1])
    cells["batch"] = np.zeros(len(row), np.int64)
    return Tokens(values, row, cells)
