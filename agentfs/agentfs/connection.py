"""Opens a volume's file: one named function per setting, creation, and refusal of other files."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import apsw

from . import encryption
from .errors import (
    Corrupt,
    NewerFormat,
    NotAVolume,
    VolumeBusy,
    VolumeDenied,
    VolumeFull,
    VolumeNotFound,
)
from .looking import look_at
from .types import Durability

APPLICATION_ID = 0x41474653  # "AGFS"
FORMAT_VERSION = 2
DEFAULT_BRANCH = "main"
_HEADER = b"SQLite format 3\0"
# What SQLite says instead of "full" where the limit is a user's and not the disk's.
_WRITE_REFUSED = {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_TRUNCATE}
_SCHEMA = Path(__file__).with_name("schema.sql")
_MIGRATIONS = {1: Path(__file__).with_name("migrations") / "0002_overlays.sql"}
_ROOT_MODE = 0o755
_ASK_AGAIN_S = (0.0002, 0.001)

Bindings = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]
"""The columns of one row; the statement and the schema's STRICT tables fix their types."""


class Rows(Protocol):
    """What a statement gives: `apsw.Cursor`, with rows as this library reads them."""

    @property
    def get(self) -> Any:
        """Return the only value of the only row."""
        ...

    def fetchone(self) -> Row | None:
        """Return the next row, if there is one."""
        ...

    def fetchall(self) -> list[Row]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Row]: ...


class Execute(Protocol):
    """The signature of `apsw.Connection.execute`."""

    def __call__(self, statements: str, bindings: Bindings | None = None, /) -> Rows:
        """Run SQL up to its first row."""
        ...


def one(rows: Rows, subject: str) -> Row:
    """Return the row of a statement that always has one.

    Raises:
        Corrupt: it has none.
    """
    row = rows.fetchone()
    if row is None:
        raise Corrupt(subject, "its row is missing")
    return row


def connect(
    path: str, durability: Durability, create: bool, busy_s: float, key: bytes | None = None,
    *, read_only: bool = False,
) -> apsw.Connection:  # fmt: skip
    """Open a connection to a volume, making the volume when there is none and `create` is true.

    One that is `read_only` changes nothing, and needs no permission to write.

    Raises:
        VolumeNotFound, VolumeDenied, NotAVolume, NewerFormat, VolumeBusy, Corrupt, WrongKey.
    """
    _check_host_file(path, create, key, read_only)
    connection = _opened(path, read_only)
    try:
        wait_when_busy(connection, busy_s)
        if key is not None:
            encryption.unlock(connection, path, key)
        if not _is_volume(connection, path, read_only):
            if not create:
                raise NotAVolume(path, "it is empty")
            _create(connection, path, busy_s)
        if not read_only:
            use_wal(connection)
            limit_wal_file(connection)
            write_back_seldom(connection)
            set_durability(connection, durability)
        keep_pages(connection)
        trust_no_schema_functions(connection)
    except apsw.SQLError as error:
        connection.close()
        raise Corrupt(path, f"its tables are not those of SPEC.md ({error})") from error
    except apsw.Error as error:
        connection.close()
        raise translate(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(path: str, read_only: bool) -> apsw.Connection:
    try:
        return look_at(path) if read_only else apsw.Connection(path, statementcachesize=256)
    except apsw.CantOpenError as error:
        why = str(error) if read_only else "the file or its directory cannot be opened"
        raise VolumeDenied(path, why) from error


def translate(error: apsw.Error, path: str) -> Exception:
    """Return the error of this library for one of SQLite's."""
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return VolumeBusy(path, "another writer did not finish in time")
    if isinstance(error, apsw.FullError):
        return VolumeFull(path)
    if getattr(error, "extendedresult", 0) in _WRITE_REFUSED:
        return VolumeFull(path, "the system refused to let it grow (a file size limit, a quota)")
    if isinstance(error, apsw.NotADBError):
        return NotAVolume(path, "it is no SQLite file")
    if isinstance(error, (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError)):
        return VolumeDenied(path, str(error))
    if isinstance(error, (apsw.CorruptError, apsw.IOError)):
        return Corrupt(path, str(error))
    return error


def wait_when_busy(connection: apsw.Connection, busy_s: float) -> None:
    """Wait for another process's writer for a bounded time instead of failing at once.

    SQLite's own waiting asks less often the longer it waits, so that among many writers some
    starve: the longest wait of eight in one run was 1.9 s with it and 0.2 s with this.
    """
    end = 0.0

    def ask_again(asked: int) -> bool:
        nonlocal end
        now = time.monotonic()
        if not asked:
            end = now + busy_s
        time.sleep(random.uniform(*_ASK_AGAIN_S))
        return now < end

    connection.set_busy_handler(ask_again)


def use_pages_that_can_be_returned(connection: apsw.Connection) -> None:
    """Fix page size and incremental vacuum; both only count before the first table."""
    connection.execute("PRAGMA page_size = 4096")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def use_wal(connection: apsw.Connection) -> None:
    """Let readers go on while one writer commits."""
    connection.execute("PRAGMA journal_mode = WAL").get  # noqa: B018 - the property runs it


def limit_wal_file(connection: apsw.Connection) -> None:
    """Give back the disk of a write-ahead log that one large transaction made long."""
    connection.execute("PRAGMA journal_size_limit = 16777216")


def write_back_seldom(connection: apsw.Connection) -> None:
    """Copy the write-ahead log into the file every 32 MiB: hot pages once, and fewer syncs."""
    connection.execute("PRAGMA wal_autocheckpoint = 8192").get  # noqa: B018 - the property runs it


def keep_pages(connection: apsw.Connection) -> None:
    """Keep up to 16 MiB of pages, so that a large transaction or directory is not read again."""
    connection.execute("PRAGMA cache_size = -16384")


def set_durability(connection: apsw.Connection, durability: Durability) -> None:
    """Sync at each commit ("full"), or only at checkpoints ("normal")."""
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")


def trust_no_schema_functions(connection: apsw.Connection) -> None:
    """Do not let a crafted file run functions from its schema."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA foreign_keys = OFF")


def _check_host_file(path: str, create: bool, key: bytes | None, read_only: bool) -> None:
    if os.path.isdir(path):
        raise NotAVolume(path, "it is a directory")
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent):
        raise VolumeNotFound(path, f"the directory {parent!r} does not exist; make it first")
    if not os.path.exists(path):
        if not create:
            raise VolumeNotFound(path, "make it with `agentfs init`")
        _touch(path)
    try:
        head = _head(path)
    except (PermissionError, apsw.CantOpenError) as error:
        raise VolumeDenied(path, "it is not readable for this user") from error
    # A power cut in the creation leaves zero bytes here and a journal with which SQLite undoes it.
    half_made = not any(head) and os.path.exists(path + "-journal")
    encryption.check_file(path, head, key)
    known = head.startswith(_HEADER) or encryption.is_encrypted(head)
    if head and not known and not half_made:
        raise NotAVolume(path, "it is some other kind of file")
    if read_only:
        return
    if not os.access(path, os.W_OK) or not os.access(parent, os.W_OK):
        raise VolumeDenied(path, "the file and its directory must be writable")


def _head(path: str) -> bytes:
    """Return the first bytes of a file, through SQLite.

    A process that opens and closes the file by itself loses the locks of all its connections to it
    (https://sqlite.org/howtocorrupt.html, 2.2); SQLite keeps such a file open until they are gone.
    """
    length = min(encryption.HEADER_BYTES, os.path.getsize(path))
    if not length:
        return b""
    flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY
    file = apsw.VFSFile("", os.path.abspath(path), [flags, 0])
    try:
        return file.xRead(length, 0)
    finally:
        file.xClose()


def _touch(path: str) -> None:
    """Make the file readable for its owner only: it will hold what an agent remembers."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass  # another process was first
    except PermissionError as error:
        raise VolumeDenied(path, "its directory is not writable") from error
    except OSError as error:
        raise VolumeNotFound(path, error.strerror or str(error)) from error


def _is_volume(connection: apsw.Connection, path: str, read_only: bool = False) -> bool:
    """Say whether the file has the format, and refuse one with any other content."""
    # All rows are fetched: beside a read that is still open no transaction could begin.
    found: list[Row] = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id),"
        " (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
    ).fetchall()
    application, version, tables = found[0]
    if application == APPLICATION_ID:
        if version > FORMAT_VERSION:
            raise NewerFormat(path, f"version {version}, this release reads {FORMAT_VERSION}")
        if version in _MIGRATIONS and read_only:
            raise VolumeDenied(path, f"it is of format {version}, and only writing upgrades it")
        if version in _MIGRATIONS and not connection.in_transaction:
            _migrate(connection)
        return True
    if application or version or tables:
        raise NotAVolume(path, "it is an SQLite file of something else")
    return False


def _migrate(connection: apsw.Connection) -> None:
    """Bring an older format to this release's, one version after the other, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        while (version := connection.execute("PRAGMA user_version").get) in _MIGRATIONS:
            connection.execute(_MIGRATIONS[version].read_text(encoding="utf-8"))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _create(connection: apsw.Connection, path: str, busy_s: float) -> None:
    """Write the schema; of several processes that try at once, one does it."""
    use_pages_that_can_be_returned(connection)
    deadline = time.monotonic() + busy_s
    while True:
        try:
            use_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            break
        except (apsw.BusyError, apsw.LockedError):
            # Switching to WAL does not call the busy handler.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    try:
        if not _is_volume(connection, path):
            _write_first_rows(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def define_tables(connection: apsw.Connection) -> None:
    """Make the tables of the format."""
    connection.execute(_SCHEMA.read_text(encoding="utf-8"))


def _write_first_rows(connection: apsw.Connection) -> None:
    define_tables(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    now = time.time_ns()
    settings: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "volume_id": os.urandom(16).hex(),
        "name_hash_key": os.urandom(16),
        "default_branch": DEFAULT_BRANCH,
        "next_node": 2,
        "next_chunk": 1,
        "next_generation": 2,
    }
    connection.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", list(settings.items()))
    connection.execute(
        "INSERT INTO node(id, kind, generation, mode, size, mtime_ns, ctime_ns)"
        " VALUES (1, 2, 1, ?, 0, ?, ?)",
        (_ROOT_MODE, now, now),
    )
    connection.execute(
        "INSERT INTO branch(name, root, generation, created_ns, principal) VALUES (?, 1, 1, ?, '')",
        (DEFAULT_BRANCH, now),
    )
