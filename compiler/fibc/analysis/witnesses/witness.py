"""A witness: a tiny batch on which a property fails, in the form of a batch file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Witness:
    """A batch that `fib eval` accepts, and what to look at in it.

    Attributes:
        name: OBJECTIVE.PROPERTY, of which a file name is made.
        tensors: the entries of a batch file: logp, old_logp, advantages, mask (B, T) and the ids of
            every key, in nats and as `fib eval --batch` reads them.
        shows: what is wrong in it, in one line.
    """

    name: str
    tensors: Mapping[str, NDArray[Any]]
    shows: str
