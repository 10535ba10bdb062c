"""What a gate or a token can be, before anything is known of it."""

from __future__ import annotations

import math
from fractions import Fraction

from fibc.ir.interval import Interval

REALS = Interval.everything()
_POSITIVE = Interval(Fraction(0), math.inf, True, True)
_MEMBERS = Interval(Fraction(1), math.inf, high_open=True)
_LOG_PROB = Interval(-math.inf, Fraction(0), True, False)
LEAVES = {
    "size": _MEMBERS,
    "tokens": _MEMBERS,
    "log_ratio": REALS,
    "ratio": _POSITIVE,
    "logp": _LOG_PROB,
    "old_logp": _LOG_PROB,
    "ref_logp": _LOG_PROB,
    "rollout_logp": _LOG_PROB,
    "advantage": REALS,
    "gated_ratio": REALS,
}
"""What is known of a cell or a token, and what that can be."""
