"""The facade: `AgentFS` opens a transaction or a read, and delegates to the module that knows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, overload

from . import (
    apply,
    branches,
    diff,
    directories,
    extensions,
    files,
    fsck,
    gc,
    handles,
    history,
    hoststatus,
    journal,
    links,
    merge,
    mirror,
    overlay,
    quota,
    search,
    spec04,
    statistics,
    transfer,
    tree,
)
from .acl import Limits
from .encryption import Key
from .errors import NotADirectory, NotFound, PermissionDenied, ReadOnly, VolumeClosed
from .extensions import Extension
from .history import Moment
from .kv import KeyValues
from .nodes import DIRECTORY_MODE, LINK, Node, View, get, to_stat
from .paths import LINKS_NAME, SYSTEM_NAME, PathLike, join, normalise
from .reach import Reach
from .rules import AccessRules
from .spec04.outcome import Spec04Totals
from .toolcalls import ToolCalls
from .transaction import PAST_MARK, ReadScope, Session, Volume, WriteScope
from .types import (
    Applied,
    Branch,
    BranchName,
    Change,
    Damage,
    DirEntry,
    Durability,
    Finding,
    GcResult,
    HostChange,
    JournalCheck,
    JournalPart,
    JournalRow,
    JournalStart,
    Match,
    MergeResult,
    MirrorChange,
    Overlay,
    Progress,
    Quota,
    Snapshot,
    Stat,
    Stats,
    Strategy,
    Totals,
    Usage,
)
from .watch import Watch

if TYPE_CHECKING:
    from .triggers import Triggers

BUSY_S = 30.0


class OpenVolume(Protocol):
    """The signature of `AgentFS.open`."""

    def __call__(
        self, path: PathLike, branch: str | None = None, durability: Durability = "normal",
        create: bool = True, system: bool = False, principal: str = "", *,
        verify: bool = True, busy_s: float = BUSY_S, key: Key | None = None,
        read_only: bool = False,
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
        read_only: bool = False, owner: bool = False, narrowed: bool = False,
        reach: Reach | None = None,
    ) -> None:  # fmt: skip
        """Bind a handle to a volume; use `AgentFS.open`."""
        self._volume = volume
        self._ref = ref
        self._system = system
        self._principal = principal
        self._read_only = read_only
        self._owner = owner
        # What `on` took away stays away, for this handle and all that come from it.
        self._narrowed = narrowed
        self._reach = reach
        self._closed = False

    @classmethod
    def open_volume(
        cls, path: PathLike, branch: str | None = None, durability: Durability = "normal",
        create: bool = True, system: bool = False, principal: str = "", *,
        verify: bool = True, busy_s: float = BUSY_S, key: Key | None = None,
        read_only: bool = False,
    ) -> AgentFS:  # fmt: skip
        """Open a volume, making it when it is missing and `create` is true.

        Without `branch` the handle is on the volume's default branch. `system` opens the area
        `/.fmos`; `verify` checks each chunk that is read; `busy_s` bounds the wait for writers.

        With `key`, text or bytes, the file is encrypted (extra `encryption`); see `rekey`.
        With `read_only` the file is never changed, and made neither: it may lie where nobody may
        write. What writes then raises VolumeDenied.

        Raises:
            VolumeNotFound, VolumeDenied, NotAVolume, NewerFormat, VolumeBusy, BranchNotFound.
            WrongKey: the volume has another key, or one and none was given, or none at all.
            EncryptionMissing: the extra is not installed.
        """
        if durability not in ("normal", "full"):
            raise ValueError(f"durability is 'normal' or 'full', not {durability!r}")
        volume = Volume(
            os.fspath(path), durability, create, busy_s, verify, key, read_only=read_only
        )
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
        return BranchName(self._ref.replace(PAST_MARK, ""))

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
        """Say whether this handle cannot write: it is a view, or its volume was opened so."""
        return self._read_only or self._volume.read_only

    @property
    def system(self) -> bool:
        """Say whether this handle may use `/.fmos`."""
        return self._system

    @property
    def confined(self) -> bool:
        """Say whether this handle may use its own branch and the forks of that only."""
        return self._reach is not None

    @property
    def encrypted(self) -> bool:
        """Say whether the volume's file is encrypted."""
        return self._volume.is_encrypted

    def rekey(self, key: Key | None) -> None:
        """Encrypt the volume's file under another key; None writes it as plain bytes.

        Every page is written again. No other process, thread or transaction may be using it.

        Raises:
            VolumeBusy: somebody is.
            EncryptionMissing: the extra is not installed.
        """
        self._require_unconfined("rekey")
        self._volume.change_key(key)
        self._change(_note_rekey, key is not None)

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
        return f"AgentFS({self._volume.path!r}, branch={self.branch!r})"

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

    def _require_unconfined(self, what: str) -> None:
        if self._reach is not None:
            self._reach.refuse(what)

    def _require_in_reach(self, name: str) -> None:
        if self._reach is not None:
            with self._read() as session:
                self._reach.require(session, name)

    def _require_new_name(self, name: str) -> None:
        if self._reach is not None:
            self._reach.require_new(name)

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
    def reading(self) -> Iterator[AgentFS]:
        """Let all reading calls of the body see one state, whatever others commit meanwhile.

        It belongs to the calling thread.
        """
        with self._read():
            yield self

    @contextmanager
    def view_for_writing(self) -> Iterator[View]:
        """Open a transaction for a module of this library that does many operations in it."""
        with self._write() as session:
            yield self._view(session)

    @contextmanager
    def view_for_reading(self) -> Iterator[View]:
        """Open one consistent state for a module of this library that reads from it."""
        with self._read() as session:
            yield self._view(session)

    # -- files ----------------------------------------------------------------------------

    def read(self, path: PathLike, start: int = 0, stop: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to `stop`.

        Raises:
            NotFound, IsADirectory, Corrupt.
        """
        normal = self._normal(path)
        if not start and stop is None and not self._closed:
            found = files.read_remembered(self._volume.session(), self._ref, normal)
            if found is not None:
                return found
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
        return handles.open_file(self, self._normal(path), mode, encoding, newline)

    # -- names ----------------------------------------------------------------------------

    def listdir(self, path: PathLike = "/") -> list[str]:
        """Return the names in a directory, sorted."""
        normal = self._normal(path)
        with self._read() as session:
            view = self._view(session)
            directory = directories.resolve(view, normal)
            found = directories.names(session, directory)
            limits = view.limits
        if limits is not None or directory.path == "/":
            found = [each for each in found if not self._hidden(directory.path, each, limits)]
        return sorted(found)

    def last_names(
        self, path: PathLike, limit: int | None = None, before: str | None = None
    ) -> list[str]:
        """Return the last names of a directory by code point, last first: of ids, the newest.

        Costs the names that are returned, not those that are there; only names below `before`.

        Raises:
            NotFound, NotADirectory.
        """
        normal = self._normal(path)
        with self._read() as session:
            view = self._view(session)
            directory = directories.resolve(view, normal)
            limits = view.limits
            if limits is None and directory.path != "/":
                return directories.last_names(session, directory, limit, before)
            found = directories.last_names(session, directory, None, before)
        shown = [each for each in found if not self._hidden(directory.path, each, limits)]
        return shown[:limit]

    def scandir(self, path: PathLike = "/") -> list[DirEntry]:
        """Return the entries of a directory with their stat, sorted by name."""
        normal = self._normal(path)
        with self._read() as session:
            view = self._view(session)
            directory = directories.resolve(view, normal)
            found = directories.scan(session, directory)
            limits = view.limits
            return [
                DirEntry(
                    name,
                    join(normal, name),
                    to_stat(node) if node.kind != LINK else links.stat(view, node),
                )
                for name, node in found
                if not self._hidden(directory.path, name, limits)
            ]

    def _hidden(self, directory: str, name: str, limits: Limits | None) -> bool:
        if directory == "/" and (name == LINKS_NAME or (name == SYSTEM_NAME and not self._system)):
            return True
        return limits is not None and not limits.visible(join(directory, name))

    def stat(self, path: PathLike) -> Stat:
        """Return what is known about a path, following symbolic links.

        Raises:
            NotFound: nothing is there.
        """
        return self._ask(links.stat_at, self._normal(path))

    def lstat(self, path: PathLike) -> Stat:
        """Return what is known about a path, not following a final symbolic link."""
        return self._ask(links.stat_at, self._normal(path), False)

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

    def link(self, source: PathLike, target: PathLike) -> None:
        """Give a file one more name: a hard link, with the content and attributes of both.

        Raises:
            NotFound, AlreadyExists.
            IsADirectory, InvalidArgument: the source is a directory or a symbolic link.
        """
        self._change(tree.link, self._normal(source), self._normal(target))

    def readlink(self, path: PathLike) -> str:
        """Return the target of a symbolic link."""
        return self._ask(tree.readlink, self._normal(path))

    def chmod(self, path: PathLike, mode: int) -> None:
        """Set the permission bits."""
        self._change(tree.chmod, self._normal(path), mode)

    def chown(
        self, path: PathLike, uid: int | None, gid: int | None = None, follow: bool = True
    ) -> None:
        """Set the owner and the group; None leaves one as it is.

        Nothing is stored for this process's own user and group: those are whoever looks. A program
        that runs as its owner (set-user-id) loses that right. Without `follow` a final symbolic
        link itself is changed.

        Raises:
            InvalidArgument: an id is out of range.
        """
        self._change(tree.chown, self._normal(path), uid, gid, follow)

    def mknod(self, path: PathLike, mode: int, device: int = 0) -> None:
        """Make an empty file, FIFO, socket, or device node, as the type bits of `mode` say.

        `device` is the number that `os.makedev` gives. Only a mount lets programs use them.

        Raises:
            AlreadyExists, NotFound.
            InvalidArgument: the type bits ask for a directory or a link.
        """
        self._change(tree.mknod, self._normal(path), mode, device)

    def utime(
        self, path: PathLike, mtime_ns: int | None = None, atime_ns: int | None = None,
        follow: bool = True,
    ) -> None:  # fmt: skip
        """Set the times of last modification, by default now, and of access, by default the same.

        Without `follow` a final symbolic link itself is changed.
        """
        self._change(tree.utime, self._normal(path), mtime_ns, atime_ns, follow)

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
            PermissionDenied: a confined handle gives no such name.
        """
        self._require_new_name(name)
        return self._change(branches.snapshot, name, message)

    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, oldest first; a confined handle's are those that it may use."""
        with self._read() as session:
            found, reach = branches.snapshots(session), self._reach
            return [each for each in found if reach is None or reach.has(session, each.branch)]

    def restore(self, ref: Moment, paths: Sequence[PathLike] | None = None) -> None:
        """Set the branch to any state that `at` can show; with `paths` only these.

        A confined handle leaves the system area as it is.

        Raises:
            BranchNotFound, InvalidArgument, NotFound, PermissionDenied: as of `at`.
        """
        # The view keeps a past state from gc until the end of the call.
        with self.at(ref) as view:
            if paths is None:
                whole = branches.restore if self._reach is None else branches.restore_files
                self._change(whole, view.pinned)
            else:
                normal = [self._normal(each) for each in paths]
                self._change(branches.restore_paths, view.pinned, normal)

    def at(self, ref: Moment) -> AgentFS:
        """Return a read-only view of a branch or snapshot, or of this branch as it was.

        A number or `"@12"` is the state after that journal row; a `datetime`, an ISO text with its
        zone, `"-2h"` (s, m, h, d, w) or `"ns:..."` the state at that time.

        Raises:
            BranchNotFound: a text names nothing.
            InvalidArgument: a text or time has two meanings.
            NotFound: that moment is older than `history_retention`, or still to come.
            PermissionDenied: the handle is confined, and this is another's branch.
        """
        with self._read() as session:
            target = history.locate(session, self._ref, ref)
            if self._reach is not None:
                self._reach.require(session, target.name)
            there = target.seq is None or history.known(session, target)
        if target.seq is not None and not there:
            with WriteScope(self._volume) as session:
                history.make(View(session, session.ref(target.name), True, ""), target)
        name = target.name if target.seq is None else history.past_name(target)
        view = self._other(name, self._system, self._principal, read_only=True)
        self._volume.views.add(view)
        return view

    def retention(self) -> float:
        """Return `history_retention`: for how many seconds past states are kept."""
        with self._read() as session:
            return history.retention_s(session)

    def set_retention(self, seconds: float) -> None:
        """Let gc keep the past states of so many seconds; 0 keeps none."""
        self._require_unconfined("history_retention")
        self._change(history.set_retention, seconds)

    def journal_keeper(self) -> str:
        """Return who alone lets journal rows go (`keep_journal`); empty: `history_retention`."""
        with self._read() as session:
            return history.journal_keeper(session)

    def keep_journal(self, keeper: str) -> None:
        """Let gc drop no journal row that its caller does not name by `until`.

        For an upper layer that answers for the rows; `keeper` is its name. Writes no journal row.
        """
        self._require_unconfined("journal_keeper")
        with self._write() as session:
            history.keep_journal(session, keeper)

    def fork(self, name: str, source: Moment | None = None) -> AgentFS:
        """Make a branch and return a handle on it.

        It has the state of this branch, or any that `at` can show. A fork of a past state shares no
        history with other branches: merging it finds no common ancestor.

        Raises:
            RefExists: a branch or snapshot has this name.
            BranchNotFound, InvalidArgument, NotFound: as of `at`.
            PermissionDenied: a confined handle gives no such name.
        """
        self._require_new_name(name)
        if source is None:
            self._change(branches.fork, name, self._ref)
        else:
            # The view keeps a past state from gc until the end of the call.
            with self.at(source) as view:
                self._change(branches.fork, name, view.pinned)
        return self._other(name, self._system, self._principal)

    def on(
        self, name: str, *, system: bool | None = None, principal: str | None = None,
        confined: bool = False,
    ) -> AgentFS:  # fmt: skip
        """Return a handle on another branch that shares this one's volume.

        `system` and `principal` are this handle's unless given. What `system=False` takes away
        cannot be had back from the handle that is returned, nor from any that comes from it; they
        keep its principal, and what comes from a view of it cannot write. A `confined` handle
        moreover uses this branch and its forks only, and leaves alone what concerns the whole
        volume: this is what an agent gets.

        Raises:
            BranchNotFound: no branch has this name.
            PermissionDenied: it would reach more than this handle.
        """
        with self._read() as session:
            branches.require(session, name)
        self._require_in_reach(name)
        wanted = self._system if system is None else system
        named = self._principal if principal is None else principal
        if self._narrowed and (wanted > self._system or named != self._principal):
            what = "the system area" if wanted > self._system else f"the principal {named!r}"
            raise PermissionDenied(name, f"this handle was given without {what}")
        read_only = self._read_only and self._narrowed
        made = self._other(name, wanted and not confined, named, read_only=read_only)
        made._narrowed = self._narrowed or confined or system is False
        if confined and self._reach is None:
            made._reach = Reach(name)
        return made

    def _other(
        self, name: str, system: bool, principal: str, *, read_only: bool = False
    ) -> AgentFS:
        return AgentFS(
            self._volume, name, system=system, principal=principal, read_only=read_only,
            narrowed=self._narrowed, reach=self._reach,
        )  # fmt: skip

    def branches(self) -> list[Branch]:
        """Return all branches, sorted by name; a confined handle's are those that it may use."""
        with self._read() as session:
            found, reach = branches.listing(session), self._reach
            return [each for each in found if reach is None or reach.has(session, each.name)]

    def delete_branch(self, name: str) -> None:
        """Forget a branch; its journal rows stay.

        Raises:
            BranchInUse: it is this handle's or the default one.
            PermissionDenied: the handle is confined, and this is not a fork of its branch.
        """
        self._require_in_reach(name)
        if self._reach is not None and name == self._reach.own:
            raise PermissionDenied(name, "a confined handle keeps the branch it is confined to")
        self._change(branches.delete, name)

    def default_branch(self) -> BranchName:
        """Return the branch that `open` takes when none is named."""
        with self._read() as session:
            return BranchName(branches.default(session))

    def set_default_branch(self, name: str) -> None:
        """Let `open` take this branch when none is named."""
        self._require_unconfined("the default branch")
        self._change(branches.set_default, name)

    def diff(self, before: Moment, after: Moment, path: PathLike = "/") -> Iterator[Change]:
        """Yield what differs from one state to another, sorted by path; `at` says what names one.

        Raises:
            BranchNotFound, InvalidArgument, NotFound: as of `at`.
        """
        normal = self._normal(path)
        views = self.at(before), self.at(after)
        before, after = (each.pinned for each in views)
        with self._read() as session:
            old, new = (self._node_at(session, ref, normal) for ref in (before, after))
            if old is None and new is None:
                raise NotFound(normal)
            roots = (
                get(session, session.ref(before).root), get(session, session.ref(after).root)
            )  # fmt: skip
            limits = self._view(session).limits
            found = diff.changes(session, old, new, normal, self._system, limits, roots)
        return iter(found)

    def _node_at(self, session: Session, ref: str, path: str) -> Node | None:
        view = View(session, session.ref(ref), self._system, self._principal)
        if path == "/":
            return get(session, view.state.root)
        try:
            return directories.locate(view, path, follow=False, through=False).node
        except (NotFound, NotADirectory):
            return None

    def merge(self, name: str, strategy: Strategy = "fail", dry_run: bool = False) -> MergeResult:
        """Bring into this branch what a branch or snapshot changed since their common ancestor.

        "ours" and "theirs" choose a side where both changed the same thing. With `dry_run` nothing
        changes, and the result says what would; a conflict is then listed and not raised.

        Raises:
            BranchNotFound: no branch or snapshot has this name.
            MergeConflict: both changed the same thing and the strategy is "fail".
            PermissionDenied: the handle is confined, and this is another's branch.
        """
        self._require_in_reach(name)
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

    # -- state, tool calls and limits -----------------------------------------------------

    @property
    def kv(self) -> KeyValues:
        """Return the keys of this branch; they follow its forks, restores and merges."""
        return KeyValues(self._change, self._ask)

    @property
    def toolcalls(self) -> ToolCalls:
        """Return the history of tool calls; it belongs to the volume and never goes back."""
        return ToolCalls(self._change, self._ask)

    @property
    def rules(self) -> AccessRules:
        """Return the access rules of the volume."""
        return AccessRules(self._change, self._ask)

    @property
    def triggers(self) -> Triggers:
        """Return the triggers of the volume: what runs on a change; see `triggers.Runner`."""
        from .triggers import Triggers  # noqa: PLC0415 - start-up time

        return Triggers(self)

    def quota(self) -> Quota:
        """Return the limits of this branch and what it uses."""
        return self._ask(quota.read)

    def set_quota(self, bytes: int | None = None, files: int | None = None) -> None:
        """Limit the bytes of all files and the number of names; None is no limit.

        A branch that is above a limit already may shrink, but not grow.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
        """
        self._change(_set_quota, bytes, files)

    # -- journal and volume -----------------------------------------------------------------

    def journal(
        self, since: int = 0, limit: int | None = None, operation: str | None = None, *,
        until: int | None = None, path: PathLike | None = None, branch: str | None = None,
        principal: str | None = None,
    ) -> Iterator[JournalRow]:  # fmt: skip
        """Yield the journal's rows after `since` and up to `until`, oldest first.

        `path` lets through what happened at or below it. Rows older than `history_retention` are
        gone once gc ran.
        """
        below = None if path is None else normalise(path)
        wanted = journal.Filter(until, below, branch, principal, operation)

        def fetch(after: int, count: int) -> list[JournalRow]:
            with self._read() as session:
                return journal.page(session, after, count, wanted)

        if self._reach is None:
            return journal.rows(fetch, since, limit)
        return islice(filter(self._shows, journal.rows(fetch, since, None)), limit)

    def _shows(self, row: JournalRow) -> bool:
        if self._reach is None:
            return True
        with self._read() as session:
            return self._reach.shows(session, row)

    def watch(
        self, since: int | None = None, path: PathLike = "/", timeout: float | None = None, *,
        branch: str | None = None, principal: str | None = None, operation: str | None = None,
    ) -> Watch:  # fmt: skip
        """Yield each journal row after `since` once, waiting for those of all processes.

        Without `since` it begins with what comes next; `seq` of the result is where to go on
        later. Ends after `timeout` seconds without a row; without a timeout it does not end.

        Raises:
            NotFound: rows after `since` are gone, because of `history_retention`.
        """
        if self._closed:
            raise VolumeClosed(self._volume.path)
        wanted = journal.Filter(None, normalise(path), branch, principal, operation)
        reach = self._reach
        return Watch(self._volume, since, wanted, timeout, None if reach is None else reach.shows)

    def log(self, limit: int | None = None) -> list[JournalRow]:
        """Return the rows of this branch, newest first."""
        with self._read() as session:
            if self._reach is None:
                return journal.newest(session, self._ref, limit)
            found = journal.newest(session, self._ref, None)
            return [each for each in found if self._reach.shows(session, each)][:limit]

    def record(self, operation: str, detail: dict[str, Any], path: str = "") -> int:
        """Append an event of an upper layer to the journal and return its number.

        Raises:
            PermissionDenied: the handle is confined, so that an agent cannot forge such rows.
        """
        self._require_unconfined("an event of the journal")
        if not self._closed and not self.read_only:
            event = (self._volume, self._ref, self._principal, operation, path, detail)
            seq = journal.record_within(*event) or journal.record_alone(*event)
            if seq is not None:
                return seq
        return self._change(journal.record, operation, path, detail)

    def verify_journal(self) -> JournalCheck:
        """Recompute the journal's hash chain."""
        with self._read() as session:
            return journal.verify(session)

    def journal_start(self) -> JournalStart:
        """Return after which row the journal begins, and whether a row of gc says so."""
        with self._read() as session:
            return journal.start(session)

    def check_journal(self, since: int, until: int, previous: bytes) -> JournalPart:
        """Recompute the chain of the rows after `since` up to `until`; return their hashes.

        `previous` is the hash of the row `since`, or 32 zero bytes before the first row. The rows
        stay in memory as 32 bytes each, so that long journals are best asked for in parts.
        """
        with self._read() as session:
            return journal.part(session, since, until, previous)

    def explain_journal(self, seq: int, previous: bytes) -> Damage:
        """Say what happened to a row that does not follow from the hash before it."""
        with self._read() as session:
            return journal.explain(session, seq, previous)

    def extension(self, name: str, ddl: str) -> Extension:
        """Return the tables of an upper layer, made from `ddl` when they are missing.

        Raises:
            ExtensionError: a name does not begin with `ext_<name>_`.
        """
        if self._closed:
            raise VolumeClosed(self._volume.path)
        return extensions.install(self._volume, name, ddl)

    def fsck(
        self, read_data: bool = False, repair: bool = False, *, progress: Progress | None = None
    ) -> list[Finding]:
        """Return each broken invariant of SPEC.md; with `read_data` all content is hashed too.

        `repair` puts right what follows from the rest of the volume, in one transaction; each
        finding then says what was done and what is lost.
        """
        if repair:
            self._require_unconfined("repair")
        if not repair:
            with self._read() as session:
                return fsck.check(session, read_data, progress=progress)
        with self._write() as session:
            found = fsck.check(session, read_data, True, progress)
            session.forget()
            done = [each.repair for each in found if each.repair]
            if done:
                journal.append(self._view(session), "fsck.repair", detail={"repairs": done})
        return found

    def verify(self, progress: Progress | None = None) -> list[Finding]:
        """Read and hash every stored byte and the journal; return what is not as it was written."""
        with self._read() as session:
            return fsck.verify(session, progress)

    def gc(
        self, retention: float | None = None, dry_run: bool = False, *,
        progress: Progress | None = None, sign: Callable[[bytes], bytes] | None = None,
        until: int | None = None,
    ) -> GcResult:  # fmt: skip
        """Let go of what no state leads to, and give the bytes back to the operating system.

        States older than `retention` seconds go too, by default those older than
        `history_retention`. Safe beside readers and writers of all processes; a run that was
        killed is finished by the next one. `sign` signs the hash of the last journal row that is
        let go; rows after `until` stay, however old they are, and so do all rows without it where
        the journal has a keeper (`keep_journal`).

        Raises:
            InvalidArgument: a transaction is open on this thread.
            Corrupt: what is needed cannot be told; nothing more was let go.
        """
        if self._closed:
            raise VolumeClosed(self._volume.path)
        if self._read_only:
            raise ReadOnly(self.branch, "this handle is a view")
        self._require_unconfined("gc")
        keep = {each.pinned for each in self._volume.views if not each.closed}
        return gc.collect(
            self._volume, self._principal, self._ref, keep, retention, dry_run, progress, sign,
            until,
        )  # fmt: skip

    @property
    def pinned(self) -> str:
        """Return the state that gc keeps while this handle is open."""
        return self._ref

    @property
    def closed(self) -> bool:
        """Say whether the handle was closed."""
        return self._closed

    def stats(self, every_branch: bool = False) -> Stats:
        """Return sizes and counts of this branch and its volume, and on request of each branch.

        Looks at everything that any branch or snapshot reaches.
        """
        return self._ask(statistics.collect, self._volume.path, every_branch)

    def du(self, path: PathLike = "/") -> Usage:
        """Return how many names are at and below a path, and their logical and stored bytes.

        Raises:
            NotFound, PermissionDenied.
        """
        return self._ask(statistics.usage, self._normal(path))

    # -- host -------------------------------------------------------------------------------

    def overlay(self, host_path: PathLike, at: PathLike = "/") -> Overlay:
        """Lay the branch over a host directory, which is read on first use and never written.

        `at` must be empty or not there yet. Forks, snapshots and merges take the overlay along.

        Raises:
            HostError: the host path is no directory, or not readable.
            AlreadyExists: something is at the path, or another overlay.
        """
        return self._change(overlay.attach, os.fspath(host_path), self._normal(at))

    def overlays(self) -> list[Overlay]:
        """Return the overlays of this branch."""
        return self._ask(overlay.listing_of)

    def host_diff(
        self, at: PathLike | None = None, path: PathLike | None = None
    ) -> Iterator[Change]:
        """Yield what this branch changed against an overlay's host tree as it was first seen.

        `at` is the overlay's place, and may be left out when there is one; `path` limits the
        changes to those at and below a path of the volume.

        Raises:
            NotFound, InvalidArgument: there is no overlay, or several.
        """
        places = [None if each is None else self._normal(each) for each in (at, path)]
        return iter(self._ask(overlay.host_diff, *places))

    def host_status(self, at: PathLike | None = None) -> list[HostChange]:
        """Return what the host changed below an overlay since this branch saw it.

        What was never looked at is not compared.

        Raises:
            NotFound, InvalidArgument: as of `host_diff`.
            HostChanged: the host directory itself is gone or another one.
        """
        return self._ask(hoststatus.status, None if at is None else self._normal(at))

    def refresh_overlay(
        self, paths: Iterable[PathLike] | None = None, at: PathLike | None = None, *,
        keep_ours: bool = False,
    ) -> tuple[list[HostChange], list[HostChange]]:  # fmt: skip
        """Take over what the host changed; return what was taken and what is disputed.

        What this branch changed as well is disputed and left alone. With `keep_ours` the branch
        keeps its own there, and `apply` then replaces what the host has now.

        Raises:
            NotFound, InvalidArgument, HostChanged: as of `host_status`.
        """
        return self._change(
            hoststatus.refresh, None if at is None else self._normal(at), _texts(paths), keep_ours
        )

    def apply(
        self, paths: Iterable[PathLike] | None = None, at: PathLike | None = None, *,
        dry_run: bool = False, outside_links: bool = False, progress: Progress | None = None,
    ) -> Applied:  # fmt: skip
        """Write what this branch changed in an overlay to the host, or only what is at some paths.

        Paths are relative to the overlay's root. Each file is replaced atomically, and only if the
        host still has what the branch saw there: if not, it is a conflict, and nothing is written
        for it. Links that lead out of the host directory are conflicts without `outside_links`.
        A run that was killed is finished by the next one.

        Raises:
            NotFound, InvalidArgument: no overlay, several, or nothing changed at a path.
            HostChanged: the host directory itself is gone or another one.
            HostError: another process applies changes to it.
            OSError: the host's disk is full, failing or read-only; what was written is noted.
        """
        if self._read_only and not dry_run:
            raise ReadOnly(self.branch, "this handle is a view")
        place = None if at is None else self._normal(at)
        work = apply.Application(self, place, _texts(paths), outside_links)
        if dry_run:
            work.look()
        else:
            work.run(progress)
        return work.result(dry_run)

    def discard(
        self, paths: Iterable[PathLike] | None = None, at: PathLike | None = None
    ) -> list[Change]:
        """Undo what this branch changed in an overlay, or only at some paths; return what that was.

        Paths are relative to the overlay's root.

        Raises:
            NotFound, InvalidArgument: no overlay, several, or nothing changed at a path.
        """
        place = None if at is None else self._normal(at)
        return self._change(overlay.discard, place, _texts(paths))

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

    def import_tree(
        self, host_path: PathLike, path: PathLike, *, exclude: Iterable[str] = (),
        delete: bool = False, dry_run: bool = False,
        progress: Callable[[Totals], None] | None = None,
    ) -> tuple[list[MirrorChange], Totals]:  # fmt: skip
        """Bring in what differs (kind, size or time) below a host directory; may be repeated.

        With `delete` what the host does not have goes. Excluded names stay as they are.

        Raises:
            HostError: the host path is no directory.
        """
        return mirror.import_tree(
            self, Path(host_path), self._normal(path), exclude=tuple(exclude), delete=delete,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def export_tree(
        self, path: PathLike, host_path: PathLike, *, exclude: Iterable[str] = (),
        delete: bool = False, force: bool = False, dry_run: bool = False,
        progress: Callable[[Totals], None] | None = None,
    ) -> tuple[list[MirrorChange], Totals]:  # fmt: skip
        """Write what differs (kind, size or time) below a directory to the host.

        Host files are only replaced or removed with `force`, and removed only with `delete` too.

        Raises:
            HostError: the host path is no directory, or its files differ and `force` is missing.
        """
        return mirror.export_tree(
            self, self._normal(path), Path(host_path), exclude=tuple(exclude), delete=delete,
            force=force, dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def import_spec04(
        self, host_path: PathLike, path: PathLike = "/", *,
        progress: Callable[[Totals], None] | None = None,
    ) -> Spec04Totals:  # fmt: skip
        """Bring a Turso AgentFS 0.4 volume to a directory; its keys and tool calls come along.

        What an overlay removed from its base is removed here too. Batches are atomic, and the same
        call again writes nothing twice. What cannot be right in the volume is left out by name.

        Raises:
            HostError: the file cannot be read.
            ForeignVolume: it is no such volume, is damaged, or is written to meanwhile.
        """
        return spec04.read_volume(self, Path(host_path), self._normal(path), progress)

    def export_spec04(
        self, path: PathLike, host_path: PathLike, *, force: bool = False, full: bool = False,
        progress: Callable[[Totals], None] | None = None,
    ) -> Spec04Totals:  # fmt: skip
        """Write a directory, the keys and the tool calls as a Turso AgentFS 0.4 volume.

        At an overlay this is what the branch changed, or with `full` the whole tree.

        Raises:
            AlreadyExists: the host file is there, and `force` is missing.
            HostError: the host refuses, or has no room.
            NotFound, NotADirectory.
        """
        return spec04.write_volume(
            self, self._normal(path), Path(host_path), force=force, full=full, progress=progress
        )

    def get_tree(self, path: PathLike, host_path: PathLike) -> Totals:
        """Write a file or tree of the volume to the host."""
        return transfer.get_tree(self, self._normal(path), Path(host_path))


def _note_rekey(view: View, encrypted: bool) -> None:
    journal.append(view, "rekey", detail={"encrypted": encrypted})


def _set_quota(view: View, max_bytes: int | None, max_files: int | None) -> None:
    quota.limit(view, max_bytes, max_files)
    journal.append(view, "quota", detail={"bytes": max_bytes, "files": max_files})


def _texts(paths: Iterable[PathLike] | None) -> list[str] | None:
    return None if paths is None else [os.fspath(each) for each in paths]


def _to_bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        return data.encode()
    return data if isinstance(data, bytes) else bytes(data)
