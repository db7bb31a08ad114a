"""All SQL of recordings: tables of this layer in a tenant's volume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

import zstandard
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from agentfs import AgentFS
from fmos.replay.encryption import SessionCipher

#: Texts of more characters than this are kept once in a session, packed.
LONG_TEXT = 2_048

_TEXT = "\0text"
_PAGE = 200
_LEVEL = 1
_BEGIN = "INSERT OR IGNORE INTO ext_recording_session VALUES (?, ?, ?, ?, ?, ?)"
_ADD = """
INSERT INTO ext_recording_entry(session, time_ns, seq, name, operation, content)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM ext_recording_session WHERE id = ?1)
"""
_ADD_TEXT = "INSERT OR IGNORE INTO ext_recording_text VALUES (?, ?, ?)"
_GET_TEXT = "SELECT content FROM ext_recording_text WHERE session = ? AND digest = ?"
_PUT_PREMISE = "INSERT OR REPLACE INTO ext_recording_premise VALUES (?, ?, ?)"
_PREMISES = "SELECT name, digest FROM ext_recording_premise WHERE session = ?"
_SALT = "SELECT salt FROM ext_recording_session WHERE id = ?"
_NAMED = """
SELECT id, branch, principal, session, started_ns, salt FROM ext_recording_session
WHERE session = ? ORDER BY started_ns, id
"""
_ALL = """
SELECT id, branch, principal, session, started_ns, salt FROM ext_recording_session
ORDER BY started_ns, id
"""
_ENTRIES = """
SELECT id, time_ns, seq, name, operation, content FROM ext_recording_entry
WHERE session = ? AND id > ? ORDER BY id LIMIT ?
"""
_OLD = "SELECT id FROM ext_recording_session WHERE started_ns < ? ORDER BY started_ns LIMIT ?"
_FORGET = tuple(
    f"DELETE FROM ext_recording_{table} WHERE {column} = ?"
    for table, column in (
        ("entry", "session"),
        ("text", "session"),
        ("premise", "session"),
        ("session", "id"),
    )
)


class Recorded(NamedTuple):
    """One recorded session of a volume."""

    id: int
    branch: str
    principal: str
    session: str
    started_ns: int
    salt: bytes


class Entry(NamedTuple):
    """One thing that was recorded, long texts filled in; None where the key does not open it."""

    number: int
    time_ns: int
    seq: int | None
    name: str
    operation: str
    content: dict[str, Any] | None


class RecordingStore:
    """The recordings in one volume."""

    def __init__(self, volume: AgentFS) -> None:
        schema = resources.files("fmos.replay").joinpath("schema.sql").read_text(encoding="utf-8")
        self._tables = volume.extension("recording", schema)

    @staticmethod
    def key(branch: str, principal: str) -> int:
        """Return the id of a session: the same in every process, also after a rollback."""
        digest = hashlib.sha256(f"{branch}\0{principal}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def begin(self, recorded: Recorded) -> None:
        """Note a session in the current transaction."""
        self._tables.execute(_BEGIN, recorded)

    def salt(self, key: int) -> bytes | None:
        """Return the salt of a recorded session's key, or None if there is no such session."""
        rows = self._tables.query(_SALT, (key,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    def add(
        self,
        key: int,
        cipher: SessionCipher,
        content: dict[str, Any],
        *,
        time_ns: int,
        seq: int | None,
        name: str,
        operation: str,
    ) -> None:
        """Add an entry in the current transaction, unless the session was forgotten meanwhile."""
        texts: dict[str, bytes] = {}
        plain = _as_json(content)
        if len(plain) > LONG_TEXT:
            plain = json.dumps(_packed(json.loads(plain), cipher, texts)).encode()
        for digest, text in texts.items():
            blob = cipher.encrypt(zstandard.compress(text, _LEVEL))
            self._tables.execute(_ADD_TEXT, (key, digest, blob))
        encrypted = cipher.encrypt(plain)
        self._tables.execute(_ADD, (key, time_ns, seq, name, operation, encrypted))

    def premises(self, key: int) -> dict[str, str]:
        """Return the digests of what was recorded as true of a session."""
        return dict(self._tables.query(_PREMISES, (key,)))  # type: ignore[arg-type]

    def put_premise(self, key: int, name: str, digest: str) -> None:
        """Remember the digest of a premise in the current transaction."""
        self._tables.execute(_PUT_PREMISE, (key, name, digest))

    def named(self, session: str = "") -> list[Recorded]:
        """Return the recorded sessions of a name, or all, oldest first."""
        rows = self._tables.query(_NAMED, (session,)) if session else self._tables.query(_ALL)
        return [Recorded(*row) for row in rows]  # type: ignore[arg-type]

    def entries(self, key: int, cipher: SessionCipher | None) -> Iterator[Entry]:
        """Yield what was recorded of a session, in order, a page per read."""
        after = 0
        while rows := self._tables.query(_ENTRIES, (key, after, _PAGE)):
            for number, time_ns, seq, name, operation, content in rows:
                opened = cipher.decrypt(content) if cipher is not None else None  # type: ignore[arg-type]
                filled = None
                if cipher is not None and opened is not None:
                    filled = self._filled(key, cipher, json.loads(opened))
                yield Entry(number, time_ns, seq, name, operation, filled)  # type: ignore[arg-type]
            after = rows[-1][0]  # type: ignore[assignment]

    def forget(self, key: int) -> None:
        """Remove everything of a session, in the current transaction."""
        for statement in _FORGET:
            self._tables.execute(statement, (key,))

    def older(self, than_ns: int, limit: int) -> list[int]:
        """Return sessions that began before a time, oldest first."""
        return [row[0] for row in self._tables.query(_OLD, (than_ns, limit))]  # type: ignore[misc]

    def _filled(self, key: int, cipher: SessionCipher, value: Any) -> Any:
        if isinstance(value, dict):
            if len(value) == 1 and _TEXT in value:
                return self._text(key, cipher, value[_TEXT])
            return {name: self._filled(key, cipher, each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._filled(key, cipher, each) for each in value]
        return value

    def _text(self, key: int, cipher: SessionCipher, digest: str) -> str:
        rows = self._tables.query(_GET_TEXT, (key, digest))
        opened = cipher.decrypt(rows[0][0]) if rows else None  # type: ignore[arg-type]
        if opened is None:
            return ""
        return zstandard.decompress(opened).decode("utf-8", "surrogatepass")


def _as_json(content: dict[str, Any]) -> bytes:
    """Return JSON values and records as JSON, lone surrogates included."""
    try:
        return to_json(content)
    except PydanticSerializationError:
        return json.dumps(to_jsonable_python(content)).encode("ascii")


def _packed(value: Any, cipher: SessionCipher, texts: dict[str, bytes]) -> Any:
    """Return a JSON value whose long texts are replaced by their digests."""
    if isinstance(value, str):
        if len(value) <= LONG_TEXT:
            return value
        text = value.encode("utf-8", "surrogatepass")
        digest = cipher.digest(text)
        texts[digest] = text
        return {_TEXT: digest}
    if isinstance(value, dict):
        return {name: _packed(each, cipher, texts) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(each, cipher, texts) for each in value]
    return value
