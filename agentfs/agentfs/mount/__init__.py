"""A branch as a directory of the host: FUSE, spoken to the kernel directly.

`Mounted` serves from a thread of this process, `serve` until it is unmounted; see docs/posix.md.
"""

from __future__ import annotations

from .errors import MountError, MountMissing
from .kernel import is_ours, is_stale, unavailable, unmount
from .mounted import Mounted, serve

__all__ = [
    "MountError", "MountMissing", "Mounted", "is_ours", "is_stale", "serve", "unavailable",
    "unmount",
]  # fmt: skip
