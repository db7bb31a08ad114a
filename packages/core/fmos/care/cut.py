"""One instant of a home that is in use: a read transaction on every database, begun together.

For a moment all writers wait: kernel.db is locked first, then every other database, and only then
do the reads begin. So no file is ahead of another, and a copy is what a power cut at that instant
would have left: reservations, intents and outcomes match as the reconciliation at start expects
them, and no spending is missing for an effect that the journal has.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import apsw

from agentfs.looking import look_at
from fmos.care import files
from fmos.errors import StorageError
from fmos.storage.database import translate

#: For so long a backup waits until all databases can be locked at once.
PATIENCE_S = 60.0
# Somebody who writes to two databases may hold one and wait for the other, which is locked here:
# then all is let go, and tried again.
_WAIT_S = 0.5
_PAGES = 1024


class Snapshot(NamedTuple):
    """A database as it was at the instant; `damage` says why it could not be opened, if so."""

    name: str
    path: Path
    connection: apsw.Connection | None
    damage: str = ""


@contextmanager
def one_instant(
    home: Path, meanwhile: Callable[[], None] | None = None, patience_s: float = PATIENCE_S
) -> Iterator[list[Snapshot]]:
    """Yield every database of a home as it is at one instant; `meanwhile` runs within it.

    Writers wait some milliseconds, and go on while the snapshots are read.

    Raises:
        StorageError: if somebody keeps a database locked for so long.
    """
    deadline = time.monotonic() + patience_s
    while True:
        with ExitStack() as kept:
            try:
                snapshots = _taken(home, kept, meanwhile)
            except apsw.BusyError as error:
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"the databases of {str(home)!r} were not free at once for"
                        f" {patience_s:.0f} s",
                        hint="look for a stopped fmos process (`fmos doctor` names who has them)",
                    ) from error
            else:
                yield snapshots
                return
        time.sleep(random.uniform(0.01, 0.1))


def _taken(home: Path, kept: ExitStack, meanwhile: Callable[[], None] | None) -> list[Snapshot]:
    found: list[Snapshot] = []
    with ExitStack() as locks:
        # Listed under the lock of kernel.db: a tenant that is made later is in no file.
        waiting = [files.KERNEL_DB] if (home / files.KERNEL_DB).exists() else []
        seen: set[str] = set()
        while waiting:
            name = waiting.pop(0)
            seen.add(name)
            found.append(_opened(home, name, kept, locks))
            if not waiting:
                waiting = [each for each in files.databases(home) if each not in seen]
        if not seen:
            found += [_opened(home, each, kept, locks) for each in files.databases(home)]
        if meanwhile is not None:
            meanwhile()
    return found


def _opened(home: Path, name: str, kept: ExitStack, locks: ExitStack) -> Snapshot:
    path = home / name
    try:
        writer = _connect(path, locks)
        writer.execute("BEGIN IMMEDIATE")
        reader = _connect(path, kept)
        reader.execute("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except (apsw.NotADBError, apsw.CorruptError) as error:
        return Snapshot(name, path, None, str(error))
    except apsw.BusyError:
        raise
    except apsw.Error as error:
        raise translate(error, path) from error
    return Snapshot(name, path, reader)


def _connect(path: Path, stack: ExitStack) -> apsw.Connection:
    # A home that nobody here may write to is backed up as it lies there.
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    flags = apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(str(path), flags=flags) if writable else look_at(str(path))
    stack.callback(_close, connection)
    connection.set_busy_timeout(int(_WAIT_S * 1000))
    return connection


def _close(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    with suppress(apsw.Error):
        connection.close()


def copy(snapshot: Snapshot, target: Path, progress: Callable[[int], None]) -> None:
    """Write a database as it was at the instant to a new file.

    Raises:
        StorageError: if the target's disk is full or fails.
    """
    assert snapshot.connection is not None
    target.touch(files.PRIVATE_FILE, exist_ok=False)  # nobody else's file or link
    out = apsw.Connection(str(target))
    try:
        # Nobody else sees this file before it is whole, so it needs no journal of its own.
        out.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").fetchall()
        with out.backup("main", snapshot.connection, "main") as work:
            while not work.done:
                work.step(_PAGES)
                progress(work.page_count - work.remaining)
    except apsw.Error as error:
        raise translate(error, target) from error
    finally:
        with suppress(apsw.Error):
            out.close()
