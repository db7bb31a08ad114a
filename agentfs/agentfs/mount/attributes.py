"""Operations on attributes: modes, owners, times, sizes, extended attributes, and the disk."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from agentfs import directories, nodes, posix, tree
from agentfs.errors import NoAttribute, NotFound
from agentfs.nodes import FILE, Node, View
from agentfs.posix import PREFIX

from . import protocol
from .errors import refused
from .inodes import Found, Inode
from .protocol import Op
from .state import State

if TYPE_CHECKING:
    from .opened import OpenFiles
    from .server import Handler, Request

_NS = 1_000_000_000
_XATTR_CREATE, _XATTR_REPLACE = 1, 2
_BLOCK = 4096
_NAME_BYTES = 255
_PLENTY = 1 << 40
_OTHERS = (
    protocol.FATTR_MODE | protocol.FATTR_UID | protocol.FATTR_GID | protocol.FATTR_ATIME
    | protocol.FATTR_MTIME
)  # fmt: skip
_FIELDS: tuple[str, ...] = (
    "valid", "_", "fh", "size", "_owner", "atime", "mtime", "_ctime", "atime_ns", "mtime_ns",
    "_ctime_ns", "mode", "_unused", "uid", "gid", "_unused2",
)  # fmt: skip


class Attributes:
    """The operations on attributes of one mount."""

    def __init__(self, state: State, files: OpenFiles) -> None:
        """Work on the state of a mount."""
        self.state = state
        self.files = files

    def handlers(self) -> dict[int, Handler]:
        """Return what answers which question."""
        return {
            Op.GETATTR: self.getattr, Op.SETATTR: self.setattr, Op.STATFS: self.statfs,
            Op.GETXATTR: self.getxattr, Op.SETXATTR: self.setxattr,
            Op.LISTXATTR: self.listxattr, Op.REMOVEXATTR: self.removexattr,
        }  # fmt: skip

    def getattr(self, request: Request) -> bytes:
        """Return the attributes of an inode."""
        return self.state.attr_out(request.inode)

    # -- changing attributes --------------------------------------------------------------

    def setattr(self, request: Request) -> bytes:
        """Change mode, owner, times or size."""
        numbers: tuple[int, ...] = protocol.SETATTR_IN.unpack_from(request.body)
        asked: dict[str, int] = dict(zip(_FIELDS, numbers, strict=True))
        valid, inode = asked["valid"], request.inode
        if valid & protocol.FATTR_SIZE:
            self.files.resize(inode, asked["size"], bool(valid & protocol.FATTR_KILL_SUIDGID))
        if valid & _OTHERS or not valid:
            self.change(inode, _operation(valid), partial(self._wanted, asked))
        if valid & protocol.FATTR_SIZE and not inode.users:
            self.state.commit([inode])
        return self.state.attr_out(inode)

    def _wanted(self, asked: dict[str, int], node: Node) -> dict[str, Any]:
        """Return what a question makes of a node's mode, time and extended attributes."""
        valid, extra = asked["valid"], posix.read(node.xattrs)
        changed: dict[str, Any] = {}
        if valid & protocol.FATTR_MODE:
            changed["mode"] = asked["mode"] & 0o7777
        # Nothing at all is what is left of a chown that changes neither id.
        if valid & (protocol.FATTR_UID | protocol.FATTR_GID) or not valid:
            extra = self._owned(extra, asked)
            if node.kind == FILE and not valid & protocol.FATTR_MODE:
                changed["mode"] = posix.without_set_id(node.mode)
        if valid & (protocol.FATTR_ATIME | protocol.FATTR_MTIME):
            mtime, atime = self._times(node, extra, asked)
            changed["mtime_ns"] = mtime
            extra = extra._replace(atime_ns=None if atime == mtime else atime)
        return changed | {"xattrs": posix.write(node.xattrs, extra)}

    def _owned(self, extra: posix.Extra, asked: dict[str, int]) -> posix.Extra:
        if asked["valid"] & protocol.FATTR_UID:
            uid = asked["uid"]
            extra = extra._replace(uid=None if uid == self.state.uid else uid)
        if asked["valid"] & protocol.FATTR_GID:
            gid = asked["gid"]
            extra = extra._replace(gid=None if gid == self.state.gid else gid)
        return extra

    @staticmethod
    def _times(node: Node, extra: posix.Extra, asked: dict[str, int]) -> tuple[int, int]:
        """Return the new times of last modification and access."""
        valid, now = asked["valid"], time.time_ns()
        mtime = node.mtime_ns
        atime = mtime if extra.atime_ns is None else extra.atime_ns
        if valid & protocol.FATTR_MTIME:
            mtime = now if valid & protocol.FATTR_MTIME_NOW else _ns(asked, "mtime")
        if valid & protocol.FATTR_ATIME:
            atime = now if valid & protocol.FATTR_ATIME_NOW else _ns(asked, "atime")
        return mtime, atime

    def change(
        self, inode: Inode, operation: str, wanted: Callable[[Node], dict[str, Any]]
    ) -> None:
        """Set attributes: with the writes that wait for a file, or in an operation of their own.

        `wanted` says what becomes of a node's fields; it is asked about what is stored by then.
        """
        if inode.content is not None or not (inode.names or inode is self.state.table.root):
            node = self.state.seen(inode).node
            self.state.change_node(inode, ctime_ns=time.time_ns(), **wanted(node))
            return
        path = self.state.path(inode)
        with self.state.changing() as view:
            place = directories.locate(view, path, follow=False)
            node = place.node
            if node is None or not self.state.table.is_same(inode, State.found_at(place, node)):
                inode.found = None
                raise refused(errno.ESTALE, path)
            fields = {"mode": node.mode, "mtime_ns": node.mtime_ns, "xattrs": node.xattrs}
            tree.set_attributes(view, place, node, operation, **(fields | wanted(node)))
            found = self._now(view, path)
        if inode.kept == node.id and node.kind == FILE:
            inode.kept = found.node.id
        inode.see(found)

    def _now(self, view: View, path: str) -> Found:
        found = self.state.find(view, path)
        if found is None:
            raise NotFound(path)
        return found

    # -- extended attributes --------------------------------------------------------------

    def getxattr(self, request: Request) -> bytes:
        """Return one extended attribute, or its size."""
        (size,) = protocol.SIZE_IN.unpack_from(request.body)
        name = request.name(protocol.SIZE_OUT.size)
        _require_known(name)
        value = (
            None
            if name.startswith(PREFIX)
            else _values(self.state.seen(request.inode).node).get(name)
        )
        if value is None:
            raise NoAttribute(name)
        return _sized(bytes.fromhex(value), size)

    def listxattr(self, request: Request) -> bytes:
        """Return the names of the extended attributes, or their size."""
        (size,) = protocol.SIZE_IN.unpack_from(request.body)
        names = (
            each
            for each in _values(self.state.seen(request.inode).node)
            if not each.startswith(PREFIX)
        )
        return _sized(b"".join(os.fsencode(each) + b"\0" for each in names), size)

    def setxattr(self, request: Request) -> bytes:
        """Set one extended attribute."""
        size, flags = protocol.SETXATTR_IN.unpack_from(request.body)
        name = request.name(protocol.SETXATTR_IN.size)
        _require_known(name)
        if name.startswith(PREFIX):
            raise refused(errno.EPERM, name)
        start = protocol.SETXATTR_IN.size + len(os.fsencode(name)) + 1
        value = bytes(request.body[start : start + size]).hex()

        def wanted(node: Node) -> dict[str, Any]:
            values = _values(node)
            if flags & _XATTR_CREATE and name in values:
                raise refused(errno.EEXIST, name)
            if flags & _XATTR_REPLACE and name not in values:
                raise NoAttribute(name)
            return {"xattrs": nodes.dump_xattrs(values | {name: value})}

        self.change(request.inode, "setxattr", wanted)
        return b""

    def removexattr(self, request: Request) -> bytes:
        """Remove one extended attribute."""
        name = request.name()

        def wanted(node: Node) -> dict[str, Any]:
            values = _values(node)
            if name.startswith(PREFIX) or values.pop(name, None) is None:
                raise NoAttribute(name)
            return {"xattrs": nodes.dump_xattrs(values)}

        self.change(request.inode, "removexattr", wanted)
        return b""

    # -- the disk -------------------------------------------------------------------------

    def statfs(self, request: Request) -> bytes:
        """Return what is free: on the volume's disk, or less where the branch has a quota."""
        disk = os.statvfs(self.state.fs.path)
        scale = disk.f_frsize
        total, free = disk.f_blocks * scale, disk.f_bavail * scale
        names, names_free = disk.f_files or _PLENTY, disk.f_ffree or _PLENTY
        limits = self.state.limits()
        if limits is not None and limits.max_bytes is not None:
            total = limits.max_bytes
            free = min(free, max(limits.max_bytes - limits.used_bytes, 0))
        if limits is not None and limits.max_files is not None:
            names, names_free = limits.max_files, max(limits.max_files - limits.used_files, 0)
        return protocol.STATFS_OUT.pack(
            total // _BLOCK, free // _BLOCK, free // _BLOCK, names, names_free, _BLOCK,
            _NAME_BYTES, _BLOCK, 0,
        )  # fmt: skip


def _operation(valid: int) -> str:
    """Return what the journal calls a change of attributes."""
    if valid & (protocol.FATTR_ATIME | protocol.FATTR_MTIME):
        return "utime"
    return "chmod" if valid & protocol.FATTR_MODE else "chown"


def _values(node: Node) -> dict[str, str]:
    return json.loads(node.xattrs) if node.xattrs else {}


def _ns(asked: dict[str, int], which: str) -> int:
    return asked[which] * _NS + asked[f"{which}_ns"]


def _require_known(name: str) -> None:
    """Refuse access control lists, which this file system does not have."""
    if name.startswith("system."):
        raise refused(errno.EOPNOTSUPP, name)


def _sized(value: bytes, size: int) -> bytes:
    """Return a value, or its size when that is asked for.

    Raises:
        OSError: it does not fit.
    """
    if not size:
        return protocol.SIZE_OUT.pack(len(value), 0)
    if len(value) > size:
        raise refused(errno.ERANGE, "xattr")
    return value
