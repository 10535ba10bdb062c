"""The text of a generated module as a module."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType


def imported(text: str, objective: str) -> ModuleType:
    """The module that a text is. Its lines are registered, so that tracebacks and torch.compile's
    messages show them."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    filename = f"<fibdsl {objective} {digest}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    module = ModuleType(f"fibdsl_generated_{objective}_{digest}")
    sys.modules[module.__name__] = module
    exec(compile(text, filename, "exec"), module.__dict__)
    return module
