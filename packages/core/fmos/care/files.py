"""What lies in a home: which files are databases, which are plain, and which are not kept.

Databases are known by their names and never opened as plain files here: closing such a file drops
the locks that SQLite holds on it for the whole process
(https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from fmos.errors import StorageError

DATABASES = (".db", ".afs", ".sqlite", ".sqlite3")
KERNEL_DB = "kernel.db"
TENANTS = "tenants"
KEYS = "keys"
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

# What belongs to running processes, or is a draft of one that was killed.
_NOT_KEPT_FOLDERS = ("run",)
_NOT_KEPT = ("-wal", "-shm", "-journal", ".lock", ".partial", ".sock", ".tmp")
_DRAFT = re.compile(r"\..+\.(?:new|[0-9a-f]{8}|[0-9a-f]{16})")


def databases(home: Path) -> list[str]:
    """Return the relative paths of a home's databases, kernel.db first."""
    found = [name for name in names(home) if is_database(name)]
    return sorted(found, key=lambda name: (name != KERNEL_DB, name))


def plain_files(home: Path, *, keys: bool = True) -> list[str]:
    """Return the relative paths of all other files that belong to the state of a home."""
    found = (name for name in names(home) if not is_database(name))
    return sorted(name for name in found if keys or not name.startswith(f"{KEYS}/"))


def is_database(name: str) -> bool:
    """Return whether a relative path is that of a database."""
    return name.endswith(DATABASES)


def is_volume(name: str) -> bool:
    """Return whether a relative path is that of a tenant's volume."""
    return name.startswith(f"{TENANTS}/") and name.endswith(".afs") and name.count("/") == 1


def names(home: Path) -> Iterator[str]:
    """Yield the relative paths of all regular files that are kept, also behind links.

    Raises:
        StorageError: if a folder cannot be read.
    """
    yield from _below(home, "", [_identity(home)])


def _below(folder: Path, prefix: str, above: list[tuple[int, int]]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise StorageError(
            f"cannot read the folder {str(folder)!r}: {error.strerror}",
            hint="check its permissions",
        ) from error
    for entry in entries:
        name = prefix + entry.name
        try:
            mode = entry.stat().st_mode
            own = _identity(entry.path)
        except OSError:  # it went away meanwhile, or is a link that leads nowhere
            continue
        if stat.S_ISDIR(mode):
            if name not in _NOT_KEPT_FOLDERS and own not in above:
                yield from _below(folder / entry.name, name + "/", [*above, own])
        elif stat.S_ISREG(mode) and _is_kept(entry.name):
            yield name


def _is_kept(name: str) -> bool:
    return not name.endswith(_NOT_KEPT) and _DRAFT.fullmatch(name) is None


def _identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    it = os.stat(path)
    return it.st_dev, it.st_ino
