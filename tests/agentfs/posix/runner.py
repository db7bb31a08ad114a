"""Runs system calls, also as other users, and compares what they say with what POSIX says."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import stat
import time
from collections.abc import Callable
from typing import Any

Result = Any
TYPES = {"regular": stat.S_IFREG, "fifo": stat.S_IFIFO, "char": stat.S_IFCHR,
         "block": stat.S_IFBLK}  # fmt: skip
ALL_TYPES = ("regular", "dir", "fifo", "block", "char", "socket", "symlink")
USER, OTHER = 65534, 65533
TICK_S = 0.011


def _open(path: str, flags: int, mode: int = 0o644) -> int:
    os.close(os.open(path, flags, mode))
    return 0


def _bind(path: str) -> None:
    place, name = os.path.split(path)
    here = os.open(".", os.O_DIRECTORY)
    os.chdir(place)  # an address has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    finally:
        os.fchdir(here)
        os.close(here)


def _ftruncate(path: str, size: int, flags: int = os.O_RDWR) -> None:
    number = os.open(path, flags)
    try:
        os.ftruncate(number, size)
    finally:
        os.close(number)


def _write(path: str, data: bytes, flags: int = os.O_WRONLY) -> int:
    number = os.open(path, flags)
    try:
        return 0 if os.write(number, data) == len(data) else -1
    finally:
        os.close(number)


def _fallocate(path: str, offset: int, size: int) -> None:
    number = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(number, offset, size)
    finally:
        os.close(number)


def _utime(path: str, times: tuple[int, int] | None, follow: bool = True) -> None:
    if times is None:
        os.utime(path, follow_symlinks=follow)
    else:
        os.utime(path, ns=times, follow_symlinks=follow)


CALLS: dict[str, Callable[..., Any]] = {
    "open": _open, "mkdir": os.mkdir, "rmdir": os.rmdir, "unlink": os.unlink, "link": os.link,
    "symlink": os.symlink, "rename": os.rename, "chmod": os.chmod, "chown": os.chown,
    "lchown": os.lchown, "mkfifo": os.mkfifo, "truncate": os.truncate, "ftruncate": _ftruncate,
    "bind": _bind, "write": _write, "posix_fallocate": _fallocate, "utime": _utime,
    "mknod": lambda path, mode, kind="fifo", device=0: os.mknod(path, TYPES[kind] | mode, device),
    "readlink": lambda path: os.readlink(path) and 0,
    "stat": lambda path: os.stat(path) and 0, "lstat": lambda path: os.lstat(path) and 0,
}  # fmt: skip


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


class Checks:
    """Counts what was checked below one directory; each failure is one line."""

    def __init__(self, root: str) -> None:
        """Work in a directory that everybody may enter."""
        self.root = root
        self.passed = 0
        self.failures: list[str] = []
        self.group = ""
        self._count = 0

    def new(self) -> str:
        """Return a path that is free."""
        self._count += 1
        return f"{self.root}/{self.group.replace(' ', '_')}{self._count}"

    def call(
        self, name: str, *arguments: Any, uid: int | None = None, gid: int | None = None,
        groups: tuple[int, ...] = (), umask: int = 0,
    ) -> Result:  # fmt: skip
        """Make a system call and return 0, what it returns, or the name of its error."""
        function = CALLS[name]
        if uid is None:
            before = os.umask(umask)
            try:
                return function(*arguments) or 0
            except OSError as error:
                return _name_of(error)
            finally:
                os.umask(before)
        return self._as_other(function, arguments, uid, uid if gid is None else gid, groups, umask)

    @staticmethod
    def _as_other(
        function: Callable[..., Any], arguments: tuple[Any, ...], uid: int, gid: int,
        groups: tuple[int, ...], umask: int,
    ) -> Result:  # fmt: skip
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            result: Any = "died"
            try:
                os.setgroups(groups)
                os.setgid(gid)
                os.setuid(uid)
                os.umask(umask)
                result = function(*arguments) or 0
            except OSError as error:
                result = _name_of(error)
            finally:
                os.write(writing, pickle.dumps(result))
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            raw = told.read()
        os.waitpid(child, 0)
        return pickle.loads(raw)

    def expect(self, expected: Result, name: str, *arguments: Any, **options: Any) -> None:
        """Make a system call that must return this (one of these: a tuple)."""
        found = self.call(name, *arguments, **options)
        wanted = expected if isinstance(expected, tuple) else (expected,)
        shown = ", ".join(_short(each) for each in arguments)
        self.check(found in wanted, f"{name}({shown}) {options or ''}: {found}, not {expected}")

    def is_equal(self, found: Any, expected: Any, what: str) -> None:
        """Compare two values."""
        self.check(found == expected, f"{what}: {found!r}, not {expected!r}")

    def check(self, is_right: bool, message: str) -> None:
        """Count a check."""
        if is_right:
            self.passed += 1
        else:
            self.failures.append(f"{self.group}: {message}")

    def make(self, kind: str, path: str, owner: tuple[int, int] | None = None) -> None:
        """Make something of a kind."""
        if kind == "regular":
            self.expect(0, "open", path, os.O_CREAT | os.O_EXCL, 0o644)
        elif kind == "dir":
            self.expect(0, "mkdir", path, 0o755)
        elif kind == "symlink":
            self.expect(0, "symlink", "test", path)
        elif kind == "socket":
            self.expect(0, "bind", path)
        else:
            self.expect(0, "mknod", path, 0o644, kind, os.makedev(1, 2))
        if owner is not None:
            self.expect(0, "lchown", path, *owner)

    def remove(self, *paths: str) -> None:
        """Remove what must be there."""
        for path in paths:
            is_dir = stat.S_ISDIR(os.lstat(path).st_mode)
            self.expect(0, "rmdir" if is_dir else "unlink", path)

    def stat_is(self, path: str, **fields: Any) -> None:
        """Compare fields of lstat: mode, type, uid, gid, size, nlink, ino."""
        found = os.lstat(path)
        known: dict[str, Any] = {
            "mode": stat.S_IMODE(found.st_mode), "type": stat.S_IFMT(found.st_mode),
            "uid": found.st_uid, "gid": found.st_gid, "size": found.st_size,
            "nlink": found.st_nlink, "ino": found.st_ino, "device": found.st_rdev,
        }  # fmt: skip
        for name, value in fields.items():
            shown = oct if name == "mode" else str
            self.is_equal(shown(known[name]), shown(value), f"{name} of {_short(path)}")

    def changes(self, *times: tuple[str, str], by: Callable[[], None], right: bool = True) -> None:
        """Check that times of paths, such as ("mtime", path), move forward, or stay."""
        before = [_time(path, which) for which, path in times]
        time.sleep(TICK_S)
        by()
        for old, (which, path) in zip(before, times, strict=True):
            new = _time(path, which)
            text = f"{which} of {_short(path)}: {'stays' if right else 'changes'}"
            self.check(new > old if right else new == old, text)

    def stays(self, *times: tuple[str, str], by: Callable[[], None]) -> None:
        """Check that times of paths do not change."""
        self.changes(*times, by=by, right=False)


def _time(path: str, which: str) -> int:
    return getattr(os.lstat(path), f"st_{which}_ns")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:20]}...{text[-20:]}"
