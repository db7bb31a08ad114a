"""What a host tree is, for tests that ask whether something changed it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything about a tree but access times: bytes, kinds, modes, times, inodes."""
    found: dict[str, tuple[object, ...]] = {}
    waiting = [str(root)]
    while waiting:
        path = waiting.pop()
        info = os.lstat(path)
        content: object = None
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            content = Path(path).read_bytes()
        elif stat.S_ISDIR(info.st_mode):
            waiting += [os.path.join(path, each) for each in os.listdir(path)]
        found[path] = (
            info.st_mode, info.st_ino, info.st_nlink, info.st_uid, info.st_gid, info.st_mtime_ns,
            info.st_ctime_ns, content,
        )  # fmt: skip
    return found
