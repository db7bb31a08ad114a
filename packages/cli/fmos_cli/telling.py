"""Prints for a person at a terminal: text that cannot steer it, and how far a long command is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_EVERY_S = 1.0


def safe(text: str) -> str:
    """Escape what a terminal would obey: agents and applications chose some of these words."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def is_watched() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr.isatty()


def progress() -> Callable[[str, int], None]:
    """Return what prints a line a second about what is worked on, if somebody looks."""
    if not is_watched():
        return lambda _what, _done: None
    last = time.monotonic()

    def tell(what: str, done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY_S:
            last = now
            said = f" {done:,}" if done else ""
            print(safe(f"... {what}{said}"), file=sys.stderr)

    return tell
