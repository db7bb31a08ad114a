"""The private directory of each run on the host: made, locked, found again after a kill, removed.

All places of a user are in one directory, `agentfs-run-UID` in `$TMPDIR`, else `/var/tmp`, which
outlives a restart of the machine. A place whose lock is free belongs to a run that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agentfs.errors import HostError

_LOCK = ".lock"
_KEEPS = "keeps"
_PRIVATE = 0o700


def base() -> str:
    """Return the directory of all places of this user, making it when it is missing.

    Raises:
        HostError: it belongs to somebody else, or cannot be made.
    """
    parent = os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else "/tmp")
    path = os.path.join(os.path.realpath(parent), f"agentfs-run-{os.geteuid()}")
    try:
        with suppress(FileExistsError):
            os.mkdir(path, _PRIVATE)
        info = os.lstat(path)
    except OSError as error:
        raise HostError(path, error.strerror or str(error)) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise HostError(path, "others may change it; set TMPDIR to a directory of your own")
    return path


@dataclass(slots=True)
class Place:
    """The directory of one run; `lock` is the descriptor that shows that it is in use."""

    path: str
    lock: int

    def inside(self, name: str) -> str:
        """Return the path of something in this place."""
        return os.path.join(self.path, name)

    def folder(self, name: str) -> str:
        """Make a directory in this place and return its path."""
        path = self.inside(name)
        os.mkdir(path, _PRIVATE)
        return path

    def keep(self) -> None:
        """Note that changes are in here which the volume does not have yet."""
        with open(self.inside(_KEEPS), "xb"):
            pass

    def remove(self) -> None:
        """Unmount and remove all of it."""
        _unmount_below(self.path)
        remove_tree(self.path)
        with suppress(FileNotFoundError):
            os.unlink(self.path + _LOCK)
        os.close(self.lock)

    def leave(self) -> None:
        """Give the lock back and leave everything for `agentfs run --recover`."""
        os.close(self.lock)


def new(name: str) -> Place:
    """Make a place; the lock comes first, so that nobody takes it for a stale one."""
    path = os.path.join(base(), name)
    lock = os.open(path + _LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.mkdir(path, _PRIVATE)
    return Place(path, lock)


def take_over(path: str) -> Place | None:
    """Take the place of a run that was killed; None means that it is still running."""
    try:
        lock = os.open(path + _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return Place(path, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return Place(path, lock)


def prune() -> int:
    """Remove what killed runs left and nobody needs; return how many places that were."""
    return sum(1 for each in _stale() if not os.path.exists(each.inside(_KEEPS)) and _gone(each))


def _gone(place: Place) -> bool:
    place.remove()
    return True


def _stale() -> Iterator[Place]:
    folder = base()
    with os.scandir(folder) as found:
        names = [each.name for each in found if each.name.endswith(_LOCK)]
    for name in names:
        place = take_over(os.path.join(folder, name.removesuffix(_LOCK)))
        if place is None:
            continue
        yield place
        with suppress(OSError):  # it was closed with the place
            os.close(place.lock)


def _unmount_below(path: str) -> None:
    """Unmount what a killed run left mounted, where nobody answers any more."""
    for point in mounts_below(path):
        from agentfs.mount import unmount  # noqa: PLC0415 - hardly ever needed

        unmount(point, lazy=True)


def mounts_below(path: str) -> list[str]:
    """Return what is mounted at or below a path, innermost first."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [_unescaped(line.split(" ")[4]) for line in file]
    except OSError:
        return []
    return sorted((each for each in points if f"{each}/".startswith(f"{path}/")), reverse=True)


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def remove_tree(path: str) -> None:
    """Remove a tree of our own, also where a command took the permissions away."""

    def again(function: Callable[..., Any], name: str, error: Any) -> None:
        if isinstance(error[1], FileNotFoundError):
            return
        os.chmod(os.path.dirname(name), _PRIVATE)
        if function in (os.open, os.scandir, os.listdir):
            os.chmod(name, _PRIVATE)
            shutil.rmtree(name)
        else:
            function(name)

    if os.path.lexists(path):
        shutil.rmtree(path, onerror=again)
