"""A lock that the kernel takes back when its holder ends, however that happens."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

# A lock of an open file, not of a process: two runners in one process keep apart too.
_OF_OPEN_FILE: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK = struct.Struct("hhqqi4x")
_HELD_ELSEWHERE = (errno.EACCES, errno.EAGAIN)


@contextmanager
def held(volume: str, number: int) -> Iterator[bool]:
    """Try to hold a numbered lock of a volume, and say whether it is held.

    Where the system has no locks on parts of open files, all numbers are one lock.
    """
    file = os.open(f"{volume}-triggers", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try(file, number)
    finally:
        os.close(file)


def _try(file: int, number: int) -> bool:
    try:
        if _OF_OPEN_FILE is None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
            fcntl.fcntl(file, _OF_OPEN_FILE, wanted)
    except OSError as error:
        if error.errno in _HELD_ELSEWHERE:
            return False
        raise
    return True
