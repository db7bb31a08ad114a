"""The tables of an AgentFS 0.4 volume: how they are made, and the check that a file has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

VERSION = "0.4"
CHUNK_BYTES = 4096
ROOT = 1
MAX_CHUNK_BYTES = 16 * 1024 * 1024

# As agentfs-sdk 0.6.4 makes them; an index of its own on (parent_ino, name) would be a second one.
DDL = """
CREATE TABLE fs_config (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE fs_inode (
    ino INTEGER PRIMARY KEY AUTOINCREMENT,
    mode INTEGER NOT NULL,
    nlink INTEGER NOT NULL DEFAULT 0,
    uid INTEGER NOT NULL DEFAULT 0,
    gid INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    atime INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    rdev INTEGER NOT NULL DEFAULT 0,
    atime_nsec INTEGER NOT NULL DEFAULT 0,
    mtime_nsec INTEGER NOT NULL DEFAULT 0,
    ctime_nsec INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE fs_dentry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    parent_ino INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    UNIQUE(parent_ino, name)
);
CREATE INDEX idx_fs_dentry_parent ON fs_dentry(parent_ino, name);
CREATE TABLE fs_data (
    ino INTEGER NOT NULL,
    chunk_index INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (ino, chunk_index)
);
CREATE TABLE fs_symlink (ino INTEGER PRIMARY KEY, target TEXT NOT NULL);
CREATE TABLE kv_store (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at INTEGER DEFAULT (unixepoch()),
    updated_at INTEGER DEFAULT (unixepoch())
);
CREATE INDEX idx_kv_store_created_at ON kv_store(created_at);
CREATE TABLE tool_calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    parameters TEXT,
    result TEXT,
    error TEXT,
    status TEXT NOT NULL DEFAULT 'pending',
    started_at INTEGER NOT NULL,
    completed_at INTEGER,
    duration_ms INTEGER
);
CREATE INDEX idx_tool_calls_name ON tool_calls(name);
CREATE INDEX idx_tool_calls_started_at ON tool_calls(started_at);
"""
# The specification and the Go package have `parent_path`, the Rust package inserts without it.
OVERLAY_DDL = """
CREATE TABLE fs_whiteout (
    path TEXT PRIMARY KEY,
    parent_path TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL
);
CREATE INDEX idx_fs_whiteout_parent ON fs_whiteout(parent_path);
CREATE TABLE fs_origin (delta_ino INTEGER PRIMARY KEY, base_ino INTEGER NOT NULL);
CREATE TABLE fs_overlay_config (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

_NEEDED = {
    "fs_config": {"key", "value"},
    "fs_inode": {
        "ino", "mode", "nlink", "uid", "gid", "size", "mtime", "mtime_nsec", "rdev",
    },
    "fs_dentry": {"name", "parent_ino", "ino"},
    "fs_data": {"ino", "chunk_index", "data"},
    "fs_symlink": {"ino", "target"},
}  # fmt: skip
_OPTIONAL = {
    "kv_store": {"key", "value"},
    "tool_calls": {
        "id", "name", "parameters", "result", "error", "status", "started_at", "completed_at",
    },
    "fs_whiteout": {"path"},
}  # fmt: skip
_TABLE = "SELECT type, rootpage FROM sqlite_schema WHERE name = ?"
_COLUMNS = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"

Query = Callable[[str, tuple[Any, ...]], Iterator[tuple[Any, ...]]]


def wrong(query: Query) -> str | None:
    """Return why a file is no AgentFS 0.4 volume, or None."""
    for table, columns in _NEEDED.items():
        missing = _missing(query, table, columns)
        if missing is not None:
            return missing
    for table, columns in _OPTIONAL.items():
        if has(query, table):
            missing = _missing(query, table, columns)
            if missing is not None:
                return missing
    return _wrong_settings(query)


def has(query: Query, name: str) -> bool:
    """Say whether there is a table or anything else with a name."""
    return next(query(_TABLE, (name,)), None) is not None


def _missing(query: Query, table: str, columns: set[str]) -> str | None:
    row = next(query(_TABLE, (table,)), None)
    if row is None:
        return f"it has no table {table!r}"
    if row[0] != "table" or not row[1]:
        return f"{table!r} is no ordinary table"
    left = columns - {name for (name,) in query(_COLUMNS, (table,))}
    if left:
        return f"its table {table!r} has no column {min(left)!r}, which version {VERSION} has"
    return None


def setting(query: Query, key: str) -> str | None:
    """Return a setting of the volume as text."""
    row = next(query("SELECT CAST(value AS TEXT) FROM fs_config WHERE key = ?", (key,)), None)
    return None if row is None else row[0]


def _wrong_settings(query: Query) -> str | None:
    encoding = next(query("PRAGMA encoding", ()))[0]
    if encoding != "UTF-8":
        return f"its text is {encoding}, not UTF-8"
    version = setting(query, "schema_version")
    if version not in (None, VERSION):
        return f"its schema version is {version!r}, and this reads {VERSION!r}"
    size = setting(query, "chunk_size")
    if size is None or not size.isdecimal() or not 0 < int(size[:20]) <= MAX_CHUNK_BYTES:
        return f"its setting chunk_size is {size!r}, not 1 to {MAX_CHUNK_BYTES}"
    root = next(query("SELECT mode FROM fs_inode WHERE ino = ?", (ROOT,)), None)
    if root is None or not isinstance(root[0], int) or root[0] & 0o170000 != 0o040000:
        return "its inode 1 is no directory"
    return None
