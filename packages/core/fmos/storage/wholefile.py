"""Writes a file whole or not at all: beside its place, synced, and only then given its name.

Nobody ever sees half of it, and a power cut leaves the old file or the new one. Backups leave out
what a killed process may leave: its name is `.<name>.<16 hex digits>` (`fmos.care.files`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PRIVATE = 0o600
_SHARED = 0o666  # as far as the umask lets it be


@contextmanager
def draft(path: Path, *, private: bool = False, replace: bool = True) -> Iterator[Path]:
    """Yield an empty file beside `path` that takes its name at the end; an exception removes it.

    Args:
        path: What is written.
        private: Let its owner alone read it (mode 0600); else the umask says who may.
        replace: Take the place of a file that is there; False: refuse to.

    Raises:
        FileExistsError: if something is at `path`, and `replace` is False.
        OSError: if it cannot be written; what was at `path` is as it was.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(_made(beside, private))
    try:
        yield beside
        _sync_file(beside)
        if replace:
            os.replace(beside, path)
        else:
            os.link(beside, path)  # unlike a rename, this replaces nothing
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole(path: Path, *, private: bool = False, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open `path` to be written by the rules of `draft`, which also says what is raised."""
    with draft(path, private=private, replace=replace) as beside, open(beside, "w+b") as file:
        yield file


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text in UTF-8, or replace the one that is there.

    Raises:
        OSError: if it cannot be written; what was at `path` is as it was.
    """
    with whole(path, private=private) as file:
        file.write(text.encode())


@contextmanager
def new_private(path: Path) -> Iterator[IO[bytes]]:
    """Make a file in place that its owner alone can read; for folders nobody else looks into.

    Raises:
        FileExistsError: if something is there.
    """
    with os.fdopen(_made(path, private=True), "w+b") as file:
        yield file


def sync(file: IO[bytes]) -> None:
    """Make a file's content survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    _sync_file(folder, os.O_DIRECTORY)


def sync_tree(root: Path) -> None:
    """Make all files and names below a folder survive a power cut; no database may be open."""
    for folder, _, files in os.walk(root):
        for name in files:
            _sync_file(Path(folder, name))
        sync_folder(Path(folder))


def _made(path: Path, private: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(path, flags, _PRIVATE if private else _SHARED)


def _sync_file(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
