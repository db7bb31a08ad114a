"""Canonical JSON: the bytes that are hashed and signed. Equal values give equal bytes."""

from __future__ import annotations

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def content_digest(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
