"""POSIX data that a node has no column for: owner, access time and special files.

They are kept in a node's extended attributes under reserved names, and only where they differ from
what is assumed, so that ordinary files pay nothing.
"""

from __future__ import annotations

import json
import os
import stat
from functools import lru_cache
from typing import NamedTuple

from .errors import InvalidArgument
from .types import Kind

PREFIX = "agentfs."
"""Extended attributes whose names begin so belong to this library, and no door shows them."""
ATIME = "agentfs.atime"
_UID, _GID, _SPECIAL = "agentfs.uid", "agentfs.gid", "agentfs.special"
SPECIAL: dict[int, Kind] = {
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "character", stat.S_IFBLK: "block",
}  # fmt: skip
TYPES: dict[Kind, int] = {
    "file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "character": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}  # fmt: skip
MAX_ID = 2**32 - 2


class Extra(NamedTuple):
    """What the reserved attributes of a node say; None and "" stand for what is assumed.

    `uid` and `gid` are those of whoever looks, `atime_ns` the time of the last change.
    """

    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    special: Kind | None = None
    device: int = 0


NOTHING = Extra()


@lru_cache(maxsize=1024)
def read(xattrs: str | None) -> Extra:
    """Return what the stored extended attributes of a node say."""
    if xattrs is None or PREFIX not in xattrs:
        return NOTHING
    values: dict[str, str] = json.loads(xattrs)
    kind, device = _special(_text(values.get(_SPECIAL)))
    uid, gid, atime = (_text(values.get(each)) for each in (_UID, _GID, ATIME))
    return Extra(
        int(uid) if uid else None, int(gid) if gid else None, int(atime) if atime else None,
        kind, device,
    )  # fmt: skip


def _text(stored: str | None) -> str:
    return bytes.fromhex(stored).decode("ascii") if stored else ""


def _special(text: str) -> tuple[Kind | None, int]:
    """Return the kind and the device number of `fifo`, `socket`, `character 1:3` or `block 8:0`."""
    name, _, device = text.partition(" ")
    kind: Kind | None = next((each for each in SPECIAL.values() if each == name), None)
    major, _, minor = device.partition(":")
    return kind, os.makedev(int(major), int(minor)) if device else 0


def write(xattrs: str | None, extra: Extra) -> str | None:
    """Return extended attributes, as stored, that say this and keep all others."""
    if extra == read(xattrs):
        return xattrs
    values: dict[str, str] = json.loads(xattrs) if xattrs else {}
    special = extra.special or ""
    if extra.special in ("character", "block"):
        special += f" {os.major(extra.device)}:{os.minor(extra.device)}"
    told = {_UID: extra.uid, _GID: extra.gid, ATIME: extra.atime_ns, _SPECIAL: special or None}
    for name, value in told.items():
        values.pop(name, None)
        if value is not None:
            values[name] = str(value).encode("ascii").hex()
    return json.dumps(values, sort_keys=True, separators=(",", ":")) if values else None


def lasting(xattrs: str | None) -> str | None:
    """Return stored attributes without the access time, which is no change of a file."""
    if xattrs is None or ATIME not in xattrs:
        return xattrs
    return write(xattrs, read(xattrs)._replace(atime_ns=None))


def without_set_id(mode: int) -> int:
    """Return permission bits without set-user-id, and without set-group-id where that counts."""
    return mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))


def kind_of(mode: int, path: str) -> Kind:
    """Return the kind of node that the type bits of a mode ask for; none is a file.

    Raises:
        InvalidArgument: they ask for a directory, a link or something unknown.
    """
    bits = stat.S_IFMT(mode)
    if bits in (0, stat.S_IFREG):
        return "file"
    if bits not in SPECIAL:
        raise InvalidArgument(path, "mknod makes files, FIFOs, sockets and device nodes")
    return SPECIAL[bits]


def checked_id(number: int, path: str) -> int:
    """Return a user or group id that can be stored.

    Raises:
        InvalidArgument: it is out of range.
    """
    if not 0 <= number <= MAX_ID:
        raise InvalidArgument(path, f"a user or group id is 0 to {MAX_ID}")
    return number
