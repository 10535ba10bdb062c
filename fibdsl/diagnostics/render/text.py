"""Text of a spec as a terminal or a log can show it without being misled."""

from __future__ import annotations

import unicodedata

TAB = "    "

# An escape sequence, a carriage return or a change of writing direction in a spec would let it
# rewrite the line that reports it: control characters become their pictures, the rest U+FFFD. So do
# characters that take no room, where one that cannot be seen may be what is wrong.
_PICTURES: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "\u2421",
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd"),
    **dict.fromkeys((0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF), "\ufffd"),
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029), "\ufffd"),
}


def safe(text: str) -> str:
    """The text on one line, with every character that acts instead of showing replaced."""
    return text.translate(_PICTURES)


def shown(line: str) -> tuple[str, list[int]]:
    """A line as it is printed, and the printed column, from 0, of each of its characters and of
    its end. Tabs become four spaces, so that a mark below stands right whatever the terminal does.
    """
    if line.isascii() and "\t" not in line:
        return safe(line), list(range(len(line) + 1))
    columns = [0]
    for char in line:
        columns.append(columns[-1] + _width(char))
    return "".join(TAB if char == "\t" else safe(char) for char in line), columns


def _width(char: str) -> int:
    if char == "\t":
        return len(TAB)
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
