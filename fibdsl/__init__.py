"""fibdsl: policy losses for language-model RL, written as specs and compiled to fused torch code.

The names below are loaded on first use, so `import fibdsl` stays light and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fibdsl import schedules
from fibdsl._version import __version__

if TYPE_CHECKING:
    from fibdsl.api import check, compile, load, load_text
    from fibdsl.diagnostics.diagnostic import Diagnostic
    from fibdsl.evaluation import Evaluation
    from fibdsl.objective import Objective
    from fibdsl.packaged import load_compiled
    from fibdsl.runtime.layouts import block_layout
from fibdsl.diagnostics.errors import FibError, InternalError, PackageError

_HOMES = {
    "Evaluation": "fibdsl.evaluation",
    "Objective": "fibdsl.objective",
    "block_layout": "fibdsl.runtime.layouts",
    "check": "fibdsl.api",
    "compile": "fibdsl.api",
    "load": "fibdsl.api",
    "load_compiled": "fibdsl.packaged",
    "load_text": "fibdsl.api",
    "Diagnostic": "fibdsl.diagnostics.diagnostic",
    "FibError": "fibdsl.diagnostics.errors",
    "InternalError": "fibdsl.diagnostics.errors",
    "PackageError": "fibdsl.diagnostics.errors",
}

__all__ = [
    "Diagnostic",
    "Evaluation",
    "FibError",
    "InternalError",
    "Objective",
    "PackageError",
    "__version__",
    "block_layout",
    "check",
    "compile",
    "load",
    "load_compiled",
    "load_text",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fibdsl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
