"""Keeps a directory of a branch like a host directory while that changes.

`hostevents` says which names may differ. Here bursts of them are gathered, only these names are
compared, and what differs comes in by one transaction per burst. What is there counts, never what
an event says, so that an event too many or in another order does no harm.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from . import mirror
from .errors import (
    AlreadyExists,
    HostError,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotEmpty,
    NotFound,
    PermissionDenied,
    VolumeBusy,
)
from .hostevents import HostEvents, Touched, open_events
from .mirror import Difference
from .paths import PathLike, join, normalise
from .transfer import HostItem, own_files, put_below
from .types import MirrorChange, Stat, Totals

if TYPE_CHECKING:
    from .filesystem import AgentFS

QUIET_S = 0.1
LATEST_S = 1.0
_ASK_S = 0.25
_BATCH = 500
_TRIES = 3
_PIECE_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def watch_host(
    fs: AgentFS, host: PathLike, path: PathLike = "/", *, exclude: Iterable[str] = (),
    delete: bool = False, keep_deleted: bool = False, poll_s: float | None = None,
    quiet_s: float = QUIET_S, latest_s: float = LATEST_S, stop: threading.Event | None = None,
    progress: Callable[[Totals], None] | None = None,
) -> HostWatch:  # fmt: skip
    """Keep a directory of the branch like a host directory; yield what each burst changed.

    The first result is what the import at the beginning changed, maybe nothing; watching has begun
    then. `delete` lets that import remove what the host does not have. Later what is deleted on the
    host is removed here too, unless `keep_deleted`. A burst ends after `quiet_s` seconds without an
    event, at most `latest_s` after its first. `poll_s` looks through the directory that often
    instead of being notified. Ends when `stop` is set.

    Raises:
        HostError: the host path is no directory, cannot be watched, or disappears while watched.
    """
    return HostWatch(
        fs, host, path, exclude=tuple(exclude), delete=delete, keep_deleted=keep_deleted,
        poll_s=poll_s, quiet_s=quiet_s, latest_s=latest_s, stop=stop, progress=progress,
    )  # fmt: skip


class _Stopped(Exception):
    """Ends an import that nobody waits for any more."""


class HostWatch(Iterator[list[MirrorChange]]):
    """The bursts of one watched directory; `totals` is what all of them moved."""

    def __init__(
        self, fs: AgentFS, host: PathLike, path: PathLike, *, exclude: tuple[str, ...],
        delete: bool, keep_deleted: bool, poll_s: float | None, quiet_s: float, latest_s: float,
        stop: threading.Event | None, progress: Callable[[Totals], None] | None,
    ) -> None:  # fmt: skip
        """Begin nothing yet; the first step does."""
        real = os.path.realpath(host)
        if not os.path.isdir(real):
            raise HostError(os.fspath(host), "it is no directory")
        self._copy = _Copy(fs, real, normalise(path, fs.system), exclude, delete, keep_deleted)
        self._events: HostEvents = open_events(real, self._copy.wanted, poll_s)
        self._stop = stop or threading.Event()
        self._progress = progress
        self._quiet_s, self._latest_s = quiet_s, latest_s
        self._later: deque[tuple[int, Touched]] = deque()
        self._bursts = self._run()

    @property
    def totals(self) -> Totals:
        """Return what all bursts moved until now."""
        return self._copy.totals

    def __next__(self) -> list[MirrorChange]:
        """Return what the next burst changed, waiting for it.

        Raises:
            HostError: the watched directory is gone, or it has more directories than may be
                watched. What came in before stays.
        """
        return next(self._bursts)

    def close(self) -> None:
        """Watch no longer."""
        self._bursts.close()

    def __enter__(self) -> HostWatch:
        """Return the watch."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Watch no longer."""
        self.close()

    def _run(self) -> Generator[list[MirrorChange], None, None]:
        try:
            self._events.begin()
            changes = self._copy.begin(self._report)
            self._look_again(Touched(everything=True))
            yield changes
            while (touched := self._burst()) is not None:
                changes = self._take(touched)
                self._look_again(Touched(paths=set(self._copy.arrived)))
                if changes:
                    yield changes
        except _Stopped:
            return
        finally:
            self._events.close()

    def _report(self, totals: Totals) -> None:
        """Tell how far the first import is, or end it: the batch under way is undone."""
        if self._stop.is_set():
            raise _Stopped
        if self._progress is not None:
            self._progress(totals)

    def _take(self, touched: Touched) -> list[MirrorChange]:
        """Bring a burst in as soon as other writers let it."""
        while True:
            try:
                return self._copy.take(touched)
            except VolumeBusy:
                if self._stop.is_set():
                    raise _Stopped from None

    def _look_again(self, touched: Touched) -> None:
        """Look at what came in once more after the next whole look of a source that only looks.

        It may have come in after one look and be gone before the next.
        """
        looks = self._events.looks()
        if looks is not None and (touched.paths or touched.everything):
            self._later.append((looks + 2, touched))

    def _add_due(self, touched: Touched) -> bool:
        """Add what is to be looked at now; say whether there is anything."""
        looks = self._events.looks() or 0
        while self._later and self._later[0][0] <= looks:
            due = self._later.popleft()[1]
            touched.paths |= due.paths
            touched.everything |= due.everything
        return bool(touched.paths) or touched.everything

    def _burst(self) -> Touched | None:
        """Gather what happens together, or return None when the watch is to end."""
        touched = self._copy.unsettled()
        waits = self._quiet_s if self._add_due(touched) else _ASK_S
        while not self._events.read(touched, waits):
            if self._stop.is_set():
                return None
            if self._add_due(touched):
                return touched
        end = time.monotonic() + self._latest_s
        while time.monotonic() < end and self._events.read(touched, self._quiet_s):
            pass
        return touched


class _Copy:
    """The directory of the branch that is kept like one of the host."""

    def __init__(
        self, fs: AgentFS, host: str, path: str, exclude: tuple[str, ...], delete: bool,
        keep_deleted: bool,
    ) -> None:  # fmt: skip
        """Change nothing yet."""
        self._fs = fs
        self._host = host
        self._path = path
        self._exclude = exclude
        self._delete = delete
        self._keep_deleted = keep_deleted
        self._own = own_files(fs)
        self._skip = len(host.rstrip("/")) + 1  # what a host path has before the name
        self.totals = Totals()
        # What the host had, so that after lost events only that counts as deleted there; not
        # needed where nothing or everything is removed.
        self._known: set[str] | None = None if delete or keep_deleted else set()
        # Names that this burst brought in, and those whose bytes changed while they were read.
        self.arrived: set[str] = set()
        self._unsettled: set[str] = set()

    def wanted(self, relative: str) -> bool:
        """Say whether a name is neither excluded nor a part of the volume."""
        name = relative.rpartition("/")[2]
        if any(fnmatch(name, each) or fnmatch(relative, each) for each in self._exclude):
            return False
        try:
            normalise(self._inside(relative), self._fs.system)
        except (NameTooLong, PermissionDenied):
            return False
        return f"{self._host.rstrip('/')}/{relative}" not in self._own

    def _inside(self, relative: str) -> str:
        return join(self._path, relative) if relative else self._path

    def _outside(self, relative: str) -> str:
        return os.path.join(self._host, relative) if relative else self._host

    def begin(self, progress: Callable[[Totals], None]) -> list[MirrorChange]:
        """Bring in what differs before the first burst."""
        changes, totals = mirror.import_tree(
            self._fs, Path(self._host), self._path, exclude=self._exclude, delete=self._delete,
            dry_run=False, progress=progress,
        )  # fmt: skip
        mirror.add(self.totals, totals)
        self._remember("")
        own = {self._inside(os.path.relpath(each, self._host)) for each in self._own}
        return [each for each in changes if each.path not in own]

    def unsettled(self) -> Touched:
        """Return the names that must be looked at again, also when nothing happens."""
        again, self._unsettled = self._unsettled, set()
        return Touched(paths=again, written=set(again))

    def take(self, touched: Touched) -> list[MirrorChange]:
        """Bring in a burst, all of it or nothing.

        Raises:
            HostError: the directory itself has gone.
        """
        if touched.gone or not os.path.isdir(self._host):
            raise HostError(
                self._host,
                "the watched directory was removed, moved or unmounted; the volume keeps what was"
                " in it last, and watching ends",
            )
        self.arrived.clear()
        if touched.everything:
            return self._look_through()
        changes: list[MirrorChange] = []
        with self._fs.transaction():
            self._fs.mkdir(self._path, parents=True, exist_ok=True)
            for target in sorted(touched.moves, key=lambda each: each.count("/")):
                move = partial(self._move, touched.moves[target], target)
                changes += self._try(move, target)
            for found in self._differences(touched):
                changes += self._apply(found, found.relative in touched.written)
        if self._known is not None:
            self._known |= self.arrived
        return changes

    def _look_through(self) -> list[MirrorChange]:
        """Compare everything, because events were lost."""
        changes: list[MirrorChange] = []
        found = self._below("")
        while batch := list(islice(found, _BATCH)):
            with self._fs.transaction():
                for each in batch:
                    if each.outside is not None or self._is_deleted(each.relative):
                        changes += self._apply(each, False)
        self._remember("")
        return changes

    def _is_deleted(self, relative: str) -> bool:
        """Say whether what only the volume has was deleted on the host, and goes here too."""
        return self._delete or (self._known is not None and relative in self._known)

    def _remember(self, relative: str) -> None:
        """Note what the host has below a directory."""
        if self._known is not None:
            self._known.update(self._names(relative))

    def _names(self, relative: str) -> Iterator[str]:
        """Yield the names that the host has below a directory."""
        for directory, below, names in os.walk(self._outside(relative)):
            here = directory[self._skip :]
            below[:] = [each for each in below if self.wanted(f"{here}/{each}".lstrip("/"))]
            yield from (f"{here}/{each}".lstrip("/") for each in (*below, *names))

    # -- comparing ------------------------------------------------------------------------

    def _differences(self, touched: Touched) -> Iterator[Difference]:
        """Yield what differs at the touched names, and below those that are touched as a whole."""
        done: set[str] = set()
        for path in sorted(touched.paths | touched.trees):
            found = None if path in self.arrived else self._top(path)
            if found is None or found.relative in done:
                continue
            done.add(found.relative)
            yield found
            if path in touched.trees and _is_directory(found):
                yield from self._below(path)

    def _below(self, relative: str) -> Iterator[Difference]:
        host = Path(self._host)
        for each in mirror.differences(
            self._fs, self._path, host, self._exclude, relative, True, self.totals.failed
        ):
            if self.wanted(each.relative):
                yield each

    def _top(
        self, path: str, goes_on: Callable[[Difference], bool] | None = None
    ) -> Difference | None:
        """Return the highest of a name's directories that one side lacks, or else the name.

        Each name on the way is looked at without following links, on both sides.
        """
        goes_on = goes_on or _is_directory
        found = None
        names = path.split("/")
        for count in range(1, len(names) + 1):
            relative = "/".join(names[:count])
            if not self.wanted(relative):
                return None
            try:
                outside = self._stat_outside(relative)
            except OSError as error:
                self.totals.failed.append(f"{self._outside(relative)}: {error.strerror}")
                return None
            found = Difference(relative, self._stat_inside(relative), outside)
            if count < len(names) and not goes_on(found):
                break
        return found

    def _stat_inside(self, relative: str) -> Stat | None:
        try:
            return self._fs.lstat(self._inside(relative))
        except (NotFound, NotADirectory):
            return None

    def _stat_outside(self, relative: str) -> os.stat_result | None:
        try:
            info = os.lstat(self._outside(relative))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if mirror.host_kind(info) == "other" else info

    # -- changing -------------------------------------------------------------------------

    def _move(self, source: str, target: str) -> list[MirrorChange]:
        """Rename here what was renamed on the host, where that is all that happened."""
        if self._keep_deleted or not self._was_renamed(source, target):
            return []
        self._fs.rename(self._inside(source), self._inside(target))
        self._remember_moved(source, target)
        return [
            MirrorChange(self._inside(source), "removed"),
            MirrorChange(self._inside(target), "added"),
        ]

    def _was_renamed(self, source: str, target: str) -> bool:
        """Say whether the old name is here only, the new one there only, and both lead to alike."""
        old, new = self._top(source, self._has_inside), self._top(target)
        if old is None or new is None or (old.relative, new.relative) != (source, target):
            return False
        if new.inside is not None or os.path.lexists(self._outside(source)):
            return False
        return new._replace(inside=old.inside).same_kind

    def _has_inside(self, found: Difference) -> bool:
        return found.inside is not None and found.inside.is_dir

    def _remember_moved(self, source: str, target: str) -> None:
        if self._known is not None:
            self._known.add(target)
            self._remember(target)

    def _try(self, change: Callable[[], list[MirrorChange]], path: str) -> list[MirrorChange]:
        """Make one change; what became something else meanwhile is looked at once more."""
        try:
            with self._fs.transaction():
                return change()
        except (AlreadyExists, IsADirectory, NotADirectory, NotEmpty, NotFound):
            self._unsettled.add(path)
            return []

    def _apply(self, found: Difference, written: bool) -> list[MirrorChange]:
        return self._try(lambda: self._make_alike(found, written), found.relative)

    def _make_alike(self, found: Difference, written: bool) -> list[MirrorChange]:
        """Make one name here what it is on the host; `written` compares the bytes too."""
        if found.inside is None and found.outside is None:
            return []
        path = self._inside(found.relative)
        if found.outside is None:
            if self._keep_deleted:
                return []
            self._fs.remove(path, recursive=True)
            return [MirrorChange(path, "removed")]
        if found.same_kind and self._is_same(found, written):
            return self._set_mode(found)
        if found.inside is not None and not found.same_kind:
            self._fs.remove(path, recursive=True)
        before = None if found.inside is None else found.inside.node
        self._put(found.relative)
        now = self._stat_inside(found.relative)
        if now is None or now.node == before:
            return []
        return [MirrorChange(path, "added" if before is None else "modified")]

    def _is_same(self, found: Difference, written: bool) -> bool:
        """Say whether the bytes here are those of the host, or it is a directory on both."""
        assert found.inside is not None
        assert found.outside is not None
        if found.inside.is_dir:
            return True
        path, source = self._inside(found.relative), self._outside(found.relative)
        try:
            if found.inside.is_symlink:
                return self._fs.readlink(path) == os.readlink(source)
            here = (found.inside.size, found.inside.mtime_ns)
            if here != (found.outside.st_size, found.outside.st_mtime_ns):
                return False
            # Two writes within one tick of the clock leave size and time as they were.
            return not written or _same_bytes(self._fs, path, source, found.inside.size)
        except OSError:
            return False

    def _set_mode(self, found: Difference) -> list[MirrorChange]:
        assert found.inside is not None
        assert found.outside is not None
        mode = stat.S_IMODE(found.outside.st_mode)
        if found.inside.is_symlink or found.inside.mode == mode:
            return []
        self._fs.chmod(self._inside(found.relative), mode)
        return [MirrorChange(self._inside(found.relative), "modified")]

    def _put(self, relative: str) -> None:
        """Bring in a file or tree; what changed while it was read is read again."""
        waiting = [relative]
        for _ in range(_TRIES):
            passed: list[HostItem] = []
            for each in waiting:
                totals = put_below(
                    self._fs, Path(self._host), each, self._inside(each), self._exclude, passed
                )
                mirror.add(self.totals, totals)
            self.arrived.update(each.source[self._skip :] for each in passed)
            waiting = [each.source[self._skip :] for each in passed if _has_changed(each)]
            if not waiting:
                return
        self._unsettled.update(waiting)


def _is_directory(found: Difference) -> bool:
    return found.same_kind and found.inside is not None and found.inside.is_dir


def _has_changed(item: HostItem) -> bool:
    """Say whether a file is not what it was before it was read; one that has gone is no matter."""
    if not stat.S_ISREG(item.info.st_mode):
        return False
    try:
        now = os.lstat(item.source)
    except OSError:
        return False
    was = item.info
    return (now.st_ino, now.st_size, now.st_mtime_ns) != (was.st_ino, was.st_size, was.st_mtime_ns)


def _same_bytes(fs: AgentFS, path: str, source: str, size: int) -> bool:
    with open(os.open(source, _READ), "rb", buffering=0) as file:
        for start in range(0, size, _PIECE_BYTES):
            piece = fs.read(path, start, start + _PIECE_BYTES)
            if file.read(len(piece)) != piece:
                return False
        return not file.read(1)
