"""Files and directories of the host that a volume leads to: their identity, and reading them.

A `HostRef` is what a node keeps of a host file that was not copied in. Nothing here writes to the
host or to the volume. A file counts as unchanged while device, inode, size and both times are; a
later ctime alone is explained by another mode or number of names (chmod, a hard link elsewhere).
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

from .errors import AgentFSError, HostChanged, HostError, PermissionDenied

BLOCK_BYTES = 8 * 1024 * 1024
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What opening says of a name that is gone, or that leads to a link, a socket or no directory now.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE}


class Identity(NamedTuple):
    """What tells one state of a host file from another."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    links: int

    @classmethod
    def of(cls, info: os.stat_result) -> Identity:
        """Return the identity that a stat shows."""
        return cls(
            info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns,
            info.st_mode, info.st_nlink,
        )  # fmt: skip

    def difference(self, now: Identity) -> str:
        """Say what shows that the content may be another one now; empty when nothing does."""
        if self == now:
            return ""
        if (self.device, self.inode) != (now.device, now.inode):
            return "it was replaced"
        if stat.S_IFMT(self.mode) != stat.S_IFMT(now.mode):
            return "it is of another kind"
        if (self.size, self.mtime_ns) != (now.size, now.mtime_ns):
            return "it was written to"
        explained = (self.mode, self.links) != (now.mode, now.links)
        if self.ctime_ns != now.ctime_ns and not explained:
            return "it was changed, and its time was set back"
        return ""


class HostRef(NamedTuple):
    """A file or directory of an overlay's host tree as it was when it was first looked at."""

    overlay: int
    path: str
    """Relative to the overlay's host directory; empty for that directory itself."""
    identity: Identity

    def encode(self) -> bytes:
        """Return the data of a node."""
        # As `json.dumps` would write it, in a quarter of the time: there is one for every file.
        identity = ", ".join(map(str, self.identity))
        return f"[{self.overlay}, {encode_basestring_ascii(self.path)}, {identity}]".encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> HostRef:
        """Read the data of a node."""
        overlay, path, *identity = json.loads(data)
        return cls(overlay, path, Identity(*identity))


class HostEntry(NamedTuple):
    """One name of a host directory; a link has its target."""

    name: str
    info: os.stat_result
    target: str | None


def place(root: str, relative: str) -> str:
    """Return the host path of what is below an overlay's host directory."""
    return os.path.join(root, relative) if relative else root


@contextmanager
def _opened(root: str, relative: str, flags: int, expected: Identity | None) -> Iterator[int]:
    """Open what is below an overlay's host directory, following no link on the way.

    With `expected` nothing else is opened, because the other end of a FIFO or a device would notice
    it, and the file must be the same at the end.
    """
    try:
        directory, name = _step(root, relative)
        try:
            if expected is not None:
                info = os.stat(name, dir_fd=directory, follow_symlinks=False)
                _compare(root, relative, expected, info)
            fd = os.open(name, flags, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            yield fd
            if expected is not None:
                _compare(root, relative, expected, os.fstat(fd))
        finally:
            os.close(fd)
    except AgentFSError:
        raise
    except OSError as error:
        raise _failed(place(root, relative), error) from error


def _step(root: str, relative: str) -> tuple[int, str]:
    """Return the open directory that a name is in, and the name there."""
    *above, name = relative.split("/") if relative else ["."]
    fd = os.open(root, _STEP)
    for each in above:
        try:
            below = os.open(each, _STEP, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd, name


def _failed(path: str, error: OSError) -> OSError:
    if isinstance(error, PermissionError):
        return PermissionDenied(path, "the host does not let this user read it")
    if error.errno in _GONE:
        return HostChanged(path, "it is gone, or was replaced")
    return HostError(path, error.strerror or str(error))


def _compare(root: str, relative: str, expected: Identity, now: os.stat_result) -> None:
    why = expected.difference(Identity.of(now))
    if why:
        raise HostChanged(place(root, relative), why)


def read(root: str, relative: str, expected: Identity, start: int, stop: int) -> bytes:
    """Return a range of a host file that must be unchanged.

    Raises:
        HostChanged, PermissionDenied.
        HostError: the host failed to read it.
    """
    with _opened(root, relative, _READ, expected) as fd:
        found = b"".join(_blocks(fd, start, stop))
    if len(found) != max(stop - start, 0):
        raise HostChanged(place(root, relative), "it became shorter")
    return found


def blocks(root: str, relative: str, expected: Identity) -> Iterator[bytes]:
    """Yield the content of a host file that must stay unchanged until the end.

    Raises:
        HostChanged, PermissionDenied.
        HostError: the host failed to read it.
    """
    with _opened(root, relative, _READ, expected) as fd:
        yield from _blocks(fd, 0, expected.size)


def _blocks(fd: int, start: int, stop: int) -> Iterator[bytes]:
    while start < stop and (found := os.pread(fd, min(stop - start, BLOCK_BYTES), start)):
        yield found
        start += len(found)


def listing(root: str, relative: str, expected: Identity) -> tuple[Identity, list[HostEntry]]:
    """Return a host directory's identity now and what is in it, sorted by name.

    Names may have come and gone since it was first seen, but it must be the same directory. What
    is no file, directory or link is left out.

    Raises:
        HostChanged, PermissionDenied.
        HostError: the host failed to list it.
    """
    with _opened(root, relative, _LIST, None) as fd:
        now = Identity.of(os.fstat(fd))
        if (now.device, now.inode) != (expected.device, expected.inode):
            raise HostChanged(place(root, relative), "it was replaced")
        with os.scandir(fd) as found:
            entries = [entry for each in found if (entry := _entry(each, fd)) is not None]
    return now, sorted(entries)


def _entry(found: os.DirEntry[str], directory: int) -> HostEntry | None:
    try:
        info = found.stat(follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            return HostEntry(found.name, info, os.readlink(found.name, dir_fd=directory))
    except OSError as error:
        # It was removed meanwhile, or is no link any more.
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise
    if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
        return HostEntry(found.name, info, None)
    return None
