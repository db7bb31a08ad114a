"""Mounting a handle: from a thread of this process, or until it is unmounted."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from . import kernel
from .errors import MountError
from .server import Server
from .watcher import Watcher

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

# How long the kernel may keep names and attributes; the watcher tells it of what others change.
_KERNEL_S = 3600.0
_READY_S = 10.0
_BUSY_S = 2.0
_END_S = 10.0


class Mounted:
    """A context manager that mounts a handle and yields the directory.

    The mount is served by a thread, no signal handler is set. This process may use the directory,
    but not where Python holds its lock meanwhile, which the thread needs to answer: not through
    `mmap` and not with `os.posix_spawn`. `subprocess` is told to use fork, which does not.
    """

    def __init__(
        self, fs: AgentFS, directory: str | os.PathLike[str] | None = None, *, path: str = "/",
        read_only: bool = False, cache_s: float = 1.0, allow_other: bool | None = None,
        nonempty: bool = False,
    ) -> None:  # fmt: skip
        """Say what is mounted where; nothing is done before the context is entered.

        Without `directory` a temporary one is made and removed. Changes that others make in the
        volume are seen after `cache_s` seconds at the latest. `allow_other` lets other users in,
        which root does unless told not to.
        """
        self._fs = fs
        self._wanted = None if directory is None else os.fspath(directory)
        self._path = path
        self._read_only = read_only
        self._cache_s = cache_s
        self._allow_other = os.geteuid() == 0 if allow_other is None else allow_other
        self._nonempty = nonempty
        self.directory = ""

    def __enter__(self) -> str:
        """Mount and return the directory.

        Raises:
            MountMissing: this machine cannot mount; the error says what is missing.
            MountError: the directory cannot be mounted on.
            NotFound, NotADirectory: `path` leads to no directory.
        """
        made = self._wanted is None
        wanted = tempfile.mkdtemp(prefix="agentfs-") if self._wanted is None else self._wanted
        try:
            self.directory = kernel.prepare(wanted, nonempty=self._nonempty)
            self._start()
        except BaseException:
            if made:
                os.rmdir(wanted)
            raise
        return self.directory

    def _start(self) -> None:
        self._fs.stat(self._path)
        connection = kernel.mount(
            self.directory, str(self._fs.path), read_only=self._read_only or self._fs.read_only,
            allow_other=self._allow_other,
        )  # fmt: skip
        try:
            self._server = Server(
                self._fs, connection, self._path, read_only=self._read_only, kernel_s=_KERNEL_S
            )
        except BaseException:
            os.close(connection)
            kernel.unmount(self.directory, lazy=True)
            raise
        self._thread = threading.Thread(target=self._server.run, name="agentfs-mount", daemon=True)
        self._watcher = Watcher(self._server, self._cache_s)
        _without_vfork(1)
        self._thread.start()
        self._watcher.start()
        if not self._server.ready.wait(_READY_S):
            self._end()
            raise MountError(self.directory, "the kernel did not answer")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unmount, wait until everything is stored, and remove a directory made for this.

        Raises:
            MountError: what was written to a file could not be stored; it is named.
        """
        self._end()
        if self._wanted is None:
            with suppress(OSError):
                os.rmdir(self.directory)
        if self._server.lost and error is None:
            raise MountError(self.directory, f"not stored: {'; '.join(self._server.lost)}")

    def _end(self) -> None:
        """Unmount; when programs still use the directory after a moment, take it from them."""
        self._watcher.stop()
        deadline = time.monotonic() + _BUSY_S
        while kernel.is_ours(self.directory):
            lazy = time.monotonic() > deadline
            try:
                kernel.unmount(self.directory, lazy=lazy)
            except MountError:
                if lazy:
                    break
                time.sleep(0.02)
        self._thread.join(_END_S if not self.is_busy else 0.2)
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join(_END_S)
        _without_vfork(-1)

    @property
    def is_busy(self) -> bool:
        """Say whether files are still open through the mount."""
        with self._server.state.lock:
            return any(each.users for each in self._server.state.table.inodes.values())

    def wait(self) -> None:
        """Return when the mount has ended, by `unmount` or otherwise."""
        self._thread.join()


_mounts = 0
_guard = threading.Lock()


def _without_vfork(change: int) -> None:
    """Keep `subprocess` from vfork while anything is mounted by this process.

    With vfork the parent holds the interpreter's lock until the child's exec, which would wait for
    ever for a program or working directory on the mount. The switch is a documented one:
    https://docs.python.org/3.11/library/subprocess.html#disabling-use-of-vfork-or-posix-spawn
    """
    global _mounts
    with _guard:
        _mounts += change
        subprocess._USE_VFORK = not _mounts
        subprocess._USE_POSIX_SPAWN = False if _mounts else _POSIX_SPAWN


_POSIX_SPAWN = getattr(subprocess, "_USE_POSIX_SPAWN", False)


def serve(
    fs: AgentFS, directory: str | os.PathLike[str], *, path: str = "/", read_only: bool = False,
    cache_s: float = 1.0, allow_other: bool | None = None, nonempty: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:  # fmt: skip
    """Mount a handle and return when it is unmounted, or after SIGINT, SIGTERM or SIGHUP.

    `ready` is called with the directory once programs can use it. To be called on the main thread.

    Raises:
        MountMissing, MountError, NotFound, NotADirectory: as of `Mounted`.
    """
    mounted = Mounted(
        fs, directory, path=path, read_only=read_only, cache_s=cache_s, allow_other=allow_other,
        nonempty=nonempty,
    )  # fmt: skip
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    before = {
        each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        with mounted as where:
            if ready is not None:
                ready(where)
            waiter = threading.Thread(target=lambda: (mounted.wait(), ended.set()), daemon=True)
            waiter.start()
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
