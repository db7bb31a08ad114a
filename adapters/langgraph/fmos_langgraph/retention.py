"""What a saver lets go of by itself: old checkpoints of a thread, and threads that nobody used."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

_PUTS_BETWEEN = 50
_SECONDS_BETWEEN = 600.0


class Sweepable(Protocol):
    """The saver that is swept."""

    def keep_last(self, thread_id: str, count: int) -> int:
        """Keep the newest checkpoints of a thread."""
        ...

    def expire(self, age: timedelta) -> Sequence[str]:
        """Remove the threads that are older than an age."""
        ...


@dataclass(slots=True)
class Retention:
    """How many checkpoints of each namespace of a thread stay, and how long an unused thread.

    A thread is looked at after every 50 checkpoints, so that up to 50 more than `keep_last` are
    there; all threads every ten minutes, by whoever puts a checkpoint then.
    """

    keep_last: int | None = None
    ttl: timedelta | None = None
    _puts: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _swept: float = field(default_factory=time.monotonic, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse limits that would keep nothing."""
        if self.keep_last is not None and self.keep_last < 1:
            raise ValueError(f"keep_last is at least 1, not {self.keep_last}")
        if self.ttl is not None and self.ttl <= timedelta(0):
            raise ValueError(f"ttl is a time above zero, not {self.ttl}")

    def after_put(self, saver: Sweepable, thread: str) -> None:
        """Let go of what is due after a checkpoint of a thread was stored."""
        now = time.monotonic()
        with self._lock:
            self._puts[thread] += 1
            thread_is_due = self._puts[thread] >= _PUTS_BETWEEN
            if thread_is_due:
                del self._puts[thread]
            all_are_due = now - self._swept >= _SECONDS_BETWEEN
            if all_are_due:
                self._swept = now
        if thread_is_due and self.keep_last is not None:
            saver.keep_last(thread, self.keep_last)
        if all_are_due and self.ttl is not None:
            saver.expire(self.ttl)
