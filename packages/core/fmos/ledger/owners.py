"""Which process holds a reservation, and whether it still lives.

A process is its id, the time it started and the boot of its machine, as Linux tells them in /proc.
Where they cannot be read, a reservation has no owner and ends with its time alone.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class Owner(NamedTuple):
    """One process; `space` names its process ids' namespace, as a container has its own."""

    boot: str
    space: str
    pid: int
    started: int


def this_process() -> Owner | None:
    """Return the running process, or None where /proc does not say enough."""
    return _process(os.getpid())


def is_dead(owner: Owner) -> bool:
    """Return whether a process has certainly ended; False where this one cannot know."""
    here = this_process()
    if here is None:
        return False
    if owner.boot != here.boot:
        return True
    return owner.space == here.space and _started(owner.pid) != owner.started


@lru_cache(maxsize=4)  # by process id, because a forked child is another owner
def _process(pid: int) -> Owner | None:
    started = _started(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return None if started is None else Owner(boot, space, pid, started)


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    # A killed process that nobody has waited for does nothing any more.
    return None if fields[0] in "ZX" else int(fields[19])
