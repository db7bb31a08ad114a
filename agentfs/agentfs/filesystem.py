"""The facade: `AgentFS` opens a transaction or a read, and delegates to the module that knows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, overload

from . import (
    branches,
    diff,
    directories,
    extensions,
    files,
    fsck,
    journal,
    merge,
    search,
    statistics,
    transfer,
    tree,
)
from .directories import Place
from .errors import AlreadyExists, NotADirectory, NotFound, ReadOnly, VolumeClosed
from .extensions import Extension
from .handles import FileHandle, as_text, parse_mode
from .nodes import DIRECTORY_MODE, Node, View, get, to_stat
from .paths import SYSTEM_NAME, PathLike, join, normalise
from .transaction import ReadScope, Session, Volume, WriteScope
from .types import (
    Branch,
    BranchName,
    Change,
    DirEntry,
    Durability,
    Finding,
    JournalCheck,
    JournalRow,
    Match,
    MergeResult,
    Snapshot,
    Stat,
    Stats,
    Strategy,
    Totals,
)

BUSY_S = 30.0


class OpenVolume(Protocol):
    """The signature of `AgentFS.open`."""

    def __call__(
        self, path: PathLike, branch: str | None = None, durability: Durability = "normal",
        create: bool = True, system: bool = False, principal: str = "", *,
        verify: bool = True, busy_s: float = BUSY_S,
    ) -> AgentFS:  # fmt: skip
        """Open a volume."""
        ...


class OpenFile(Protocol):
    """The signature of `fs.open`."""

    def __call__(
        self, path: PathLike, mode: str = "r", encoding: str = "utf-8", newline: str | None = None
    ) -> IO[Any]:
        """Open a file."""
        ...


class _Undo(Exception):
    """Ends a transaction that was only tried."""


class _Open:
    """`AgentFS.open` opens a volume; on a handle, `fs.open` opens a file."""

    @overload
    def __get__(self, handle: None, owner: type[AgentFS]) -> OpenVolume: ...
    @overload
    def __get__(self, handle: AgentFS, owner: type[AgentFS]) -> OpenFile: ...
    def __get__(self, handle: AgentFS | None, owner: type[AgentFS]) -> OpenVolume | OpenFile:
        return owner.open_volume if handle is None else handle.open_file


class AgentFS:
    """A handle on one branch of a volume; thread-safe and a context manager."""

    open = _Open()

    def __init__(
        self, volume: Volume, ref: str, *, system: bool = False, principal: str = "",
        read_only: bool = False, owner: bool = False,
    ) -> None:  # fmt: skip
        """Bind a handle to a volume; use `AgentFS.open`."""
        self._volume = volume
        self._ref = ref
        self._system = system
        self._principal = principal
        self._read_only = read_only
        self._owner = owner
        self._closed = False

    @classmethod
    def open_volume(
        cls, path: PathLike, branch: str | None = None, durability: Durability = "normal",
        create: bool = True, system: bool = False, principal: str = "", *,
        verify: bool = True, busy_s: float = BUSY_S,
    ) -> AgentFS:  # fmt: skip
        """Open a volume, making it when it is missing and `create` is true.

        Without `branch` the handle is on the volume's default branch. `system` opens the area
        `/.fmos`; `verify` checks each chunk that is read; `busy_s` bounds the wait for writers.

        Raises:
            VolumeNotFound, VolumeDenied, NotAVolume, NewerFormat, VolumeBusy, BranchNotFound.
        """
        if durability not in ("normal", "full"):
            raise ValueError(f"durability is 'normal' or 'full', not {durability!r}")
        volume = Volume(os.fspath(path), durability, create, busy_s, verify)
        try:
            with ReadScope(volume) as session:
                ref = branches.default(session) if branch is None else branch
                branches.require(session, ref)
        except BaseException:
            volume.close()
            raise
        return cls(volume, ref, system=system, principal=principal, owner=True)

    # -- the handle itself ----------------------------------------------------------------

    @property
    def branch(self) -> BranchName:
        """Return the branch or snapshot that this handle is on."""
        return BranchName(self._ref)

    @property
    def path(self) -> Path:
        """Return the volume's file."""
        return Path(self._volume.path)

    @property
    def principal(self) -> str:
        """Return the name that this handle's journal rows carry."""
        return self._principal

    @property
    def read_only(self) -> bool:
        """Say whether this is a view that cannot write."""
        return self._read_only

    @property
    def system(self) -> bool:
        """Say whether this handle may use `/.fmos`."""
        return self._system

    def close(self) -> None:
        """Close the handle; the one from `open` closes the volume for its forks and views too."""
        self._closed = True
        if self._owner:
            self._volume.close()

    def __enter__(self) -> AgentFS:
        """Return the handle."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the handle."""
        self.close()

    def __repr__(self) -> str:
        """Name the file and the branch."""
        return f"AgentFS({self._volume.path!r}, branch={self._ref!r})"

    def _view(self, session: Session) -> View:
        return View(session, session.ref(self._ref), self._system, self._principal)

    def _read(self) -> ReadScope:
        if self._closed:
            raise VolumeClosed(self._volume.path)
        return ReadScope(self._volume)

    def _write(self) -> WriteScope:
        if self._closed:
            raise VolumeClosed(self._volume.path)
        if self._read_only:
            raise ReadOnly(self._ref, "this handle is a view")
        return WriteScope(self._volume)

    def _normal(self, path: PathLike) -> str:
        return normalise(path, self._system)

    def _change(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run one operation in one transaction, on the branch as it is then."""
        with self._write() as session:
            return function(self._view(session), *arguments)

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run one reading call on one consistent state."""
        with self._read() as session:
            return function(self._view(session), *arguments)

    @contextmanager
    def transaction(self) -> Iterator[AgentFS]:
        """Make all calls of the body one transaction; an exception undoes them.

        Inside another transaction this is a savepoint. It belongs to the calling thread.
        """
        with self._write():
            yield self

    @contextmanager
    def view_for_writing(self) -> Iterator[View]:
        """Open a transaction for a module of this library that does many operations in it."""
        with self._write() as session:
            yield self._view(session)

    # -- files ----------------------------------------------------------------------------

    def read(self, path: PathLike, start: int = 0, stop: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to `stop`.

        Raises:
            NotFound, IsADirectory, Corrupt.
        """
        normal = self._normal(path)
        with self._read() as session:
            return files.read(self._view(session), normal, start, stop)

    def read_text(self, path: PathLike, encoding: str = "utf-8") -> str:
        """Return a file's text."""
        return self.read(path).decode(encoding)

    def write(self, path: PathLike, data: bytes | str, *, mode: int | None = None) -> None:
        """Replace or make a file; text is written as UTF-8.

        Raises:
            NotFound: the directory is missing.
            IsADirectory: a directory is there.
        """
        normal, raw = self._normal(path), _to_bytes(data)
        with self._write() as session:
            files.write(self._view(session), normal, raw, mode)

    def append(self, path: PathLike, data: bytes | str) -> None:
        """Add to the end of a file, making it when it is missing."""
        self._change(files.append, self._normal(path), _to_bytes(data))

    def truncate(self, path: PathLike, size: int) -> None:
        """Cut a file to a size, or extend it with zero bytes."""
        self._change(files.truncate, self._normal(path), size)

    def open_file(
        self, path: PathLike, mode: str = "r", encoding: str = "utf-8", newline: str | None = None
    ) -> IO[Any]:
        """Open a file object (see `fs.open`)."""
        kind, plus, text = parse_mode(mode)
        normal = self._normal(path)
        data = b""
        if kind in "wx":
            self._change(_make_empty, normal, kind == "x")
        elif kind == "a":
            data = self._change(_open_append, normal)
        else:
            data = self.read(normal)
        can_write = kind != "r" or plus
        commit = self._committer(normal, kind == "a") if can_write else None
        handle = FileHandle(normal, data, kind == "r" or plus, kind == "a", commit)
        return as_text(handle, encoding, newline) if text else handle

    def _committer(self, path: str, appends: bool) -> Callable[[list[files.Patch]], None]:
        def commit(patches: list[files.Patch]) -> None:
            if appends and all(piece is not None for _, piece in patches):
                self._change(files.append, path, b"".join(piece or b"" for _, piece in patches))
            else:
                self._change(files.patch, path, patches)

        return commit

    # -- names ----------------------------------------------------------------------------

    def listdir(self, path: PathLike = "/") -> list[str]:
        """Return the names in a directory, sorted."""
        normal = self._normal(path)
        with self._read() as session:
            directory = directories.resolve(self._view(session), normal)
            found = directories.names(session, directory)
        return sorted(each for each in found if not self._hidden(directory.path, each))

    def scandir(self, path: PathLike = "/") -> list[DirEntry]:
        """Return the entries of a directory with their stat, sorted by name."""
        normal = self._normal(path)
        with self._read() as session:
            directory = directories.resolve(self._view(session), normal)
            found = directories.scan(session, directory)
        return [
            DirEntry(name, join(normal, name), to_stat(node))
            for name, node in found
            if not self._hidden(directory.path, name)
        ]

    def _hidden(self, directory: str, name: str) -> bool:
        return name == SYSTEM_NAME and directory == "/" and not self._system

    def stat(self, path: PathLike) -> Stat:
        """Return what is known about a path, following symbolic links.

        Raises:
            NotFound: nothing is there.
        """
        return to_stat(self._ask(directories.find, self._normal(path)))

    def lstat(self, path: PathLike) -> Stat:
        """Return what is known about a path, not following a final symbolic link."""
        return to_stat(self._ask(directories.find, self._normal(path), False))

    def exists(self, path: PathLike) -> bool:
        """Say whether a path leads to something."""
        return self._find(path) is not None

    def is_dir(self, path: PathLike) -> bool:
        """Say whether a path leads to a directory."""
        found = self._find(path)
        return found is not None and found.is_dir

    def is_file(self, path: PathLike) -> bool:
        """Say whether a path leads to a file."""
        found = self._find(path)
        return found is not None and found.is_file

    def _find(self, path: PathLike) -> Stat | None:
        try:
            return self.stat(path)
        except (NotFound, NotADirectory):
            return None

    def mkdir(
        self, path: PathLike, parents: bool = False, exist_ok: bool = False,
        mode: int = DIRECTORY_MODE,
    ) -> None:  # fmt: skip
        """Make a directory.

        Raises:
            AlreadyExists, NotFound, NotADirectory.
        """
        self._change(tree.mkdir, self._normal(path), mode, parents, exist_ok)

    def rmdir(self, path: PathLike) -> None:
        """Remove an empty directory.

        Raises:
            NotEmpty, NotADirectory, NotFound.
        """
        self._change(tree.rmdir, self._normal(path))

    def remove(self, path: PathLike, recursive: bool = False) -> None:
        """Remove a file or link, or with `recursive` a directory and all below it."""
        self._change(tree.remove, self._normal(path), recursive)

    def rename(self, source: PathLike, target: PathLike) -> None:
        """Move a file or directory atomically, replacing a file or an empty directory."""
        self._change(tree.rename, self._normal(source), self._normal(target))

    def copy(self, source: PathLike, target: PathLike) -> None:
        """Copy a file or a whole directory by sharing it: a constant number of rows."""
        self._change(tree.copy, self._normal(source), self._normal(target))

    def symlink(self, target: PathLike, path: PathLike) -> None:
        """Make a symbolic link at `path` that holds `target`."""
        self._change(tree.symlink, os.fspath(target), self._normal(path))

    def readlink(self, path: PathLike) -> str:
        """Return the target of a symbolic link."""
        return self._ask(tree.readlink, self._normal(path))

    def chmod(self, path: PathLike, mode: int) -> None:
        """Set the permission bits."""
        self._change(tree.chmod, self._normal(path), mode)

    def utime(self, path: PathLike, mtime_ns: int | None = None) -> None:
        """Set the time of last modification, by default to now."""
        self._change(tree.utime, self._normal(path), mtime_ns)

    def getxattr(self, path: PathLike, name: str) -> bytes:
        """Return one extended attribute.

        Raises:
            NoAttribute: it is not set.
        """
        return self._ask(tree.getxattr, self._normal(path), name)

    def setxattr(self, path: PathLike, name: str, value: bytes) -> None:
        """Set one extended attribute."""
        self._change(tree.setxattr, self._normal(path), name, value)

    def listxattr(self, path: PathLike) -> list[str]:
        """Return the names of the extended attributes, sorted."""
        return sorted(self._ask(tree.xattrs, self._normal(path)))

    def removexattr(self, path: PathLike, name: str) -> None:
        """Remove one extended attribute."""
        self._change(tree.removexattr, self._normal(path), name)

    # -- search ---------------------------------------------------------------------------

    def walk(self, path: PathLike = "/") -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield each directory with its directory and file names, top down."""
        return search.walk(self, self._normal(path))

    def glob(self, pattern: str) -> Iterator[str]:
        """Yield the paths that match a pattern with `*`, `?`, `[...]` and `**`."""
        return search.glob(self, pattern)

    def grep(self, pattern: str | re.Pattern[str], path: PathLike = "/") -> Iterator[Match]:
        """Yield the lines of text files that match a regular expression."""
        return search.grep(self, pattern, self._normal(path))

    # -- branches and snapshots -------------------------------------------------------------

    def snapshot(self, name: str, message: str = "") -> Snapshot:
        """Name the branch's state for ever.

        Raises:
            RefExists: a branch or snapshot has this name.
        """
        return self._change(branches.snapshot, name, message)

    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, oldest first."""
        with self._read() as session:
            return branches.snapshots(session)

    def restore(self, ref: str, paths: Sequence[PathLike] | None = None) -> None:
        """Set the branch back to a snapshot or another branch; with `paths` only these."""
        if paths is None:
            self._change(branches.restore, ref)
        else:
            self._change(branches.restore_paths, ref, [self._normal(each) for each in paths])

    def at(self, ref: str) -> AgentFS:
        """Return a read-only view of a branch or snapshot.

        Raises:
            BranchNotFound: neither has this name.
        """
        with self._read() as session:
            session.ref(ref)
        return AgentFS(
            self._volume, ref, system=self._system, principal=self._principal, read_only=True
        )

    def fork(self, name: str, source: str | None = None) -> AgentFS:
        """Make a branch with the state of this one, or of `source`, and return a handle on it."""
        self._change(branches.fork, name, self._ref if source is None else source)
        return self.on(name)

    def on(self, name: str, *, system: bool | None = None, principal: str | None = None) -> AgentFS:
        """Return a handle on another branch that shares this one's volume.

        `system` and `principal` are this handle's unless given.

        Raises:
            BranchNotFound: no branch has this name.
        """
        with self._read() as session:
            branches.require(session, name)
        return AgentFS(
            self._volume,
            name,
            system=self._system if system is None else system,
            principal=self._principal if principal is None else principal,
        )

    def branches(self) -> list[Branch]:
        """Return all branches, sorted by name."""
        with self._read() as session:
            return branches.listing(session)

    def delete_branch(self, name: str) -> None:
        """Forget a branch; its journal rows stay.

        Raises:
            BranchInUse: it is this handle's or the default one.
        """
        self._change(branches.delete, name)

    def default_branch(self) -> BranchName:
        """Return the branch that `open` takes when none is named."""
        with self._read() as session:
            return BranchName(branches.default(session))

    def set_default_branch(self, name: str) -> None:
        """Let `open` take this branch when none is named."""
        self._change(branches.set_default, name)

    def diff(self, before: str, after: str, path: PathLike = "/") -> Iterator[Change]:
        """Yield what differs from one branch or snapshot to another, sorted by path."""
        normal = self._normal(path)
        with self._read() as session:
            old, new = (self._node_at(session, ref, normal) for ref in (before, after))
            if old is None and new is None:
                raise NotFound(normal)
            found = diff.changes(session, old, new, normal, self._system)
        return iter(found)

    def _node_at(self, session: Session, ref: str, path: str) -> Node | None:
        view = View(session, session.ref(ref), self._system, self._principal)
        if path == "/":
            return get(session, view.state.root)
        try:
            return directories.locate(view, path, follow=False).node
        except (NotFound, NotADirectory):
            return None

    def merge(self, name: str, strategy: Strategy = "fail", dry_run: bool = False) -> MergeResult:
        """Bring into this branch what another one changed since their common ancestor.

        Raises:
            MergeConflict: both changed the same thing and the strategy is "fail".
        """
        if not dry_run:
            return self._change(merge.merge, name, strategy)
        result = None
        try:
            with self._write() as session:
                result = merge.merge(self._view(session), name, strategy, dry_run=True)
                raise _Undo
        except _Undo:
            assert result is not None
        return result

    # -- journal and volume -----------------------------------------------------------------

    def journal(
        self, since: int = 0, limit: int | None = None, operation: str | None = None
    ) -> Iterator[JournalRow]:
        """Yield the journal's rows after a sequence number, oldest first."""

        def fetch(after: int, count: int) -> list[JournalRow]:
            with self._read() as session:
                return journal.page(session, after, count, operation)

        return journal.rows(fetch, since, limit)

    def log(self, limit: int | None = None) -> list[JournalRow]:
        """Return the rows of this branch, newest first."""
        with self._read() as session:
            return journal.newest(session, self._ref, limit)

    def record(self, operation: str, detail: dict[str, Any], path: str = "") -> int:
        """Append an event of an upper layer to the journal and return its number."""
        return self._change(journal.record, operation, path, detail)

    def verify_journal(self) -> JournalCheck:
        """Recompute the journal's hash chain."""
        with self._read() as session:
            return journal.verify(session)

    def extension(self, name: str, ddl: str) -> Extension:
        """Return the tables of an upper layer, made from `ddl` when they are missing.

        Raises:
            ExtensionError: a name does not begin with `ext_<name>_`.
        """
        if self._closed:
            raise VolumeClosed(self._volume.path)
        return extensions.install(self._volume, name, ddl)

    def fsck(self, read_data: bool = False) -> list[Finding]:
        """Return each broken invariant; with `read_data` every chunk is hashed too."""
        with self._read() as session:
            return fsck.check(session, read_data)

    def stats(self) -> Stats:
        """Return sizes and counts of this branch and its volume."""
        return self._ask(statistics.collect, self._volume.path)

    # -- host -------------------------------------------------------------------------------

    def put_tree(
        self, host_path: PathLike, path: PathLike, *, exclude: Iterable[str] = (),
        progress: Callable[[Totals], None] | None = None,
    ) -> Totals:  # fmt: skip
        """Bring a file or tree of the host in; a tree is merged into what is there.

        `exclude` holds patterns for names or for paths relative to `host_path`.
        """
        return transfer.put_tree(
            self, Path(host_path), self._normal(path), tuple(exclude), progress
        )

    def get_tree(self, path: PathLike, host_path: PathLike) -> Totals:
        """Write a file or tree of the volume to the host."""
        return transfer.get_tree(self, self._normal(path), Path(host_path))


def _to_bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        return data.encode()
    return data if isinstance(data, bytes) else bytes(data)


def _make_empty(view: View, path: str, exclusive: bool) -> None:
    place = directories.locate(view, path)
    if exclusive and place.node is not None:
        raise AlreadyExists(path)
    files.write_at(view, place, b"", None, "write")


def _open_append(view: View, path: str) -> bytes:
    place: Place = directories.locate(view, path)
    if place.node is None:
        files.write_at(view, place, b"", None, "write")
        return b""
    return files.content(view, files.require_file(place, path))
