"""Lints: legal but suspicious. One file each; this tuple is all there is to register."""

from __future__ import annotations

from collections.abc import Callable

from fibc.lints.kl_bias import kl_bias
from fibc.lints.token_budget import token_budget
from fibc.lints.unused_param import unused_param
from fibc.typed import TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics

LINTS: tuple[Callable[[TypedObjective, Diagnostics], None], ...] = (
    unused_param,
    kl_bias,
    token_budget,
)
