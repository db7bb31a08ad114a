"""What happens to the names below a host directory, as it happens: the eyes of `hostwatch`.

On Linux inotify is read here: watchdog tells a handler neither that the kernel's queue overflowed
nor that a directory below the first could not be watched, and both lose changes. Elsewhere, and
for polling, watchdog's observers are asked. Links are never followed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import select
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .errors import HostError

Wanted = Callable[[str], bool]
"""Says of a name below the directory whether anybody wants to know of it."""

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLY_DIRECTORY, _DONT_FOLLOW, _IS_DIRECTORY = 0x0100_0000, 0x0200_0000, 0x4000_0000
_MASK = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
    | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORY | _DONT_FOLLOW
)  # fmt: skip
_HEAD = struct.Struct("iIII")
_READ_BYTES = 256 * 1024
_NO_LONGER_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP)


@dataclass(slots=True)
class Touched:
    """What may differ since somebody looked last; names are relative to the directory.

    `paths` may have come, gone or changed, `written` are those whose bytes may have, and of
    `trees` everything below may have. `moves` leads from a new name to the one before.
    """

    paths: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    trees: set[str] = field(default_factory=set)
    moves: dict[str, str] = field(default_factory=dict)
    everything: bool = False
    gone: bool = False

    def move(self, source: str, target: str) -> None:
        """Note a rename; several of one thing count as one.

        What was touched below a directory is touched under its new name too.
        """
        for names in (self.paths, self.written, self.trees):
            names |= {_rebased(each, source, target) for each in names if _is_at(each, source)}
        origin = self.moves.pop(source, source)
        for each in [each for each in self.moves if _is_at(each, source)]:
            was = _rebased(self.moves.pop(each), source, target)
            self.moves[_rebased(each, source, target)] = was
        self.moves[target] = origin
        self.paths |= {source, target}
        self.written.add(target)


class HostEvents(Protocol):
    """A source of events."""

    def begin(self) -> None:
        """Watch from now on.

        Raises:
            HostError: the directory cannot be watched.
        """
        ...

    def read(self, into: Touched, timeout_s: float) -> bool:
        """Add what happened, waiting for it for a bounded time; say whether there was anything."""
        ...

    def looks(self) -> int | None:
        """Return how often the directory was looked through, or None when every change is told.

        What came and went between two looks is never told.
        """
        ...

    def close(self) -> None:
        """Watch no longer."""
        ...


def open_events(host: str, wanted: Wanted, poll_s: float | None) -> HostEvents:
    """Return what tells of changes below a host directory; with `poll_s` it is looked through."""
    if poll_s is not None:
        return Observed(host, wanted, poll_s)
    if sys.platform == "linux":
        return Inotify(host, wanted)
    return Observed(host, wanted, None)


class Inotify:
    """The kernel's notifications of a directory and all below it."""

    def __init__(self, host: str, wanted: Wanted) -> None:
        """Ask for nothing yet."""
        self._host = host
        self._wanted = wanted
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._file = -1
        self._root = -1
        self._directories: dict[int, str] = {}
        # Names that were left, the other half of whose rename may still come, and the watches of
        # directories that nobody has seen since under another name.
        self._leaving: dict[int, str] = {}
        self._away: set[int] = set()

    def begin(self) -> None:
        """Watch all directories."""
        self._file = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise self._refused(ctypes.get_errno(), "max_user_instances")
        root = self._watch("")
        if root is None:
            raise HostError(self._host, "it is no directory, or not readable")
        self._root = root
        self._watch_below("")

    def looks(self) -> int | None:
        """Say that every change is told."""
        return None

    def close(self) -> None:
        """Give the watches back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, into: Touched, timeout_s: float) -> bool:
        """Add what happened."""
        found = False
        ready = select.poll()
        ready.register(self._file, select.POLLIN)
        if ready.poll(timeout_s * 1000):
            for number, mask, cookie, name in _events(os.read(self._file, _READ_BYTES)):
                found = self._take(into, number, mask, cookie, os.fsdecode(name)) or found
        else:
            self._drop_leaving()
        return found

    def _take(self, into: Touched, number: int, mask: int, cookie: int, name: str) -> bool:
        """Note one event, and say whether anybody wants to know of it."""
        if mask & _OVERFLOW:
            self._begin_again()
            into.everything = True
            return True
        if number == self._root and mask & (_DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED):
            into.gone = True
            return True
        if mask & _IGNORED:
            self._directories.pop(number, None)
        here = self._directories.get(number)
        if here is None or not name:
            return False
        path = f"{here}/{name}" if here else name
        if not self._wanted(path):
            return False
        if mask & (_MOVED_FROM | _MOVED_TO):
            self._moved(into, path, mask, cookie)
        elif mask & _CREATE and mask & _IS_DIRECTORY:
            self._watch_below(path)
            into.trees.add(path)
        into.paths.add(path)
        if mask & (_MODIFY | _CLOSE_WRITE):
            into.written.add(path)
        return True

    def _moved(self, into: Touched, path: str, mask: int, cookie: int) -> None:
        """Note one half of a rename; both come one after the other, but not always together."""
        if mask & _MOVED_FROM:
            self._leaving[cookie] = path
            if mask & _IS_DIRECTORY:
                self._away |= self._at(path)
            return
        source = self._leaving.pop(cookie, None)
        if source is not None:
            into.move(source, path)
        if mask & _IS_DIRECTORY:
            if source is not None:
                self._renamed(source, path)
            self._watch_below(path)
            into.trees.add(path)

    def _at(self, path: str) -> set[int]:
        """Return the watches of a directory and of all below it."""
        return {number for number, each in self._directories.items() if _is_at(each, path)}

    def _renamed(self, source: str, target: str) -> None:
        for number in self._at(source) & self._away:
            self._directories[number] = _rebased(self._directories[number], source, target)
            self._away.discard(number)

    def _drop_leaving(self) -> None:
        """Forget directories that were moved out of sight."""
        for number in self._away:
            if self._directories.pop(number, None) is not None:
                self._libc.inotify_rm_watch(self._file, number)
        self._away.clear()
        self._leaving.clear()

    def _begin_again(self) -> None:
        """Find all directories anew, because events about them were lost."""
        known = set(self._directories)
        self._directories.clear()
        self._leaving.clear()
        self._away.clear()
        self._watch("")
        self._watch_below("")
        for number in known - self._directories.keys():
            self._libc.inotify_rm_watch(self._file, number)

    def _watch_below(self, path: str) -> None:
        """Watch a directory and all below it: first watched, then listed, so nothing is missed."""
        waiting = [path]
        while waiting:
            here = waiting.pop()
            if self._watch(here) is None:
                continue
            for name in _directories_in(os.path.join(self._host, here)):
                below = f"{here}/{name}" if here else name
                if self._wanted(below):
                    waiting.append(below)

    def _watch(self, path: str) -> int | None:
        """Watch one directory; what is none any more is left out."""
        raw = os.fsencode(os.path.join(self._host, path))
        number = self._libc.inotify_add_watch(self._file, raw, _MASK)
        if number >= 0:
            self._directories[number] = path
            self._away.discard(number)
            return number
        if ctypes.get_errno() in _NO_LONGER_THERE:
            return None
        raise self._refused(ctypes.get_errno(), "max_user_watches")

    def _refused(self, number: int, setting: str) -> HostError:
        if number not in (errno.ENOSPC, errno.EMFILE):
            return HostError(self._host, os.strerror(number))
        return HostError(
            self._host,
            f"the system allows no more watches (fs.inotify.{setting} is {_setting(setting)}):"
            f" raise it with `sysctl fs.inotify.{setting}=NUMBER`, leave large directories out with"
            " --exclude, or look through it with --poll SECONDS",
        )


def _events(buffer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at < len(buffer):
        number, mask, cookie, length = _HEAD.unpack_from(buffer, at)
        at += _HEAD.size
        yield number, mask, cookie, buffer[at : at + length].rstrip(b"\0")
        at += length


def _directories_in(path: str) -> list[str]:
    try:
        with os.scandir(path) as listing:
            return [each.name for each in listing if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _is_at(path: str, above: str) -> bool:
    return path == above or path.startswith(above + "/")


def _rebased(path: str, source: str, target: str) -> str:
    return target + path[len(source) :] if _is_at(path, source) else path


def _setting(name: str) -> str:
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


class Observed:
    """What an observer of watchdog says: one that polls, or that of another system."""

    def __init__(self, host: str, wanted: Wanted, poll_s: float | None) -> None:
        """Ask for nothing yet."""
        self._host = host
        self._wanted = wanted
        self._poll_s = poll_s
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._observer: Any = None
        self._looks = 0

    def begin(self) -> None:
        """Start the observer's threads."""
        from watchdog import observers  # noqa: PLC0415 - slow to load, and not always needed
        from watchdog.observers.polling import PollingObserverVFS  # noqa: PLC0415

        if self._poll_s is None:
            self._observer = observers.Observer()
        else:
            # What tells the kinds of names apart here follows no links, unlike PollingObserver.
            look: tuple[Any, Any] = (os.lstat, self._list)
            self._observer = PollingObserverVFS(*look, polling_interval=self._poll_s)
        try:
            self._observer.schedule(self, self._host, recursive=True)
            self._observer.start()
        except OSError as error:
            raise HostError(self._host, error.strerror or str(error)) from error

    def _list(self, path: str) -> Any:
        if path == self._host:
            self._looks += 1
        return os.scandir(path)

    def looks(self) -> int | None:
        """Return how many looks have begun."""
        return None if self._poll_s is None else self._looks

    def dispatch(self, event: Any) -> None:
        """Take an event on the observer's thread."""
        self._events.put(event)

    def close(self) -> None:
        """End the observer's threads."""
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()

    def read(self, into: Touched, timeout_s: float) -> bool:
        """Add what happened."""
        found = False
        try:
            event = self._events.get(timeout=timeout_s)
            while True:
                found = self._take(into, event) or found
                event = self._events.get_nowait()
        except queue.Empty:
            if not found and not all(each.is_alive() for each in self._observer.emitters):
                into.gone = True
                return True
        return found

    def _take(self, into: Touched, event: Any) -> bool:
        if event.event_type in ("opened", "closed_no_write"):
            return False
        source, target = self._relative(event.src_path), self._relative(event.dest_path)
        if event.event_type == "deleted" and source == "":
            into.gone = True
            return True
        named = [each for each in (source, target) if each and self._wanted(each)]
        if not named or (event.is_directory and event.event_type == "modified"):
            return False
        if event.event_type == "moved" and len(named) == 2:
            into.move(*named)
        into.paths.update(named)
        if event.is_directory and event.event_type in ("created", "moved"):
            into.trees.add(named[-1])
        elif event.event_type == "modified":
            into.written.update(named)
        return True

    def _relative(self, path: str | bytes) -> str | None:
        text = os.fsdecode(path)
        if text == self._host:
            return ""
        return text[len(self._host.rstrip("/")) + 1 :] if text else None
