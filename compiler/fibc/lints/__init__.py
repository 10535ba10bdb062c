"""Lints: legal but suspicious. One file each, with its record and its check; being here is all it
takes to be run."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from fibc.lints.lint import Lint

LINTS: tuple[Lint, ...] = tuple(
    sorted(
        (
            lint
            for file in pkgutil.iter_modules(__path__)
            for lint in vars(import_module(f"{__name__}.{file.name}")).values()
            if isinstance(lint, Lint)
        ),
        key=lambda lint: lint.rule.code,
    )
)
