"""What is said of a division, a logarithm or a root that may have no value (FIB305)."""

from __future__ import annotations

from dataclasses import replace

from fibc.ir.interval import Interval, Real

DOES = {"/": "divides by", "log": "takes the log of", "sqrt": "takes the root of"}
_TINY = 1e-12


def no_value(
    function: str, shown: str, found: Interval, subject: str = "this", given: bool = False
) -> tuple[str, str]:
    """The message and the help.

    Args:
        function: "/", "log" or "sqrt".
        shown: its argument, as it is written.
        found: what that can be.
        subject: who does it.
        given: whether the argument hangs on parameters only, and on nothing of a token.
    """
    found = _tidy(found)
    wrong = "negative" if function != "/" and found.low < 0 else "0"
    message = f"{subject} {DOES[function]} `{shown}`, which "
    if found.low == found.high:
        return f"{message}is {float(found.low):g}", "give it another value"
    if found == Interval.everything():
        message += f"can be {wrong}"
    else:
        message += f"can be {wrong}: it is in {found}"
    if given:
        return message, f"give its parameters ranges in which it is {_good(function)}"
    if function == "/" and found.low < 0:
        return message, "let a case before it exclude 0"
    rest = "0" if function == "/" else "what is not positive"
    return message, f"write `max({shown}, 1e-8)`, or let a case before it exclude {rest}"


def _good(function: str) -> str:
    return "never 0" if function == "/" else "positive"


def _tidy(found: Interval) -> Interval:
    """Without the rounding of what is 0 exactly."""

    def end(value: Real) -> Real:
        return 0.0 if -_TINY < value < _TINY else value

    return replace(found, low=end(found.low), high=end(found.high))
