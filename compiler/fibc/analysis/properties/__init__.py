"""The properties that `require` can promise, one file each; being here is all it takes."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from fibc.analysis.property import Property

_ORDER = (
    "first_order_agreement",
    "continuous",
    "odd",
    "bounded",
    "gated_ratio",
    "lower_bound",
    "block_diagonal",
    "restorative",
    "trust_region",
    "split_invariant",
)


def _found() -> dict[str, Property]:
    properties = {
        value.name: value
        for file in pkgutil.iter_modules(__path__)
        for value in vars(import_module(f"{__name__}.{file.name}")).values()
        if isinstance(value, Property)
    }
    known = [name for name in _ORDER if name in properties]
    return {name: properties[name] for name in [*known, *sorted(properties.keys() - set(known))]}


PROPERTIES: dict[str, Property] = _found()
