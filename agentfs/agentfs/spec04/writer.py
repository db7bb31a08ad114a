"""Writes a branch as an AgentFS 0.4 volume: beside its place, then renamed, so never half a file.

At an overlay only what the branch changed is written, with whiteouts for what it removed, as the
overlay of an AgentFS volume has it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from agentfs import directories, links, posix
from agentfs.errors import AgentFSError, AlreadyExists, HostError
from agentfs.paths import is_inside, split
from agentfs.types import DirEntry, Overlay, Stat

from . import schema
from .calls import ORIGIN, origin
from .outcome import Spec04Totals

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS
    from agentfs.toolcalls import ToolCall

Progress = Callable[[Spec04Totals], None]
_PIECE_BYTES = 1024 * schema.CHUNK_BYTES
_REPORT_EVERY = 500
_NS = 1_000_000_000
_LOGS = ("-wal", "-shm", "-journal")
_INODE = (
    "INSERT INTO fs_inode(ino, mode, nlink, uid, gid, size, atime, mtime, ctime, rdev, atime_nsec,"
    " mtime_nsec, ctime_nsec) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_DENTRY = "INSERT INTO fs_dentry(name, parent_ino, ino) VALUES (?, ?, ?)"
_NLINK = "UPDATE fs_inode SET nlink = nlink + 1 WHERE ino = ?"
_DATA = "INSERT INTO fs_data(ino, chunk_index, data) VALUES (?, ?, ?)"
_SYMLINK = "INSERT INTO fs_symlink(ino, target) VALUES (?, ?)"
_CONFIG = "INSERT INTO fs_config(key, value) VALUES (?, ?)"
_OVERLAY = "INSERT INTO fs_overlay_config(key, value) VALUES (?, ?)"
_WHITEOUT = "INSERT INTO fs_whiteout(path, parent_path, created_at) VALUES (?, ?, ?)"
_KEY = "INSERT INTO kv_store(key, value, created_at, updated_at) VALUES (?, ?, ?, ?)"
_CALL = (
    "INSERT INTO tool_calls(id, name, parameters, result, error, status, started_at, completed_at,"
    " duration_ms) VALUES (?,?,?,?,?,?,?,?,?)"
)
_STATUS = {"running": "pending", "ok": "success", "error": "error"}


def write_volume(
    fs: AgentFS, path: str, target: Path, *, force: bool = False, full: bool = False,
    progress: Progress | None = None,
) -> Spec04Totals:  # fmt: skip
    """Write a directory of the branch, its keys and the tool calls as an AgentFS 0.4 volume.

    Where the directory is an overlay this is a delta; `full` writes the whole tree there too.

    Raises:
        AlreadyExists: something is at the target, and `force` is missing.
        HostError: the host refuses, or has no room.
        NotFound, NotADirectory.
    """
    own = {os.path.realpath(f"{fs.path}{suffix}") for suffix in ("", *_LOGS)}
    if os.path.realpath(target) in own or os.path.isdir(target):
        raise HostError(str(target), "it is the volume itself, or a directory")
    _require_free(target, force)
    beside = target.with_name(f".agentfs-{os.urandom(8).hex()}")
    try:
        with fs.view_for_reading():
            totals = _Export(fs, path, beside, full, progress).run()
        _publish(beside, target, force)
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise HostError(str(target), str(error)) from error
    except OSError as error:
        if isinstance(error, AgentFSError):
            raise
        raise HostError(str(target), error.strerror or str(error)) from error
    finally:
        for suffix in ("", *_LOGS):
            Path(f"{beside}{suffix}").unlink(missing_ok=True)
    return totals


def _require_free(target: Path, force: bool) -> None:
    for suffix in ("", *_LOGS):
        if not force and os.path.lexists(f"{target}{suffix}"):
            raise AlreadyExists(f"{target}{suffix}", "replace it with --force")


def _publish(beside: Path, target: Path, force: bool) -> None:
    """Let the finished volume appear under its name, and never over another without `force`."""
    with open(beside, "rb") as file:
        os.fsync(file.fileno())
    if force:
        # A log that stays would be read as the newest part of the new volume.
        for suffix in _LOGS:
            Path(f"{target}{suffix}").unlink(missing_ok=True)
        os.replace(beside, target)
    else:
        try:
            _appear(beside, target)
        except FileExistsError:
            raise AlreadyExists(str(target), "replace it with --force") from None
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _appear(beside: Path, target: Path) -> None:
    """Give a file its name unless another has it."""
    try:
        os.link(beside, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(beside, target)


class _Export:
    """One export."""

    def __init__(
        self, fs: AgentFS, path: str, target: Path, full: bool, progress: Progress | None
    ) -> None:
        self.fs = fs
        self.totals = Spec04Totals()
        self._target = target
        self._progress = progress
        self._done = 0
        self._next = schema.ROOT
        self._now = int(time.time())
        with fs.view_for_reading() as view:
            self._root = directories.resolve(view, path).path
            self._links = {
                each.path: each.link for each in links.names(view.session, directories.root(view))
            }
        self._written: dict[str, int] = {}
        overlays = [] if full else [each for each in fs.overlays() if each.at == self._root]
        self._overlay: Overlay | None = overlays[0] if overlays else None
        self._delta: set[str] | None = None

    def run(self) -> Spec04Totals:
        os.close(os.open(self._target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.chmod(self._target, 0o666 & ~_umask())
        self._connection = apsw.Connection(os.fspath(self._target))
        try:
            self._execute = self._connection.execute
            # The file is thrown away if this is interrupted, so nothing has to be kept in order.
            for setting in ("journal_mode = OFF", "synchronous = OFF", "page_size = 4096"):
                self._execute(f"PRAGMA {setting}").fetchall()
            self._execute(schema.DDL)
            self._execute("BEGIN")
            self._settings()
            self._tree()
            self._keys()
            self._calls()
            self._execute("COMMIT")
            self._execute("PRAGMA journal_mode = WAL").fetchall()  # as the SDK's own are
        finally:
            self._connection.close(True)
        return self.totals

    def _settings(self) -> None:
        self._execute(_CONFIG, ("chunk_size", str(schema.CHUNK_BYTES)))
        self._execute(_CONFIG, ("schema_version", schema.VERSION))
        self._execute(_CONFIG, (ORIGIN, origin(self.fs)))
        if self._overlay is None:
            return
        self._execute(schema.OVERLAY_DDL)
        self._execute(_OVERLAY, ("base_type", "hostfs"))
        try:
            self._execute(_OVERLAY, ("base_path", os.fsencode(self._overlay.host).decode()))
        except UnicodeDecodeError:
            self.totals.leave_out(ascii(self._overlay.host), "AgentFS reads UTF-8 paths only")
        self._delta = set()
        gone: set[str] = set()
        for change in self.fs.host_diff(self._overlay.at):
            if change.kind != "removed":
                self._delta.update(_with_parents(change.path, self._root))
            elif split(change.path)[0] not in gone and self._is_gone(change.path):
                self._white_out(change.path)
            if change.kind == "removed":
                gone.add(change.path)

    def _is_gone(self, path: str) -> bool:
        """Say whether a path and its directory are as the whiteout will say."""
        parent = split(path)[0]
        return not self.fs.exists(path) and self.fs.lstat(parent).is_dir

    def _white_out(self, path: str) -> None:
        inner = path if self._root == "/" else path[len(self._root) :]
        try:
            inner.encode()
        except UnicodeEncodeError:
            self.totals.leave_out(f"whiteout {inner!a}", "AgentFS reads UTF-8 names only")
            return
        self._execute(_WHITEOUT, (inner, split(inner)[0], self._now))
        self.totals.take_away(inner)

    # -- the tree ---------------------------------------------------------------------------

    def _tree(self) -> None:
        info = self.fs.stat(self._root)
        root = self._inode(info, stat.S_IFDIR, 0, nlink=1)
        waiting = [(root, iter(self.fs.scandir(self._root)))]
        while waiting:
            parent, below = waiting[-1]
            entry = next(below, None)
            if entry is None:
                waiting.pop()
                self.totals.directories += 1
                continue
            self._report()
            if self._delta is not None and entry.path not in self._delta:
                continue
            ino = self._entry(parent, entry)
            if ino is not None and entry.stat.is_dir:
                waiting.append((ino, iter(self.fs.scandir(entry.path))))

    def _entry(self, parent: int, entry: DirEntry) -> int | None:
        """Write one name and what it leads to; return the inode, or None if it is left out."""
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            self.totals.leave_out(ascii(entry.path), "AgentFS reads UTF-8 names only")
            return None
        link = self._links.get(entry.path) if entry.stat.links > 1 else None
        known = None if link is None else self._written.get(link)
        if known is not None:
            self.totals.links += 1
        ino = known or self._content(entry)
        if ino is None:
            return None
        self._execute(_DENTRY, (entry.name, parent, ino))
        self._execute(_NLINK, (ino,))
        if link is not None:
            self._written[link] = ino
        return ino

    def _content(self, entry: DirEntry) -> int | None:
        info = entry.stat
        kind = posix.TYPES[info.kind]
        if info.is_dir:
            return self._inode(info, kind, 0)
        if info.is_symlink:
            return self._symlink(entry, kind)
        self._require_room(entry)
        ino = self._inode(info, kind, info.size)
        self._data(ino, entry)
        self.totals.files += 1
        return ino

    def _symlink(self, entry: DirEntry, kind: int) -> int | None:
        target = self.fs.readlink(entry.path)
        try:
            size = len(target.encode())
        except UnicodeEncodeError:
            self.totals.leave_out(entry.path, "AgentFS reads UTF-8 targets only")
            return None
        ino = self._inode(entry.stat, kind, size)
        self._execute(_SYMLINK, (ino, target))
        self.totals.symlinks += 1
        return ino

    def _inode(self, info: Stat, kind: int, size: int, nlink: int = 0) -> int:
        ino, self._next = self._next, self._next + 1
        times = [divmod(each, _NS) for each in (info.atime_ns, info.mtime_ns, info.ctime_ns)]
        seconds, below = zip(*times, strict=True)
        self._execute(
            _INODE,
            (ino, kind | info.mode, nlink, info.uid, info.gid, size, *seconds, info.device, *below),
        )
        return ino

    def _require_room(self, entry: DirEntry) -> None:
        """Refuse a file that the host has no room for, before hours of zeros are written."""
        if entry.stat.size > shutil.disk_usage(self._target.parent).free:
            reason = f"{entry.path!r} has {entry.stat.size} bytes, and the disk has less room"
            raise HostError(str(self._target.parent), reason)

    def _data(self, ino: int, entry: DirEntry) -> None:
        """Write all bytes of a file: the Python package takes a missing chunk for no bytes."""
        width = schema.CHUNK_BYTES
        for start in range(0, entry.stat.size, _PIECE_BYTES):
            piece = memoryview(self.fs.read(entry.path, start, start + _PIECE_BYTES))
            first = start // width
            self._connection.executemany(
                _DATA,
                (
                    (ino, first + number, bytes(piece[offset : offset + width]))
                    for number, offset in enumerate(range(0, len(piece), width))
                ),
            )
            self.totals.bytes += len(piece)
            if self._progress is not None:
                self._progress(self.totals)

    def _report(self) -> None:
        self._done += 1
        if self._progress is not None and not self._done % _REPORT_EVERY:
            self._progress(self.totals)

    # -- keys and calls ---------------------------------------------------------------------

    def _keys(self) -> None:
        for key in self.fs.kv.list():
            value = json.dumps(self.fs.kv.get(key))
            self._execute(_KEY, (key, value, self._now, self._now))
            self.totals.keys += 1

    def _calls(self) -> None:
        for call in reversed(self.fs.toolcalls.list()):
            self._execute(_CALL, _call_row(call))
            self.totals.calls += 1


def _call_row(call: ToolCall) -> tuple[Any, ...]:
    started = call.started_ns // _NS
    ended = None if call.ended_ns is None else call.ended_ns // _NS
    duration = None if ended is None else (ended - started) * 1000
    return (
        call.id, call.name, _json(call.arguments), _json(call.result), call.error,
        _STATUS[call.status], started, ended, duration,
    )  # fmt: skip


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _with_parents(path: str, root: str) -> Iterator[str]:
    """Yield a path and what is above it, below a root."""
    while path != root and is_inside(path, root) and path != "/":
        yield path
        path = split(path)[0]


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
