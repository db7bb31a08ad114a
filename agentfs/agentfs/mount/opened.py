"""Operations on open files: reading, writing, sizes, and when writes are stored."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

from agentfs import posix
from agentfs.errors import AgentFSError, IsADirectory
from agentfs.files import MAX_BYTES

from . import protocol
from .errors import refused
from .inodes import Inode
from .names import handle_of
from .protocol import Op

if TYPE_CHECKING:
    from .server import Handler, Request
    from .state import State

_APPENDS = 1


class OpenFiles:
    """The operations on the content of files of one mount."""

    def __init__(self, state: State) -> None:
        """Work on the state of a mount."""
        self.state = state

    def handlers(self) -> dict[int, Handler]:
        """Return what answers which question."""
        return {
            Op.OPEN: self.open, Op.READ: self.read, Op.WRITE: self.write, Op.FLUSH: self.flush,
            Op.FSYNC: self.flush, Op.RELEASE: self.release, Op.FALLOCATE: self.fallocate,
            Op.SYNCFS: self.sync,
        }  # fmt: skip

    def open(self, request: Request) -> bytes:
        """Open a file; what the kernel has of it in memory is kept if it is the same version."""
        flags, more = protocol.OPEN_IN.unpack_from(request.body)
        inode = request.inode
        node = self.state.seen(inode).node
        if inode.is_directory:
            raise IsADirectory(str(self.state.table.path_of(inode)))
        if flags & os.O_TRUNC:
            self.resize(inode, 0, bool(more & protocol.OPEN_KILL_SUIDGID))
        answer = protocol.FOPEN_KEEP_CACHE if inode.kept == node.id else 0
        inode.kept = node.id
        if flags & os.O_ACCMODE == os.O_RDONLY:
            answer |= protocol.FOPEN_NOFLUSH
        inode.users += 1
        return protocol.OPEN_OUT.pack(handle_of(flags), answer, 0)

    def release(self, request: Request) -> bytes:
        """Close the last descriptor of an open file."""
        inode = request.inode
        inode.users -= 1
        try:
            if inode in self.state.dirty:
                self.state.commit_one(inode)
        except AgentFSError as error:
            if not inode.users:
                # Whoever wrote has had this error from its close.
                print(f"agentfs: not stored: {error}", file=sys.stderr)
                self.state.give_up(inode)
        finally:
            self.state.discard(inode)
            self.state.table.drop_if_unused(inode)
        return b""

    def read(self, request: Request) -> bytes | bytearray:
        """Return a range of a file."""
        _, offset, size = protocol.READ_IN.unpack_from(request.body)
        return self.state.read(request.inode, offset, size)

    def write(self, request: Request) -> bytes:
        """Write at an offset, or at the end of a file that was opened for appending."""
        handle, offset, size, flags, *_ = protocol.WRITE_IN.unpack_from(request.body)
        inode = request.inode
        start = protocol.WRITE_IN.size
        data = request.body[start : start + size]
        node = self.state.seen(inode).node
        if handle & _APPENDS and not flags & 1:
            offset = node.size
        end = offset + size
        if end > MAX_BYTES:
            raise refused(errno.EFBIG, "write")
        if end > node.size:
            self.state.require_room(end - node.size)
        self.state.content(inode).write(offset, data)
        self._changed(inode, max(end, node.size), bool(flags & protocol.WRITE_KILL_SUIDGID))
        self.state.commit_large(inode)
        return protocol.WRITE_OUT.pack(size, 0)

    def _changed(self, inode: Inode, size: int, kills: bool) -> None:
        now = time.time_ns()
        mode = self.state.seen(inode).node.mode
        if kills and mode & (stat.S_ISUID | stat.S_ISGID):
            mode = posix.without_set_id(mode)
        self.state.change_node(inode, size=size, mtime_ns=now, ctime_ns=now, mode=mode)

    def resize(self, inode: Inode, size: int, kills: bool) -> None:
        """Cut a file or let it grow."""
        if size > MAX_BYTES:
            raise refused(errno.EFBIG, "truncate")
        before = self.state.seen(inode).node.size
        if size > before:
            self.state.require_room(size - before)
        self.state.content(inode).resize(size)
        self._changed(inode, size, kills)

    def flush(self, request: Request) -> bytes:
        """Store what was written: on close of a descriptor, and on fsync."""
        if request.inode in self.state.dirty:
            self.state.commit_one(request.inode)
        return b""

    def sync(self, request: Request) -> bytes:
        """Store everything that was written."""
        self.state.commit_each(self.state.dirty)
        return b""

    def fallocate(self, request: Request) -> bytes:
        """Let a file grow to a size, or make a range of it zero bytes."""
        _, offset, length, mode = protocol.FALLOCATE_IN.unpack_from(request.body)
        known = protocol.FALLOC_KEEP_SIZE | protocol.FALLOC_PUNCH_HOLE | protocol.FALLOC_ZERO_RANGE
        if mode & ~known:
            raise refused(errno.EOPNOTSUPP, "fallocate")
        inode, end = request.inode, offset + length
        size = self.state.seen(inode).node.size
        if mode & (protocol.FALLOC_PUNCH_HOLE | protocol.FALLOC_ZERO_RANGE):
            self._zero(inode, offset, min(end, size))
        if end > size and end - size > self.state.free_bytes():
            raise refused(errno.ENOSPC, "fallocate")
        if end > size and not mode & protocol.FALLOC_KEEP_SIZE:
            self.resize(inode, end, kills=False)
        return b""

    def _zero(self, inode: Inode, start: int, end: int) -> None:
        """Write zero bytes over a range; a range to the end of the file is cut and grown."""
        size = self.state.seen(inode).node.size
        if start >= end:
            return
        if end == size:
            self.resize(inode, start, kills=False)
            self.resize(inode, size, kills=False)
            return
        step = 1 << 20
        zeros = memoryview(bytes(step))
        for offset in range(start, end, step):
            self.state.content(inode).write(offset, zeros[: min(step, end - offset)])
            self._changed(inode, size, kills=False)
            self.state.commit_large(inode)
