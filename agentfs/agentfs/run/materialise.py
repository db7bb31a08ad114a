"""Writes a tree of the volume to a directory of the host, for programs that need real files.

Hard links, modes, times, symbolic links and `user.` attributes come along; set-user-id bits do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from agentfs.errors import PermissionDenied
from agentfs.paths import join
from agentfs.types import Change, DirEntry, Stat

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

_PIECE_BYTES = 8 * 1024 * 1024
_KEPT_MODE = 0o1777
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Writer:
    """One transfer; `unreadable` are the files of which the host keeps the content from us."""

    def __init__(self, fs: AgentFS) -> None:
        """Begin with nothing written."""
        self._fs = fs
        self._linked: dict[int, str] = {}
        self.unreadable: list[str] = []

    def tree(self, path: str, target: str) -> None:
        """Write a directory of the volume to a directory of the host that is there and empty."""
        info = self._fs.lstat(path)
        waiting = [(info, target, iter(self._fs.scandir(path)))]
        while waiting:
            info, here, below = waiting[-1]
            entry = next(below, None)
            if entry is None:
                waiting.pop()
                _set_attributes(here, info)
                continue
            inner = os.path.join(here, entry.name)
            if entry.stat.is_dir:
                os.mkdir(inner, 0o700)
                self._xattrs(entry.path, inner)
                waiting.append((entry.stat, inner, iter(self._fs.scandir(entry.path))))
            else:
                self._one(entry, inner)

    def changes(
        self, at: str, changes: Iterable[Change], target: str, remove: Callable[[str], None]
    ) -> None:
        """Write what a branch has over its base, as a layer.

        `remove` is told each relative path that went. A directory on the way to a change is
        written with its attributes and nothing else in it.
        """
        made: dict[str, Stat] = {}
        for change in changes:
            relative = change.path[len(at) :].lstrip("/")
            self._parents(at, relative, target, made)
            inner = os.path.join(target, relative)
            if change.after is None:
                remove(relative)
            elif change.after.is_dir:
                self._layer_directory(change.path, change.after, inner, made)
            else:
                self._one(DirEntry("", change.path, change.after), inner)
        for inner, info in reversed(made.items()):
            _set_attributes(inner, info)

    def _parents(self, at: str, relative: str, target: str, made: dict[str, Stat]) -> None:
        path, inner = at, target
        for name in relative.split("/")[:-1]:
            path, inner = join(path, name), os.path.join(inner, name)
            if inner not in made and not os.path.lexists(inner):
                with suppress(FileNotFoundError, NotADirectoryError):  # removed as a whole
                    self._layer_directory(path, self._fs.lstat(path), inner, made)

    def _layer_directory(self, path: str, info: Stat, inner: str, made: dict[str, Stat]) -> None:
        if inner not in made and info.is_dir:
            made[inner] = info
            with suppress(FileExistsError):  # the root of the layer
                os.mkdir(inner, 0o700)
            self._xattrs(path, inner)

    def _one(self, entry: DirEntry, target: str) -> None:
        if entry.stat.is_symlink:
            os.symlink(self._fs.readlink(entry.path), target)
            times = (entry.stat.mtime_ns, entry.stat.mtime_ns)
            os.utime(target, ns=times, follow_symlinks=False)
            return
        if not entry.stat.is_file:
            if entry.stat.kind == "fifo":  # nothing can be done with the other kinds elsewhere
                os.mkfifo(target)
                _set_attributes(target, entry.stat)
            return
        if entry.stat.links > 1:
            first = self._linked.setdefault(entry.stat.node, target)
            if first != target:
                os.link(first, target)
                return
        self._file(entry, target)

    def _file(self, entry: DirEntry, target: str) -> None:
        file = os.open(target, _CREATE, 0o600)
        try:
            for start in range(0, entry.stat.size, _PIECE_BYTES):
                piece = memoryview(self._fs.read(entry.path, start, start + _PIECE_BYTES))
                while piece:
                    piece = piece[os.write(file, piece) :]
        except PermissionDenied:
            self.unreadable.append(entry.path)
            os.ftruncate(file, 0)
        finally:
            os.close(file)
        self._xattrs(entry.path, target)
        _set_attributes(target, entry.stat)

    def _xattrs(self, path: str, target: str) -> None:
        for name in self._fs.listxattr(path):
            if name.startswith("user.") and hasattr(os, "setxattr"):
                with suppress(OSError):  # a file system without them
                    os.setxattr(target, name, self._fs.getxattr(path, name), follow_symlinks=False)


def _set_attributes(target: str, info: Stat) -> None:
    os.chmod(target, info.mode if info.is_dir else info.mode & _KEPT_MODE)
    os.utime(target, ns=(info.mtime_ns, info.mtime_ns))
