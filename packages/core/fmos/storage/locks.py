"""Locks between processes: a file that one of them holds, and that says who that is.

They are `flock` locks: the system lets go of them when the process ends, however it ends, and not,
as with POSIX locks, whenever any descriptor of the file is closed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_TRIES = 1000
_LOOK_S = 0.001
_TEXT_BYTES = 200


@contextmanager
def tried(path: Path, who: str = "", *, remove: bool = False) -> Iterator[IO[str] | None]:
    """Hold a lock file, made if need be; yield None at once where another holds it.

    Args:
        path: The file.
        who: What is written into it, for `holder`; empty: it stays as it is.
        remove: Whether the file goes at the end.

    Raises:
        OSError: if the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
        if not take(descriptor) or not _is_still(descriptor, path):
            yield None
            return
        if who:
            write_holder(file, who)
        try:
            yield file
        finally:
            if remove:
                path.unlink(missing_ok=True)


def take(file: int | IO[str] | IO[bytes]) -> bool:
    """Take the lock of an open file unless another holds it; return whether it was taken.

    Who only asks (`holder`) shares the lock for a moment. A shared lock is not another's: it is
    tried again.
    """
    for _ in range(_TRIES):
        if _flock(file, fcntl.LOCK_EX):
            return True
        if not _flock(file, fcntl.LOCK_SH):
            return False
        fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(_LOOK_S)
    return False


def wait_for(file: int | IO[str] | IO[bytes]) -> None:
    """Take the lock of an open file as soon as nobody else holds it."""
    fcntl.flock(file, fcntl.LOCK_EX)


def write_holder(file: IO[str], who: str) -> None:
    """Say in a lock file that is held by whom that is."""
    file.seek(0)
    file.truncate()
    file.write(who)
    file.flush()


def holder(path: Path) -> str | None:
    """Return what the holder of a lock wrote into its file; None where nobody holds it.

    The file is not made for that, and neither is a process kept from taking the lock.
    """
    try:
        with open(path, "rb") as file:
            if _flock(file, fcntl.LOCK_SH):
                return None
            return file.read(_TEXT_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return None


def said_holder(path: Path) -> str:
    """Return ` (process N)` where the holder of a lock wrote its number there, else nothing."""
    number = holder(path) or ""
    return f" (process {number})" if number.isdecimal() else ""


def _flock(file: int | IO[str] | IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Return whether a path leads to an open file; who held it may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
