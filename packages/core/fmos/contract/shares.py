"""Which sessions a share of all sessions means: the one routing rule of every canary.

It depends on names only, so that any process gives a session the same answer for as long as the
canary lasts.
"""

from __future__ import annotations

import hashlib


def in_share(label: str, share: float, *, agent: str, session: str) -> bool:
    """Return whether a session is among the share that gets `label`; without a session, none is."""
    if not session:
        return False
    key = "\0".join((agent, session, label)).encode()
    point = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
    return point < share
