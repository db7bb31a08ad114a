"""Time as an object that is passed in, so that tests and replays decide what time it is."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the kernel reads the time."""

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns()


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ns: int = 1_750_000_000_000_000_000) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the time set last."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        self._now_ns += int(seconds * 1_000_000_000)
