"""Reads an AgentFS 0.4 volume that may be in use and that nobody vouches for.

The file is never locked, changed or given company. Where its newest part is still in a log beside
it, both are copied first. That it stays as it is while it is read is checked, not assumed.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import apsw

from agentfs.errors import ForeignVolume, HostError

from . import schema

BLOCK_BYTES = 4 * 1024 * 1024
#: A value, a tool's result or a link's target above this is left out by name.
MAX_TEXT_BYTES = 64 * 1024 * 1024
_LOGS = ("-wal", "-journal")
_HEADER = b"SQLite format 3\0"
_COPIES = 5
_ENTRIES = (
    "SELECT CAST(d.name AS BLOB), d.ino, i.mode, i.size, i.mtime, i.mtime_nsec, i.uid, i.gid,"
    " i.rdev FROM fs_dentry d LEFT JOIN fs_inode i ON i.ino = d.ino WHERE d.parent_ino = ?"
    " ORDER BY d.name"
)
_ROOT = "SELECT x'', ino, mode, size, mtime, mtime_nsec, uid, gid, rdev FROM fs_inode WHERE ino = 1"
_CHILD = "SELECT ino FROM fs_dentry WHERE parent_ino = ? AND name = CAST(? AS TEXT)"
_LINKED = "SELECT ino FROM fs_dentry GROUP BY ino HAVING count(*) > 1"
_SHAPE = (
    "SELECT count(*), min(chunk_index), max(chunk_index), sum(length(data)), max(length(data)),"
    " sum(typeof(data) <> 'blob' OR typeof(chunk_index) <> 'integer') FROM fs_data WHERE ino = ?"
)
_CHUNKS = "SELECT chunk_index, data FROM fs_data WHERE ino = ? ORDER BY chunk_index"
_TARGET = (
    "SELECT CAST(target AS BLOB) FROM fs_symlink WHERE ino = ? AND length(CAST(target AS BLOB)) < ?"
)
_KEYS = (
    "SELECT CAST(key AS BLOB), CASE WHEN length(CAST(value AS BLOB)) <= ? THEN CAST(value AS BLOB)"
    " END FROM kv_store ORDER BY key"
)
_CALLS = (
    "SELECT id, CAST(name AS BLOB), CAST(parameters AS BLOB), CAST(result AS BLOB),"
    " CAST(error AS BLOB), CAST(status AS BLOB), started_at, completed_at FROM tool_calls"
    " ORDER BY id"
)
_NAMES = "SELECT count(*) FROM fs_dentry"
_NAMELESS = (
    "SELECT count(*) FROM fs_inode WHERE ino <> 1 AND ino NOT IN (SELECT ino FROM fs_dentry)"
)


class Entry(NamedTuple):
    """One name as it is stored; nothing but the name and `ino` is known to have its type."""

    name: bytes
    ino: Any
    mode: Any
    size: Any
    mtime: Any
    mtime_nsec: Any
    uid: Any
    gid: Any
    rdev: Any


class Shape(NamedTuple):
    """What the chunks of a file add up to."""

    chunks: int
    first: Any
    last: Any
    total: Any
    longest: Any
    wrong: Any


class Source:
    """An open AgentFS 0.4 volume."""

    def __init__(self, path: Path) -> None:
        """Check that a file is such a volume, and open it.

        Raises:
            HostError: it cannot be read.
            ForeignVolume: it is no AgentFS 0.4 volume, or does not hold still.
        """
        self.path = path
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._state = self._require_regular()
        try:
            self._connection = self._connect()
            self._harden()
            problem = schema.wrong(self.query)
            if problem is not None:
                raise ForeignVolume(str(path), problem)
            self.chunk_bytes = int(schema.setting(self.query, "chunk_size") or 0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        """Return the volume."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the file and remove the copy, if one was made."""
        connection: apsw.Connection | None = getattr(self, "_connection", None)
        if connection is not None:
            connection.close(True)
        if self._copy is not None:
            self._copy.cleanup()

    # -- opening ----------------------------------------------------------------------------

    def _require_regular(self) -> tuple[object, ...]:
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise HostError(str(self.path), "it is no regular file")
            with open(self.path, "rb") as file:
                header = file.read(len(_HEADER))
        except OSError as error:
            if isinstance(error, HostError):
                raise
            raise HostError(str(self.path), error.strerror or str(error)) from error
        if header != _HEADER:
            raise ForeignVolume(str(self.path), "it is no SQLite file, or it is encrypted")
        return self._fingerprint()

    def _fingerprint(self) -> tuple[object, ...]:
        """Return what changes whenever somebody writes to the volume."""
        found: list[object] = []
        for suffix in ("", *_LOGS):
            try:
                info = os.stat(f"{self.path}{suffix}")
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns))
        return tuple(found)

    def require_unchanged(self) -> None:
        """Refuse to go on with a file that somebody has written to since it was opened.

        Raises:
            ForeignVolume: it was changed.
        """
        if self._copy is None and self._fingerprint() != self._state:
            raise ForeignVolume(str(self.path), "it was written to while it was read")

    def _connect(self) -> apsw.Connection:
        path = os.fspath(self.path)
        if any(self._log_size(suffix) for suffix in _LOGS):
            path = self._copied()
            return apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        # Without a lock: one that another program holds on it would not let us read.
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        return apsw.Connection(f"file:{quote(os.fsencode(path))}?immutable=1", flags=flags)

    def _log_size(self, suffix: str) -> int:
        try:
            return os.stat(f"{self.path}{suffix}").st_size
        except FileNotFoundError:
            return 0

    def _copied(self) -> str:
        """Copy the file with its logs while nobody writes; return the path of the copy."""
        self._copy = tempfile.TemporaryDirectory(prefix="agentfs-spec04-")
        target = os.path.join(self._copy.name, "volume")
        for _ in range(_COPIES):
            before = self._fingerprint()
            try:
                for suffix in ("", *_LOGS):
                    with suppress(FileNotFoundError):
                        shutil.copyfile(f"{self.path}{suffix}", target + suffix)
            except OSError as error:
                raise HostError(str(self.path), f"no copy: {error.strerror or error}") from error
            if self._fingerprint() == before:
                return target
        reason = "another program keeps writing to it; try again when that has paused"
        raise ForeignVolume(str(self.path), reason)

    def _harden(self) -> None:
        """Let nothing in the file's schema run or be written."""
        for option, value in (
            (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
            (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
            (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
            (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
        ):
            self._connection.config(option, value)
        self._connection.limit(apsw.SQLITE_LIMIT_LENGTH, 2 * MAX_TEXT_BYTES)
        for setting in ("query_only", "cell_size_check"):
            for _ in self.query(f"PRAGMA {setting} = 1"):
                pass

    # -- reading ----------------------------------------------------------------------------

    def query(self, sql: str, bindings: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement; what SQLite says against the file is about this file.

        Raises:
            ForeignVolume: the file is damaged, or was changed.
        """
        try:
            yield from self._connection.cursor().execute(sql, bindings)
        except (apsw.Error, UnicodeDecodeError, MemoryError) as error:
            self.require_unchanged()
            raise ForeignVolume(str(self.path), f"it is damaged: {error}") from error

    def root(self) -> Entry:
        """Return the root directory, with no name."""
        return Entry(*next(self.query(_ROOT)))

    def entries(self, ino: int) -> Iterator[Entry]:
        """Yield the names in a directory, in order."""
        return (Entry(row[0] or b"", *row[1:]) for row in self.query(_ENTRIES, (ino,)))

    def child(self, ino: int, name: bytes) -> int | None:
        """Return what a name in a directory leads to."""
        row = next(self.query(_CHILD, (ino, name)), None)
        return None if row is None or not isinstance(row[0], int) else row[0]

    def linked(self) -> set[int]:
        """Return the inodes with more than one name."""
        return {row[0] for row in self.query(_LINKED)}

    def shape(self, ino: int) -> Shape:
        """Return what the chunks of a file add up to."""
        return Shape(*next(self.query(_SHAPE, (ino,))))

    def chunks(self, ino: int) -> Iterator[tuple[int, bytes]]:
        """Return the chunks of a file that are stored, with their numbers."""
        return ((number, data) for number, data in self.query(_CHUNKS, (ino,)))

    def target(self, ino: int, limit: int) -> bytes | None:
        """Return where a symbolic link points, if that is below a length."""
        row = next(self.query(_TARGET, (ino, limit)), None)
        return None if row is None else row[0]

    def pairs(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield keys and values; a value that is too long is None."""
        if schema.has(self.query, "kv_store"):
            for key, value in self.query(_KEYS, (MAX_TEXT_BYTES,)):
                yield key or b"", value

    def calls(self) -> Iterator[tuple[Any, ...]]:
        """Yield the tool calls in their order, text as bytes."""
        if schema.has(self.query, "tool_calls"):
            yield from self.query(_CALLS)

    def whiteouts(self) -> Iterator[bytes]:
        """Yield the paths that an overlay took away from its base."""
        if schema.has(self.query, "fs_whiteout"):
            for (path,) in self.query("SELECT CAST(path AS BLOB) FROM fs_whiteout ORDER BY path"):
                yield path or b""

    def counts(self) -> tuple[int, int]:
        """Return how many names there are, and how many inodes have none."""
        return next(self.query(_NAMES))[0], next(self.query(_NAMELESS))[0]
