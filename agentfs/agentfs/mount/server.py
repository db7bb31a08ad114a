"""The loop that answers the kernel: one thread, one question at a time."""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from agentfs.errors import AgentFSError

from . import protocol
from .attributes import Attributes
from .errors import to_errno
from .inodes import Inode
from .listing import Listings
from .names import Names
from .opened import OpenFiles
from .protocol import Op
from .state import State

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

Handler = Callable[["Request"], bytes | bytearray | None]
_IDLE_S = 1.0
_OLD_S = 5.0
# What the kernel does not wait for an answer to.
_SILENT = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT})
_GONE = (errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED, errno.EBADF)
_TRY_AGAIN = (errno.ENOENT, errno.EINTR)


class Request:
    """One question of the kernel; `body` is valid until the answer."""

    __slots__ = ("_inodes", "body", "gid", "number", "opcode", "uid", "unique")

    def __init__(self, buffer: memoryview, length: int, inodes: dict[int, Inode]) -> None:
        """Read the header."""
        _, self.opcode, self.unique, self.number, self.uid, self.gid, _, _, _ = (
            protocol.IN_HEADER.unpack_from(buffer)
        )
        self.body = buffer[protocol.IN_HEADER.size : length]
        self._inodes = inodes

    @property
    def inode(self) -> Inode:
        """Return the inode that the question is about.

        Raises:
            OSError: the kernel should not know this number any more.
        """
        found = self._inodes.get(self.number)
        if found is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return found

    def name(self, offset: int = 0) -> str:
        """Return the text that begins at an offset of the body."""
        raw = bytes(self.body[offset:])
        return raw[: raw.index(0)].decode("utf-8", "surrogateescape")


class Server:
    """Answers one mount until it is unmounted."""

    def __init__(self, fs: AgentFS, connection: int, path: str, *, read_only: bool,
                 kernel_s: float) -> None:  # fmt: skip
        """Take over the connection to the kernel."""
        self.state = State(fs, path, read_only, kernel_s)
        self.connection = connection
        self.ready = threading.Event()
        self.lost: list[str] = []
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        files = OpenFiles(self.state)
        self._handlers: dict[int, Handler] = {Op.INIT: self._init, Op.DESTROY: lambda _: b""}
        for part in (
            Names(self.state), files, Attributes(self.state, files), Listings(self.state),
        ):  # fmt: skip
            self._handlers |= part.handlers()
        os.set_blocking(connection, False)

    # -- the loop -------------------------------------------------------------------------

    def run(self) -> None:
        """Answer until the mount is gone or `stop` is called; then store what waits."""
        buffer = bytearray(protocol.BUFFER_BYTES)
        try:
            while self._step(buffer):
                pass
        finally:
            self.ready.set()
            self.lost = self.state.close()
            for each in (self.connection, self._stop_read, self._stop_write):
                os.close(each)

    def stop(self) -> None:
        """End the loop; programs that still use the mount get errors."""
        with suppress(OSError):
            os.write(self._stop_write, b"x")

    def _step(self, buffer: bytearray) -> bool:
        """Answer one question, or wait for one; say whether to go on."""
        try:
            length = os.readv(self.connection, [buffer])
        except BlockingIOError:
            return self._wait()
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                return True
            if error.errno in _GONE:
                return False
            raise
        with self.state.lock:
            self._answer(Request(memoryview(buffer), length, self.state.table.inodes))
        return True

    def _wait(self) -> bool:
        """Wait for a question; meanwhile store what has waited for long in open files."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        timeout = int(_IDLE_S * 1000) if self.state.dirty else None
        ready = poll.poll(timeout)
        if not ready:
            with self.state.lock:
                self.state.commit_old(_OLD_S)
        return all(number != self._stop_read for number, _ in ready)

    def _answer(self, request: Request) -> None:
        handler = self._handlers.get(request.opcode)
        if request.opcode == Op.INTERRUPT:
            return
        if handler is None:
            self._reply(request, -errno.ENOSYS, b"")
            return
        try:
            payload = handler(request)
        except (AgentFSError, OSError, MemoryError) as error:
            self._reply(request, -to_errno(error), b"")
        except Exception:  # the mount must go on; whoever asked gets an error
            traceback.print_exc(file=sys.stderr)
            self._reply(request, -errno.EIO, b"")
        else:
            if payload is not None:
                self._reply(request, 0, payload)

    def _reply(self, request: Request, error: int, payload: bytes | bytearray) -> None:
        if request.opcode in _SILENT:
            return
        head = protocol.OUT_HEADER.pack(
            protocol.OUT_HEADER.size + len(payload), error, request.unique
        )
        try:
            os.writev(self.connection, [head, payload])
        except OSError as failed:
            # ENOENT: whoever asked was interrupted and does not wait any more.
            if failed.errno not in (*_TRY_AGAIN, *_GONE):
                raise

    def _init(self, request: Request) -> bytes:
        """Agree with the kernel on a version and on what is used."""
        major, minor, readahead, flags = protocol.INIT_IN.unpack_from(request.body)
        if major != protocol.MAJOR or minor < protocol.OLDEST_MINOR:
            raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}")
        self.ready.set()
        return protocol.INIT_OUT.pack(
            protocol.MAJOR, min(minor, protocol.MINOR), readahead, flags & protocol.WANTED,
            16, 12, protocol.MAX_WRITE, 1, protocol.MAX_WRITE // 4096, 0, 0,
        )  # fmt: skip
