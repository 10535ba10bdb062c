"""Ends of ranges where floats overflow: rounded outwards all the same."""

from __future__ import annotations

import math
from fractions import Fraction

import fibdsl
from fibc.analysis.facts import Facts
from fibc.analysis.proofs.ranges import gated_ratio_of
from fibc.ir.interval import Interval
from fibdsl.types import Signal


def test_exponentials_beyond_the_floats() -> None:
    G = gated_ratio_of(Interval(Fraction(720), Fraction(730)), Signal.LOG_RATIO)
    # e^720 is above 10^312, and a number.
    assert G.low < Fraction(10) ** 313
    assert G.high == math.inf
    G = gated_ratio_of(Interval(Fraction(-900), Fraction(-800)), Signal.LOG_RATIO)
    assert G.low == 0
    # e^-800 is above 10^-348.
    assert Fraction(10) ** -348 < G.high < Fraction(1, 10**300)


def test_a_promise_about_huge_budgets_is_not_guessed() -> None:
    text = (
        "objective o { signal log_ratio levels token < trajectory "
        "at token { base clip(800) } reduce mean over token }"
    )
    objective = fibdsl.load_text(text).typed
    G = Facts.at(objective, {}).ranges.gated_ratio
    assert 0 in Interval(G.low, G.high)
    assert G.high == math.inf
