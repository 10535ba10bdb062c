"""Terminal colours, and when to use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

_CODES = {
    "error": "1;31",
    "warning": "1;33",
    "message": "1",
    "frame": "34",
    "label": "36",
    "note": "1",
    "help": "1;36",
}


def wanted(stream: TextIO | None, environment: Mapping[str, str], choice: str = "auto") -> bool:
    """Whether to colour what goes to `stream`.

    Args:
        choice: `always`, `never`, or `auto`: on a terminal, unless NO_COLOR is set (no-color.org);
            FORCE_COLOR, for CI logs that show colours, does without the terminal.
    """
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream is not None and stream.isatty() and environment.get("TERM") != "dumb"


def paint(text: str, style: str, colour: bool) -> str:
    """The text in a style, one of those above; as it is if there is no colour."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour and text.strip() else text
