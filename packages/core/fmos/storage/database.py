"""Opens one SQLite file of the kernel, thread-safe, with migrations in one transaction each.

Every table is declared by the package that owns it (its schema.sql) and written by that package's
store only. The agentfs volume has an engine of its own and is not opened here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from fmos.errors import FormatError, HomeError

_BUSY_MS = 30_000
_Bindings = Sequence[Any] | dict[str, Any]

_COMPONENTS = """
CREATE TABLE IF NOT EXISTS component(
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""


class Database:
    """One SQLite file. A connection per thread; writers queue on BEGIN IMMEDIATE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._lock = threading.Lock()
        self._connection()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._local = threading.local()

    def install(self, component: str, migrations: Sequence[str]) -> None:
        """Bring a component's tables to the newest version, one transaction for all steps.

        Raises:
            FormatError: if the file was written by a newer FMOS.
        """
        with self.transaction():
            row = self.query("SELECT version FROM component WHERE name = ?", (component,))
            version = row[0][0] if row else 0
            if version > len(migrations):
                raise FormatError(
                    f"{str(self.path)!r} has {component} tables of version {version}, newer than"
                    f" the {len(migrations)} this FMOS knows",
                    hint="upgrade fmos, or use another FMOS_HOME",
                )
            for step in migrations[version:]:
                self._connection().execute(step)
            self.execute(
                "INSERT OR REPLACE INTO component VALUES (?, ?)", (component, len(migrations))
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one write transaction; nested blocks are savepoints."""
        connection = self._connection()
        if connection.in_transaction:
            with connection:
                yield
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def execute(self, sql: str, bindings: _Bindings = ()) -> int:
        """Run one statement and return how many rows it changed."""
        connection = self._connection()
        connection.execute(sql, bindings)
        return connection.changes()

    def query(self, sql: str, bindings: _Bindings = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self._connection().execute(sql, bindings).fetchall()

    def _connection(self) -> apsw.Connection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _open(self.path)
            with self._lock:
                self._connections.append(connection)
        return connection


def _open(path: Path) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(_BUSY_MS)
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_COMPONENTS)
    except apsw.NotADBError as error:
        raise FormatError(
            f"{str(path)!r} is not an FMOS database",
            hint="move it away, or set FMOS_HOME to another folder",
        ) from error
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.IOError) as error:
        raise HomeError(
            f"cannot open {str(path)!r}: {error}",
            hint="check its permissions, or set FMOS_HOME to a folder that you may write to",
        ) from error
    return connection


def _use_wal(connection: apsw.Connection) -> None:
    """Let readers go on beside a writer; the mode stays with the file.

    SQLite does not wait when two processes change the mode of a new file at once
    (https://sqlite.org/c3ref/busy_handler.html: it may return busy at once), so this does.
    """
    deadline = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
