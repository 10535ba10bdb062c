"""Standard output of commands whose reader may leave early, and progress on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO, TypeVar

T = TypeVar("T")

_MANY = 200


def reader_left() -> None:
    """The reader (head, say) has had enough; Python must not complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(text: str) -> None:
    """Prints a document. A reader that stops early does not change how the run ends."""
    try:
        print(text, flush=sys.stdout is not None)
    except BrokenPipeError:
        reader_left()


def with_progress(items: Sequence[T], what: str, stream: TextIO | None) -> Iterator[T]:
    """The items; where there are many, and `stream` is a terminal, a line there counts them."""
    if len(items) <= _MANY or stream is None or not stream.isatty():
        yield from items
        return
    last = 0.0
    try:
        for number, item in enumerate(items, 1):
            now = time.monotonic()
            if now - last > 0.1:
                last = now
                stream.write(f"\r{what} {number}/{len(items)}")
                stream.flush()
            yield item
    finally:
        stream.write("\r\x1b[K")
        stream.flush()
