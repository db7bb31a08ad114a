"""Opens an SQLite file to look at it: nothing in it changes, also where nothing may be written.

Beside a file in WAL mode SQLite wants to make a log and an index of it. Where it may not, the file
is read as one that nobody writes; a log that somebody left there without its index cannot be read.
"""

from __future__ import annotations

import os
from urllib.parse import quote

import apsw


def look_at(path: str) -> apsw.Connection:
    """Return a connection that cannot write; `VACUUM INTO` may name its file as a URI.

    Raises:
        apsw.CantOpenError: the file is not readable, or its last changes are not without writing.
    """
    folder = os.path.dirname(path) or "."
    if os.access(path, os.W_OK) and os.access(folder, os.W_OK):
        # One that may write takes its log away when it is the last one to close.
        connection = _connection(path, "mode=rw", apsw.SQLITE_OPEN_READWRITE)
        connection.execute("PRAGMA query_only = 1").fetchall()
        return connection
    if not _waits(path + "-wal") and not _waits(path + "-journal"):
        # Nobody writes it: SQLite then makes no files beside it and takes no locks.
        return _connection(path, "immutable=1", apsw.SQLITE_OPEN_READONLY)
    if not os.path.exists(path + "-shm"):
        raise apsw.CantOpenError(
            f"its last changes wait in {path}-wal (or -journal), which cannot be read without"
            " permission to write there: look at a copy of the whole folder"
        )
    return _connection(path, "mode=ro", apsw.SQLITE_OPEN_READONLY)


def _waits(path: str) -> bool:
    return os.path.exists(path) and os.path.getsize(path) > 0


def _connection(path: str, how: str, flags: int) -> apsw.Connection:
    name = f"file:{quote(os.path.abspath(os.fsencode(path)))}?{how}"
    return apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_URI, statementcachesize=256)
