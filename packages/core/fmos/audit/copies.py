"""Files that checkpoints are appended to: in the home, and outside of it.

A note ends with an empty line; one without it was cut short by a crash, and does not count.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fmos.audit.note import Note, parse, parse_all
from fmos.errors import FormatError, StorageError
from fmos.storage import locks

_TAIL = 16_384
_WHOLE = re.compile(b"(?:[^\n]+\n){3,}\n(?:\xe2\x80\x94 [^\n]+\n)+\n")


def read_log(path: Path) -> list[Note]:
    """Return the checkpoints in a file; one that a crash left half written does not count.

    Raises:
        StorageError: if the file cannot be read.
        FormatError: if it has a note that is no checkpoint.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read the checkpoints in {str(path)!r}: {error}") from error
    return [_note(match) for match in _WHOLE.finditer(data)]


def read_outside(path: Path) -> list[Note]:
    """Return the checkpoints in a file that a person gives; the last may lack its empty line.

    Raises:
        StorageError: if the file cannot be read.
        FormatError: if it has no checkpoint.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"cannot read {str(path)!r}: {error.strerror}") from error
    found = list(parse_all(text))
    if not found:
        raise FormatError(
            f"{str(path)!r} has no checkpoint", hint="make one with `fmos audit checkpoint --print`"
        )
    return found


def last_of(path: Path) -> Note | None:
    """Return the last whole checkpoint of a file, from its end."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(path, error) from error
    found = list(_WHOLE.finditer(data))
    return _note(found[-1]) if found else None


def _note(match: re.Match[bytes]) -> Note:
    return parse(match[0][:-1].decode("utf-8", "replace"))


def append(path: Path, texts: list[str]) -> None:
    """Append whole notes, synced; what a crash left half written goes first."""
    try:
        with _locked(path) as descriptor:
            _cut_half_note(descriptor)
            for text in texts:
                data = f"{text}\n".encode()
                if os.write(descriptor, data) != len(data):
                    _cut_half_note(descriptor)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        locks.wait_for(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _cut_half_note(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL)
    data = os.pread(descriptor, _TAIL, start)
    ends = [match.end() for match in _WHOLE.finditer(data)]
    end = start + ends[-1] if ends else start
    if end != size and (ends or not start):
        os.ftruncate(descriptor, end)


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"checkpoints cannot be written to {str(path)!r}: {error.strerror}",
        hint="make room or correct its permissions; the missing ones are written next time",
    )
