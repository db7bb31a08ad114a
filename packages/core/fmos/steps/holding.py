"""Who runs a step now: one thread of this process at a time, and whether another process lives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fmos.errors import StorageError
from fmos.ledger.owners import is_dead, this_process
from fmos.steps.store import Row

#: Where /proc does not tell of processes, one that has said nothing for this long has ended.
LEASE_S = 900

_HELD: set[tuple[int, str, str, str, str]] = set()
_CHANGED = threading.Condition()


@contextmanager
def alone(database: str, place: tuple[str, str, str], deadline: float) -> Iterator[None]:
    """Keep other threads of this process from a step; `deadline` is of `time.monotonic`.

    Raises:
        StorageError: if another thread has not finished the step by then.
    """
    mine = (os.getpid(), database, *place)
    with _CHANGED:
        if not _CHANGED.wait_for(lambda: mine not in _HELD, deadline - time.monotonic()):
            raise still_running(place)
        _HELD.add(mine)
    try:
        yield
    finally:
        with _CHANGED:
            _HELD.discard(mine)
            _CHANGED.notify_all()


def is_abandoned(row: Row, now_ns: int) -> bool:
    """Return whether nobody runs a running step any more; call it under `alone`."""
    owner = row.process
    if owner is None:
        return now_ns - row.since_ns > LEASE_S * 1_000_000_000
    return owner == this_process() or is_dead(owner)


def still_running(place: tuple[str, str, str]) -> StorageError:
    """Return the error of waiting too long for another that runs the same step."""
    return StorageError(
        f"the step {place[2]!r} of {place[1]!r} is still being run by another process or thread",
        hint="wait until it has finished, and ask again for its outcome",
    )
