"""Journal rows as they may leave the home: without texts, and without what looks like a secret.

The journal holds no argument and no error text (see record.py). What it does hold in words is
passed on only where it is an identifier; everything else becomes a keyed digest, so that equal
texts can be told to be equal by who reads many rows, and nothing more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from agentfs.types import JournalRow
from fmos.redaction import redacted

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/@+~<>\[\]-]{0,200}\Z")
_PATH_FIELDS = ("path", "path2")
#: Rows of this module's own kind hold public keys and signatures only.
_OWN = "audit."
#: Events of an upper layer have a dot in their name; of those, these are the file system's.
_FILESYSTEM = ("gc.", "kv.", "fsck.")

Digest = Callable[[bytes], str]
"""Returns a keyed digest in hex."""


class Shown(NamedTuple):
    """A row's fields as they are shown, and whether anything in them was hidden."""

    fields: dict[str, Any]
    is_masked: bool


def shown(row: JournalRow, digest: Digest) -> Shown:
    """Return a journal row as it may leave the home."""
    plain = {
        "seq": row.seq, "time_ns": row.time_ns, "principal": row.principal, "branch": row.branch,
        "operation": row.operation, "path": row.path, "path2": row.path2, "before": row.before,
        "after": row.after, "detail": row.detail,
    }  # fmt: skip
    if row.operation.startswith(_OWN):
        return Shown(plain, False)
    is_event = "." in row.operation and not row.operation.startswith(_FILESYSTEM)
    mask = _Mask(digest, keeps_identifiers=is_event)
    safe = {
        **plain,
        **{name: redacted(plain[name]) for name in ("principal", "branch", *_PATH_FIELDS)},
        "detail": mask.value(row.detail),
    }
    return Shown(safe, safe != plain)


class _Mask:
    """Replaces what is no identifier in a JSON value."""

    def __init__(self, digest: Digest, *, keeps_identifiers: bool) -> None:
        self._digest = digest
        self._keeps_identifiers = keeps_identifiers

    def value(self, value: Any) -> Any:
        """Return a JSON value whose texts may leave the home."""
        if isinstance(value, str):
            return self._text(value) if value else value
        if isinstance(value, dict):
            return {self._key(str(key)): self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def _text(self, text: str) -> str:
        if self._keeps_identifiers and _IDENTIFIER.match(text):
            return redacted(text)
        return self._hidden(text)

    def _key(self, text: str) -> str:
        return redacted(text) if _IDENTIFIER.match(text) else self._hidden(text)

    def _hidden(self, text: str) -> str:
        return f"<hidden:{self._digest(text.encode('utf-8', 'surrogatepass'))[:16]}>"


def row_hash(previous: bytes, fields: dict[str, Any]) -> bytes:
    """Return the hash that a row of these fields has in the chain, as agentfs's SPEC.md says."""
    detail = json.dumps(fields["detail"], sort_keys=True, separators=(",", ":"))
    text = json.dumps({**fields, "detail": detail}, sort_keys=True, separators=(",", ":"))
    return sha256(previous + text.encode("ascii")).digest()
