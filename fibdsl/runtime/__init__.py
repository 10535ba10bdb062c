"""The torch code of a loss; `fibdsl.ahead` and `fibdsl.packaged` put it into packages.

`RUNTIME` is copied, in this order, into every generated module; those files import only torch and
the standard library. `reference.py` gives the interpreter a torch face.
"""

RUNTIME = (
    "schedules",
    "contract",
    "naming",
    "numerics",
    "ranks",
    "levels",
    "checks",
    "layouts",
    "sharing",
    "cells",
    "joint",
    "weights",
    "graphs",
    "params",
    "refusals",
    "calls",
    "loss",
)
