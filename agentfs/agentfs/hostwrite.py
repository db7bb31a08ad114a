"""Writes below one host directory: atomically per file, and never through a symbolic link.

Every name is reached from the directory's own descriptor, one directory after the other, so that
no link in the tree leads out of it; a directory that is moved while something is written into it
takes that along. New content is written beside its target under a name that
begins with `TEMPORARY`, and changes places with what is there (renameat2): if that is no longer
what was checked, they change places again. Where the file system has no such call, a change of the
host in the moment between check and rename is overwritten; so is everywhere what a program writes
later into a file that it opened before. Directories are synced by `sync`, before the base moves.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from types import TracebackType
from typing import Any, NamedTuple

from .errors import HostChanged, HostError
from .hostfiles import BLOCK_BYTES, Identity, place

TEMPORARY = ".agentfs-apply-"
_TEMPORARY = re.compile(re.escape(TEMPORARY) + "[0-9a-f]{16}")
# A file must not become a set-user-id program because a volume says so.
KEPT_MODE = 0o1777
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)
_NO_REPLACE, _EXCHANGE = 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
# The kernel takes these from a file that is written to: the new content did not earn them.
_NOT_INHERITED = frozenset({"security.capability", "security.ima", "security.evm"})
_MOST_OPEN = 32
_MEANWHILE = "it was changed just now"


class Guard(NamedTuple):
    """What must hold at a name that is written."""

    check: Callable[[], None]
    """Raises unless the host has there what it should have."""
    is_base: Callable[[str], bool]
    """Says whether what was there, and has another name now, is what was checked."""


def is_own(name: str) -> bool:
    """Say whether a name is one that this module gives to what it has not finished."""
    return _TEMPORARY.fullmatch(name) is not None


class HostTree:
    """One host directory that is being changed; locked against others that apply to it."""

    def __init__(self, root: str, identity: Identity, *, lock: bool = True) -> None:
        """Open the directory, which must be the one that the overlay was made over.

        Raises:
            HostChanged: it is gone, or another one is in its place.
            HostError: another process applies changes to it.
        """
        self.root = root
        self._near: tuple[str, int] | None = None
        self._changed: dict[str, int] = {}
        try:
            self._fd = os.open(root, _DIRECTORY)
        except OSError as error:
            raise HostChanged(root, error.strerror or str(error)) from error
        try:
            info = os.fstat(self._fd)
            if (info.st_dev, info.st_ino) != (identity.device, identity.inode):
                raise HostChanged(root, "another directory is in its place")
            if lock:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise HostError(
                    root, "another process applies changes to it; wait for it"
                ) from error
            raise

    def __enter__(self) -> HostTree:
        """Return the tree."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it go."""
        try:
            self.sync()
        finally:
            self._leave()
            os.close(self._fd)

    # -- reaching a name --------------------------------------------------------------------

    def _leave(self) -> None:
        if self._near is not None:
            os.close(self._near[1])
            self._near = None

    def _parent(self, relative: str) -> tuple[int, str]:
        """Return a descriptor of the directory of a name, kept until another one is asked for."""
        above, _, name = relative.rpartition("/")
        if self._near is None or self._near[0] != above:
            found = self._walk(relative, above)
            self._leave()
            self._near = (above, found)
        return self._near[1], name

    def _walk(self, relative: str, above: str) -> int:
        start, rest = self._fd, above
        if self._near is not None and self._near[0] and above.startswith(f"{self._near[0]}/"):
            start, rest = self._near[1], above[len(self._near[0]) + 1 :]
        fd = os.dup(start)
        for name in rest.split("/") if rest else ():
            try:
                deeper = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError as error:
                if error.errno in _NOT_A_DIRECTORY:
                    why = f"on its way {name!r} is no directory"
                    raise HostChanged(place(self.root, relative), why) from error
                raise
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _changes(self, relative: str) -> tuple[int, str]:
        """Return what `_parent` does, and have `sync` write that directory."""
        above = relative.rpartition("/")[0]
        fd, name = self._parent(relative)
        if above not in self._changed:
            if len(self._changed) >= _MOST_OPEN:
                self.sync()
            self._changed[above] = os.dup(fd)
        return fd, name

    def sync(self) -> None:
        """Let the disk have every name that was made, moved or removed."""
        while self._changed:
            _, fd = self._changed.popitem()
            try:
                os.fsync(fd)
            except OSError as error:
                if error.errno != errno.EINVAL:  # it has nothing to sync directories with
                    raise
            finally:
                os.close(fd)

    # -- looking ----------------------------------------------------------------------------

    def has_parent(self, relative: str) -> bool:
        """Say whether the directory of a name is there."""
        with suppress(FileNotFoundError):
            self._parent(relative)
            return True
        return False

    def look(self, relative: str) -> os.stat_result | None:
        """Return what is at a name, or None.

        Raises:
            HostChanged: what should be a directory on the way is none.
        """
        if not relative:
            return os.fstat(self._fd)
        try:
            fd, name = self._parent(relative)
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def target(self, relative: str) -> str:
        """Return the target of a symbolic link."""
        fd, name = self._parent(relative)
        return os.readlink(name, dir_fd=fd)

    def names(self, relative: str) -> list[str]:
        """Return the names in a directory that are not this module's own."""
        fd, name = self._parent(relative) if relative else (self._fd, ".")
        inner = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            return [each for each in os.listdir(inner) if not is_own(each)]
        finally:
            os.close(inner)

    @contextmanager
    def reading(self, relative: str) -> Iterator[int]:
        """Open a file and yield its descriptor."""
        fd, name = self._parent(relative)
        file = os.open(name, _READ, dir_fd=fd)
        try:
            yield file
        finally:
            os.close(file)

    def blocks(self, relative: str) -> Iterator[bytes]:
        """Yield the content of a file."""
        with self.reading(relative) as fd:
            while block := os.read(fd, BLOCK_BYTES):
                yield block

    # -- changing ---------------------------------------------------------------------------

    def mkdir(self, relative: str, mode: int) -> None:
        """Make a directory that its owner may write to until its own mode is set."""
        fd, name = self._changes(relative)
        os.mkdir(name, 0o700 | mode & KEPT_MODE, dir_fd=fd)

    def write(
        self, relative: str, blocks: Iterable[bytes], mode: int, mtime_ns: int, guard: Guard
    ) -> os.stat_result:
        """Replace or make a file, and return what it is then.

        The owner and the extended attributes of the file that was there stay.
        """
        fd, name = self._changes(relative)
        with self._beside(relative) as temporary, _created(temporary, fd) as file:
            for block in blocks:
                _write_all(file, block)
            _inherit(file, name, fd)
            os.fchmod(file, mode & KEPT_MODE)
            os.utime(file, ns=(mtime_ns, mtime_ns))
            os.fsync(file)
            self._place(relative, temporary, guard)
            return os.fstat(file)

    def symlink(self, relative: str, target: str, guard: Guard) -> None:
        """Replace or make a symbolic link."""
        fd, _ = self._changes(relative)
        with self._beside(relative) as temporary:
            os.symlink(target, temporary, dir_fd=fd)
            self._place(relative, temporary, guard)

    @contextmanager
    def _beside(self, relative: str) -> Iterator[str]:
        """Yield the temporary name for what is written to a name; nothing has it afterwards."""
        fd, temporary = self._parent(relative)[0], _temporary(relative)
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=fd)
        try:
            yield temporary
        finally:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=fd)

    def _place(self, relative: str, temporary: str, guard: Guard) -> None:
        """Move what was made into its place, unless the host has something unexpected there."""
        fd, name = self._parent(relative)
        ours = os.stat(temporary, dir_fd=fd, follow_symlinks=False).st_ino
        is_new = self.look(relative) is None
        guard.check()
        try:
            if is_new:
                _rename(fd, temporary, name, _NO_REPLACE)
                return
            _rename(fd, temporary, name, _EXCHANGE)
        except (FileExistsError, FileNotFoundError) as error:
            raise HostChanged(place(self.root, relative), _MEANWHILE) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
            return
        is_base = False
        try:
            is_base = guard.is_base(_with_name(relative, temporary))
        finally:
            if not is_base:
                self._change_back(fd, temporary, name, ours)
        if not is_base:
            raise HostChanged(place(self.root, relative), _MEANWHILE)

    @staticmethod
    def _change_back(fd: int, temporary: str, name: str, ours: int) -> None:
        """Give the host back what it had; what it has put there since wins over that."""
        with suppress(FileNotFoundError):
            _rename(fd, temporary, name, _EXCHANGE)
            if os.stat(temporary, dir_fd=fd, follow_symlinks=False).st_ino != ours:
                _rename(fd, temporary, name, _EXCHANGE)

    def remove(self, relative: str, is_directory: bool, guard: Guard) -> None:
        """Remove a file, a link or an empty directory."""
        if is_directory:
            self.clean(relative)
            fd, name = self._changes(relative)
            os.rmdir(name, dir_fd=fd)
            return
        fd, name = self._changes(relative)
        with self._beside(relative) as temporary:
            os.rename(name, temporary, src_dir_fd=fd, dst_dir_fd=fd)
            is_base = False
            try:
                is_base = guard.is_base(_with_name(relative, temporary))
            finally:
                if not is_base:
                    _bring_back(fd, temporary, name)
        if not is_base:
            raise HostChanged(place(self.root, relative), _MEANWHILE)

    def chmod(self, relative: str, mode: int, guard: Guard | None = None) -> os.stat_result:
        """Set the permission bits of a file or directory, and return what it is then.

        A directory keeps the bit that gives its group to what is made in it.
        """
        fd, name = self._parent(relative) if relative else (self._fd, ".")
        file = _open_any(name, fd)
        try:
            if guard is not None:
                guard.check()
            info, now = os.fstat(file), os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode) or info.st_ino != now.st_ino:
                raise HostChanged(place(self.root, relative), _MEANWHILE)
            kept = stat.S_ISGID if stat.S_ISDIR(info.st_mode) else 0
            _set_mode(file, mode & KEPT_MODE | info.st_mode & kept)
            return os.fstat(file)
        finally:
            os.close(file)

    def clean(self, relative: str) -> None:
        """Remove what a killed run left in a directory."""
        with suppress(OSError):
            fd, name = self._parent(relative) if relative else (self._fd, ".")
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                for each in filter(is_own, os.listdir(inner)):
                    with suppress(OSError):
                        os.unlink(each, dir_fd=inner)
            finally:
                os.close(inner)


def _temporary(relative: str) -> str:
    return f"{TEMPORARY}{blake2b(os.fsencode(relative), digest_size=8).hexdigest()}"


def _with_name(relative: str, name: str) -> str:
    above, slash, _ = relative.rpartition("/")
    return above + slash + name


def _bring_back(fd: int, temporary: str, name: str) -> None:
    try:
        _rename(fd, temporary, name, _NO_REPLACE)
    except FileExistsError:
        return  # the host has put something else there since
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)


@lru_cache(maxsize=1)
def _renameat2() -> Any:
    """Return the C library's function, which Python does not have, or None."""
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _rename(fd: int, source: str, target: str, flags: int) -> None:
    """Rename in one directory with flags of renameat2.

    Raises:
        OSError: as of rename; EEXIST by `_NO_REPLACE`; one of `_UNSUPPORTED` where it cannot.
    """
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(fd, os.fsencode(source), fd, os.fsencode(target), ctypes.c_uint(flags)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _open_any(name: str, directory: int) -> int:
    """Open a file or directory to change its mode, even one that its owner may not read."""
    try:
        return os.open(name, _READ, dir_fd=directory)
    except PermissionError:
        if not hasattr(os, "O_PATH"):
            raise
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def _set_mode(fd: int, mode: int) -> None:
    try:
        os.fchmod(fd, mode)
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):
            raise
        os.chmod(f"/proc/self/fd/{fd}", mode)  # opened with O_PATH


def _inherit(file: int, name: str, directory: int) -> None:
    """Give a new file the owner and the attributes of the one it replaces."""
    try:
        old = os.open(name, _READ, dir_fd=directory)
    except OSError:
        return
    try:
        info = os.fstat(old)
        if not stat.S_ISREG(info.st_mode):
            return
        for owner in (info.st_uid, -1):  # a group of one's own may be given without the owner
            with suppress(PermissionError):
                os.fchown(file, owner, info.st_gid)
                break
        for each in set(os.listxattr(old)) - _NOT_INHERITED:
            with suppress(OSError):
                os.setxattr(file, each, os.getxattr(old, each))
    finally:
        os.close(old)


@contextmanager
def _created(name: str, directory: int) -> Iterator[int]:
    fd = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def _write_all(fd: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(fd, rest) :]
