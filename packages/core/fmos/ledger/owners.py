"""Which process holds a reservation, and whether it still lives.

A process is its id, the time it started and the boot of its machine, as Linux tells them in /proc.
Where they cannot be read, a reservation has no owner and ends with its time alone.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fmos.clock import boot_id


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


def owner_text(owner: Owner | None) -> str | None:
    """Return a process as one line of text."""
    return None if owner is None else json.dumps(owner, separators=(",", ":"))


@lru_cache(maxsize=256)
def owner_of(text: str) -> Owner | None:
    """Return the process that a text names, or None if it names none."""
    try:
        boot, space, pid, started = json.loads(text)
        return Owner(str(boot), str(space), int(pid), int(started))
    except (ValueError, TypeError):
        return None


@lru_cache(maxsize=4)  # by process id, because a forked child is another owner
def _process(pid: int) -> Owner | None:
    started = _started(pid)
    boot = boot_id()
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return Owner(boot, space, pid, started) if boot and started is not None else None


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    # A killed process that nobody has waited for does nothing any more.
    return None if fields[0] in "ZX" else int(fields[19])
