"""Labels of files in the agent's volume: an extended attribute, written when a governed call ends.

What the attribute says makes a file worse at once; better only while its seal fits the bytes of the
file, so that neither an agent nor a later writer can lend a file the user's word.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from hmac import compare_digest
from typing import Any

from agentfs import AgentFS
from agentfs.errors import AgentFSError
from fmos.audit.keys import AuditKeys
from fmos.canonical import canonical_json
from fmos.entered.labels import UNKNOWN, Labels

ATTRIBUTE = "user.fmos.labels"

_LARGEST = 16 << 20
_PURPOSE = "labels of a file"


def label_file(fs: AgentFS, keys: AuditKeys, path: str, labels: Labels, source: str) -> bool:
    """Write the labels of a file that is there, unless it has them; return whether it is there.

    `source` names what it was made from: the keyed digest of an operation's id, no text.
    """
    content = _content(fs, path)
    if content is None:
        return False
    said = {**labels.model_dump(), "source": source, "content": content}
    sealed = {**said, "seal": _seal(keys, said)}
    value = json.dumps(sealed, sort_keys=True).encode("ascii")
    if _attribute(fs, path) != value:
        fs.setxattr(path, ATTRIBUTE, value)
    return True


def labels_of_file(fs: AgentFS, keys: AuditKeys, path: str) -> Labels | None:
    """Return the labels of a file; None where it has none, UNKNOWN integrity where they are old."""
    found = _parsed(_attribute(fs, path))
    labels = Labels.of(found) if found is not None else None
    if found is None or labels is None:
        return None
    said = {name: value for name, value in found.items() if name != "seal"}
    fits = compare_digest(_seal(keys, said), str(found.get("seal", "")))
    if fits and found.get("content") == _content(fs, path):
        return labels
    return labels.joined(UNKNOWN)


def _attribute(fs: AgentFS, path: str) -> bytes | None:
    with suppress(AgentFSError, OSError, ValueError):
        return fs.getxattr(path, ATTRIBUTE)
    return None


def _parsed(value: bytes | None) -> dict[str, Any] | None:
    with suppress(ValueError):
        found = json.loads(value) if value else None
        return found if isinstance(found, dict) else None
    return None


def _content(fs: AgentFS, path: str) -> str | None:
    """Return the SHA-256 of a file; empty where it is too large to be read for this."""
    with suppress(AgentFSError, OSError, ValueError):
        if fs.is_file(path):
            large = fs.stat(path).size > _LARGEST
            return "" if large else hashlib.sha256(fs.read(path)).hexdigest()
    return None


def _seal(keys: AuditKeys, said: dict[str, Any]) -> str:
    return keys.seal(_PURPOSE, canonical_json(said))
