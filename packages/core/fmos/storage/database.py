"""Opens one SQLite file of the kernel, thread-safe, with migrations in one transaction each.

Every table is declared by the package that owns it (its schema.sql) and written by that package's
store only. The agentfs volume has an engine of its own and is not opened here.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import apsw

from agentfs.looking import look_at
from fmos.errors import FmosError, FormatError, HomeError, StorageError

_BUSY_S = 30.0
_PAGES_IN_WAL = 8192
_WAL_BYTES = 32 << 20
# What SQLite says instead of "full" where the limit is a user's and not the disk's.
_WRITE_REFUSED = {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_TRUNCATE}
_MEMORY = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_Bindings = Sequence[Any] | dict[str, Any]

# SQL has no statement that fails on a condition; the absolute value of the least integer does.
KEPT_IF = "SELECT CASE WHEN total_changes() <> ? THEN abs(-9223372036854775808) END"
_NOT_KEPT = "integer overflow"
_WHOLE = ("BEGIN IMMEDIATE", "COMMIT")
_NESTED = ("SAVEPOINT whole", "RELEASE whole")

_COMPONENTS = """
CREATE TABLE IF NOT EXISTS component(
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""


class Migration(Protocol):
    """A step that SQL alone cannot say; it runs in the transaction of the installation."""

    def __call__(self, database: Database, /) -> None:
        """Bring the component's tables to the next version."""
        ...


class _Thread(threading.local):
    """What one thread has; its connection is closed when the thread ends and this goes away."""

    connection: apsw.Connection | None = None

    def __init__(self) -> None:
        self.done: list[tuple[Callable[[], None], bool]] = []


class Database:
    """One SQLite file. A connection per live thread; writers queue on BEGIN IMMEDIATE.

    One that is `looking` works on a copy in memory: whatever is done, the file stays as it is, and
    it may be older, be missing, or lie where nobody may write.
    """

    def __init__(self, path: Path, *, looking: bool = False) -> None:
        self.path = path
        self._thread = _Thread()
        self._connections: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._copy = f"file:/{secrets.token_hex(16)}?vfs=memdb" if looking else ""
        self._kept = _copied(path, self._copy) if looking else None
        self._connection()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in list(self._connections):
                connection.close()
            self._connections.clear()
            self._thread = _Thread()
            if self._kept is not None:
                self._kept.close()

    def install(self, component: str, migrations: Sequence[str | Migration]) -> None:
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
                if isinstance(step, str):
                    self.execute(step)
                else:
                    step(self)
            if version < len(migrations):
                self.execute(
                    "INSERT OR REPLACE INTO component VALUES (?, ?)", (component, len(migrations))
                )

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block in one write transaction; nested blocks are savepoints.

        Raises:
            StorageError: if the disk is full or another process writes for 30 s; nothing is kept.
        """
        connection = self._connection()
        return (
            self._savepoint(connection)
            if connection.in_transaction
            else self._outermost(connection)
        )

    @contextmanager
    def _outermost(self, connection: apsw.Connection) -> Iterator[None]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            # SQLite has rolled back by itself where it could not write.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._finish(committed=False)
            if isinstance(error, apsw.Error):
                raise translate(error, self.path) from error
            raise
        if self._thread.done:
            self._finish(committed=True)

    @contextmanager
    def _savepoint(self, connection: apsw.Connection) -> Iterator[None]:
        connection.execute("SAVEPOINT inner")
        waiting = len(self._thread.done)
        try:
            yield
        except BaseException:
            # A full disk ends the whole transaction, and the savepoint with it.
            if connection.in_transaction:
                connection.execute("ROLLBACK TO inner")
                connection.execute("RELEASE inner")
                done = self._thread.done
                done[waiting:] = [each for each in done[waiting:] if each[1]]
            raise
        connection.execute("RELEASE inner")

    def after(self, action: Callable[[], None], *, always: bool = False) -> None:
        """Run something when this thread's transaction has been committed; at once without one.

        It is forgotten if the part of the transaction that it belongs to is rolled back. `always`
        runs it after a rollback, too.
        """
        if self._connection().in_transaction:
            self._thread.done.append((action, always))
        else:
            action()

    def execute(self, sql: str, bindings: _Bindings = ()) -> int:
        """Run one statement and return how many rows it changed."""
        connection = self._connection()
        try:
            connection.execute(sql, bindings)
        except apsw.Error as error:
            raise translate(error, self.path) from error
        return connection.changes()

    def execute_each(self, sql: str, bindings: Iterable[_Bindings]) -> int:
        """Run one statement for each set of bindings and return how many rows were changed."""
        connection = self._connection()
        before = connection.total_changes()
        try:
            connection.executemany(sql, bindings)
        except apsw.Error as error:
            raise translate(error, self.path) from error
        return connection.total_changes() - before

    def run_whole(self, sql: str, bindings: _Bindings, changes: int) -> bool:
        """Run a script in one transaction, kept only if it changes exactly so many rows.

        One that a constraint stops is not kept either.

        The script must end with `KEPT_IF`, whose placeholder is bound here. It runs without a
        line of Python while the file is locked, which is what other writers wait for. Inside a
        transaction it is a part of that.
        """
        connection = self._connection()
        nested = connection.in_transaction
        begin, end = _NESTED if nested else _WHOLE
        expected = connection.total_changes() + changes
        try:
            connection.execute(f"{begin};{sql};{end}", (*bindings, expected)).fetchall()
        except BaseException as error:
            if connection.in_transaction:  # SQLite has ended it by itself where it could not write
                connection.execute("ROLLBACK TO whole; RELEASE whole" if nested else "ROLLBACK")
            if isinstance(error, apsw.ConstraintError) or str(error) == _NOT_KEPT:
                return False
            if isinstance(error, apsw.Error):
                raise translate(error, self.path) from error
            raise
        return True

    def query(self, sql: str, bindings: _Bindings = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            return self._connection().execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise translate(error, self.path) from error

    def _finish(self, *, committed: bool) -> None:
        done, self._thread.done = self._thread.done, []
        for action, always in done:
            if committed or always:
                action()

    def _connection(self) -> apsw.Connection:
        connection = self._thread.connection
        if connection is None:
            connection = _beside(self._copy) if self._copy else _open(self.path)
            self._thread.connection = connection
            with self._lock:
                self._connections.add(connection)
        return connection


def translate(error: apsw.Error, path: Path) -> Exception:
    """Return the kernel's error for one of SQLite's; an error in a statement stays what it is."""
    name = repr(str(path))
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StorageError(
            f"another process has kept {name} locked for {_BUSY_S:.0f} s; nothing was written",
            hint="retry; if it lasts, look for a stopped fmos process",
        )
    if isinstance(error, apsw.FullError) or _refused(error):
        return StorageError(
            f"there is no space to write {name}: nothing was written",
            hint="free space on its disk (or raise the quota or file size limit), then retry",
        )
    return _unusable(error, path) or error


def _refused(error: apsw.Error) -> bool:
    return getattr(error, "extendedresult", 0) in _WRITE_REFUSED


def _unusable(error: apsw.Error, path: Path) -> FmosError | None:
    name = repr(str(path))
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
        return FormatError(
            f"{name} is not an FMOS database, or is damaged ({error})",
            hint="move it away or restore a copy, or set FMOS_HOME to another folder",
        )
    if isinstance(error, (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)):
        return HomeError(
            f"cannot open {name}: {error}",
            hint="check its permissions, or set FMOS_HOME to a folder that you may write to",
        )
    if isinstance(error, apsw.IOError):
        return StorageError(
            f"cannot read or write {name}: {error}",
            hint="check the disk and its mount, then retry",
        )
    return None


def _open(path: Path) -> apsw.Connection:
    connection: apsw.Connection | None = None
    _make_private(path)
    try:
        connection = apsw.Connection(str(path), statementcachesize=256)
        _wait_when_busy(connection)
        _write_small_pages(connection)
        _use_wal(connection)
        _write_back_seldom(connection)
        _survive_a_killed_process(connection)
        connection.execute(_COMPONENTS)
    except apsw.Error as error:
        if connection is not None:
            with suppress(apsw.Error):
                connection.close()
        if isinstance(error, apsw.IOError) and not _refused(error):
            raise HomeError(
                f"cannot open {str(path)!r}: {error}",
                hint="check its permissions, or set FMOS_HOME to a folder that you may write to",
            ) from error
        raise translate(error, path) from error
    return connection


def _copied(path: Path, name: str) -> apsw.Connection:
    """Copy a file into memory; the copy lasts as long as the connection that is returned.

    Raises:
        HomeError, FormatError: if the file is there and cannot be read.
    """
    copy = apsw.Connection(name, flags=_MEMORY)
    try:
        if path.exists():
            with closing(look_at(str(path))) as source:
                _wait_when_busy(source)
                # It says no even to what changes nothing here.
                source.execute("PRAGMA query_only = 0").fetchall()
                source.execute("VACUUM INTO ?", (name,)).fetchall()
    except apsw.Error as error:
        copy.close()
        raise translate(error, path) from error
    return copy


def _beside(name: str) -> apsw.Connection:
    """Return one more connection to a copy in memory."""
    connection = apsw.Connection(name, flags=_MEMORY, statementcachesize=256)
    _wait_when_busy(connection)
    connection.execute(_COMPONENTS)
    return connection


def _make_private(path: Path) -> None:
    """Make a new file its owner's alone; SQLite gives its log and index the same mode.

    One that is there is not opened: to close it again would drop the locks that this process's
    other connections hold on it (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(OSError):  # SQLite says better what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _wait_when_busy(connection: apsw.Connection) -> None:
    """Wait for another writer for a bounded time; measured with 16 processes on 2 cores.

    SQLite's own waiting asks less often the longer it waits, so that some of many writers starve
    (1.6 s at most in one run against 0.2 s with this, at the same rate); asking more often takes
    the processor from the one that holds the lock.
    """
    end = 0.0

    def ask_again(asked: int) -> bool:
        nonlocal end
        now = time.monotonic()
        if not asked:
            end = now + _BUSY_S
            time.sleep(0.0003)
        else:
            time.sleep(random.uniform(0.002, 0.008))
        return now < end

    connection.set_busy_handler(ask_again)


def _write_small_pages(connection: apsw.Connection) -> None:
    """Log a kilobyte for each small row that changes, not four; an older file keeps its pages."""
    connection.execute("PRAGMA page_size = 1024")


def _write_back_seldom(connection: apsw.Connection) -> None:
    """Copy the log into the file, which syncs both, every 8 to 32 MiB and not every 1,000 pages."""
    connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_IN_WAL}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")


def _survive_a_killed_process(connection: apsw.Connection) -> None:
    """Sync when the log is copied back: what was committed may be lost in a power cut, no more."""
    connection.execute("PRAGMA synchronous = NORMAL")


def _use_wal(connection: apsw.Connection) -> None:
    """Let readers go on beside a writer; the mode stays with the file.

    SQLite does not wait when two processes change the mode of a new file at once
    (https://sqlite.org/c3ref/busy_handler.html: it may return busy at once), so this does.
    """
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
