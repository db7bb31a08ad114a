"""Time as an object that is passed in, so that tests and replays decide what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol


class Uptime(NamedTuple):
    """Nanoseconds since a boot; `boot` is empty where the system does not name its boots.

    Nobody sets it back, and it goes on while the machine sleeps. Those of two boots do not compare.
    """

    boot: str
    ns: int


class Clock(Protocol):
    """Where the kernel reads the time."""

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        ...

    def uptime(self) -> Uptime:
        """Return how long the machine has been up."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return time.time_ns()

    def uptime(self) -> Uptime:
        """Return how long the machine has been up."""
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return Uptime(boot_id(), time.clock_gettime_ns(clock))


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ns: int = 1_750_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._up_ns = 0

    def now_ns(self) -> int:
        """Return the time set last."""
        return self._now_ns

    def uptime(self) -> Uptime:
        """Return how far the clock was moved forward."""
        return Uptime("fixed", self._up_ns)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ns += int(seconds * 1_000_000_000)
        self._up_ns += int(seconds * 1_000_000_000)

    def set_back(self, seconds: float) -> None:
        """Set the time of day back, as a person could; no time passes."""
        self._now_ns -= int(seconds * 1_000_000_000)


def utc_text(time_ns: int, to: str = "seconds", *, between: str = " ") -> str:
    """Return nanoseconds since the Unix epoch as a person reads them, in UTC, which it leaves out.

    `to` says how exactly, in the words of `datetime.isoformat`; what is smaller is cut off.
    `between` stands between day and time.
    """
    seconds, rest = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000, tzinfo=None)
    return moment.isoformat(between, to)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return what Linux calls the boot of this machine; empty elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
