"""Who has a home open: the daemon's lock, and on Linux every process with a file of it open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fmos.config import Home
from fmos.errors import HomeError
from fmos.storage import locks

_SHOWN = 3


class User(NamedTuple):
    """A process that has a file of the home open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


def users_of(home: Path) -> list[User]:
    """Return the processes of this user that have files of a home open; none where /proc is not."""
    prefix = f"{os.path.realpath(home)}{os.sep}"
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return [User(pid, _name(pid)) for pid in sorted(pids) if _has_open(pid, prefix)]


def _has_open(pid: int, prefix: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            try:
                if os.readlink(f"{folder}/{name}").startswith(prefix):
                    return True
            except OSError:
                continue
    except OSError:  # it ended, or is another user's
        pass
    return False


def _name(pid: int) -> str:
    try:
        parts = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    text = b" ".join(part for part in parts[:3] if part).decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:80] or "?"


@contextmanager
def sole_use(home: Path, what: str) -> Iterator[None]:
    """Hold the daemon's lock of a home, so that none starts meanwhile; nobody else may use it.

    Raises:
        HomeError: naming who has it open.
    """
    lock_file = Home(home).socket.with_suffix(".lock")
    if not lock_file.parent.is_dir():  # no daemon ever served it
        _refuse_users(home, what, None)
        yield
        return
    with locks.tried(lock_file) as lock:
        if lock is None:
            raise HomeError(
                f"a daemon serves {str(home)!r}{locks.said_holder(lock_file)}, so it is not {what}",
                hint="stop it first",
            )
        _refuse_users(home, what, lock.fileno())
        yield


def _refuse_users(home: Path, what: str, lock: int | None) -> None:
    others = [user for user in users_of(home) if not _is_own_lock(user, lock, home)]
    if others:
        raise HomeError(
            f"{str(home)!r} is in use by {_listed(others)}, so it is not {what}",
            hint="stop what uses it first",
        )


def _is_own_lock(user: User, descriptor: int | None, home: Path) -> bool:
    """Return whether a user is this process, with nothing of the home open but its lock."""
    if user.pid != os.getpid() or descriptor is None:
        return False
    prefix = f"{os.path.realpath(home)}{os.sep}"
    own = f"/proc/self/fd/{descriptor}"
    lock = os.readlink(own)
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(prefix) and path != lock:
            return False
    return True


def _listed(users: list[User]) -> str:
    more = f" and {len(users) - _SHOWN} more" if len(users) > _SHOWN else ""
    return ", ".join(map(str, users[:_SHOWN])) + more
