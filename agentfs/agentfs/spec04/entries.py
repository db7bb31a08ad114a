"""What a name and an inode of an AgentFS 0.4 volume say, and whether that can be right."""

from __future__ import annotations

import os
import stat

from agentfs import files, posix
from agentfs.paths import NAME_BYTES, PATH_BYTES, is_system

from .source import Entry

KEPT_MODE = 0o7777
_KINDS = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, *posix.SPECIAL}
_NS = 1_000_000_000
_MAX_TIME_S = 2**63 // _NS - 1


class Bad(Exception):
    """Something in the volume that cannot be right."""


def kind(entry: Entry) -> int:
    """Return the type bits of an inode."""
    return stat.S_IFMT(entry.mode)


def wrong_name(name: bytes, path: str) -> str | None:
    """Return why a path cannot have a name, or None."""
    if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
        return "it is no name that a path can have"
    if len(name) > NAME_BYTES or len(os.fsencode(path)) > PATH_BYTES:
        return f"a name has at most {NAME_BYTES} bytes, a path {PATH_BYTES}"
    if is_system(path):
        return "/.fmos belongs to the memory, context and checkpoint servers"
    return None


def wrong_inode(entry: Entry) -> str | None:
    """Return why an inode cannot be right, or None."""
    if not isinstance(entry.ino, int) or not isinstance(entry.mode, int):
        return f"its inode {entry.ino!r} is missing"
    if not 0 <= entry.mode < 2**32:
        return f"its mode is {entry.mode}"
    if kind(entry) not in _KINDS:
        return "it is no kind of file that there is"
    if not isinstance(entry.size, int) or not 0 <= entry.size <= files.MAX_BYTES:
        return f"its size is {entry.size!r}"
    times = entry.mtime, entry.mtime_nsec
    if not all(isinstance(each, int) for each in times) or abs(entry.mtime) > _MAX_TIME_S:
        return f"its time is {entry.mtime!r}"
    return None


def mtime_ns(entry: Entry) -> int:
    """Return the time of last change."""
    below = entry.mtime_nsec if 0 <= entry.mtime_nsec < _NS else 0
    return entry.mtime * _NS + below
