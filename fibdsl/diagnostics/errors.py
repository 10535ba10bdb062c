"""The exceptions of the API."""

from __future__ import annotations

from collections.abc import Iterable

from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.render.full import render


class FibError(Exception):
    """A spec, or the values given to it, are wrong. `diagnostics` says everything at once."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n" + render(self.diagnostics))


class PackageError(RuntimeError):
    """A loss that cannot be compiled ahead of time here, or one that cannot be run here; says why,
    and what would mend it."""


class InternalError(Exception):
    """A bug of fibdsl's own: an invariant between two stages of the compiler does not hold."""
