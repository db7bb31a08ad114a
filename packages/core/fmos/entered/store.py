"""All SQL of what entered the sessions: tables in kernel.db."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any, NamedTuple

from fmos.entered.labels import Labels
from fmos.storage.database import Database

_BEGIN = """
INSERT OR IGNORE INTO entered_session VALUES (?, ?, ?, ?, '', '', ?)
"""
_SESSION = """
SELECT salt, integrity, confidentiality FROM entered_session
WHERE tenant = ? AND agent = ? AND session = ?
"""
_LABEL = """
UPDATE entered_session SET integrity = ?, confidentiality = ?
WHERE tenant = ? AND agent = ? AND session = ?
"""
_SESSIONS = "SELECT session FROM entered_session WHERE tenant = ? AND agent = ? ORDER BY session"
_ADD = """
INSERT OR IGNORE INTO entered(tenant, agent, session, kind, source, operation, integrity,
    confidentiality, digest, digests, sealed, at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SINCE = """
SELECT id, kind, source, operation, integrity, confidentiality, digests, sealed FROM entered
WHERE tenant = ?1 AND agent = ?2 AND session = ?3 AND id > ?4 AND (kind = 'user' OR id >= (
    SELECT min(id) FROM (SELECT id FROM entered
        WHERE tenant = ?1 AND agent = ?2 AND session = ?3 AND id > ?4 ORDER BY id DESC LIMIT ?5)))
ORDER BY id
"""
_ONE = """
SELECT integrity, confidentiality FROM entered
WHERE tenant = ? AND agent = ? AND session = ? AND digest = ?
"""
_REVISION = """
SELECT coalesce((SELECT max(id) FROM entered), 0), coalesce((SELECT max(id) FROM entered_link), 0)
"""
_LINK = "INSERT INTO entered_link(tenant, agent, other, how) VALUES (?, ?, ?, ?)"
_LINKS = """
SELECT DISTINCT other, how FROM entered_link
WHERE tenant = ? AND agent = ? AND how <> 'forgotten' ORDER BY id
"""
_OLDER = """
SELECT tenant, agent, session, id, kind, source, operation, integrity, confidentiality, digests,
    sealed FROM entered WHERE at_ns < ? AND sealed IS NOT NULL ORDER BY at_ns LIMIT ?
"""
_LET_GO = "UPDATE entered SET sealed = NULL, digests = ? WHERE id = ?"
_FORGET = (
    "DELETE FROM entered WHERE tenant = ? AND agent = ? AND session = ?",
    "DELETE FROM entered_session WHERE tenant = ? AND agent = ? AND session = ?",
)


class Place(NamedTuple):
    """One session of one agent."""

    tenant: str
    agent: str
    session: str


class Row(NamedTuple):
    """One thing that entered a session; `sealed` is None once its time is over."""

    id: int
    kind: str
    source: str
    operation: str
    integrity: str
    confidentiality: str
    digests: bytes
    sealed: bytes | None


class EnteredStore:
    """The tables of what entered. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos.entered").joinpath("schema.sql").read_text("utf-8")
        database.install("entered", [schema])

    def session(self, place: Place) -> tuple[bytes, Labels | None] | None:
        """Return the salt of a session's key and its labels, None as long as nothing entered."""
        rows = self._database.query(_SESSION, place)
        if not rows:
            return None
        salt, integrity, confidentiality = rows[0]
        labels = Labels(integrity=integrity, confidentiality=confidentiality) if integrity else None
        return salt, labels

    def begin(self, place: Place, salt: bytes, now_ns: int) -> bytes:
        """Note a session, unless it is known, and return the salt of its key."""
        with self._database.transaction():
            self._database.execute(_BEGIN, (*place, salt, now_ns))
            return self._database.query(_SESSION, place)[0][0]

    def add(
        self,
        place: Place,
        rows: Iterable[tuple[Any, ...]],
        labels: Labels,
        salt: bytes,
        now_ns: int,
    ) -> bool:
        """Add what entered and join the labels; False, with nothing added, if the salt is another.

        The rows must be sealed under the salt, with which the session begins if it is new.
        """
        with self._database.transaction():
            if self.begin(place, salt, now_ns) != salt:
                return False
            self._database.execute_each(_ADD, [(*place, *row) for row in rows])
            self.label(place, labels)
        return True

    def label(self, place: Place, labels: Labels) -> None:
        """Join labels into a known session's."""
        with self._database.transaction():
            known = self.session(place)
            if known is None:
                return
            joined = labels if known[1] is None else known[1].joined(labels)
            if joined != known[1]:
                self._database.execute(_LABEL, (joined.integrity, joined.confidentiality, *place))

    def since(self, place: Place, after: int, most: int) -> list[Row]:
        """Return what entered a session after a row, in order: the newest, and all of the user."""
        return [Row(*row) for row in self._database.query(_SINCE, (*place, after, most))]

    def labels_of(self, place: Place, digest: bytes) -> Labels | None:
        """Return the labels of a text that entered a session, or None."""
        rows = self._database.query(_ONE, (*place, digest))
        return Labels(integrity=rows[0][0], confidentiality=rows[0][1]) if rows else None

    def sessions(self, tenant: str, agent: str) -> list[str]:
        """Return the sessions of an agent that something entered."""
        return [row[0] for row in self._database.query(_SESSIONS, (tenant, agent))]

    def revision(self) -> tuple[int, int]:
        """Return two numbers, of which one grows with everything that is added or forgotten."""
        return self._database.query(_REVISION)[0]  # type: ignore[return-value]

    def link(self, tenant: str, agent: str, other: str, how: str) -> None:
        """Note that an agent has what entered another one's sessions."""
        self._database.execute(_LINK, (tenant, agent, other, how))

    def links(self, tenant: str, agent: str) -> list[tuple[str, str]]:
        """Return whose entries an agent has, and how it came by them."""
        return [(other, how) for other, how in self._database.query(_LINKS, (tenant, agent))]

    def older(self, than_ns: int, limit: int) -> list[tuple[Place, Row]]:
        """Return what entered before a time and still has its text, the oldest first."""
        rows = self._database.query(_OLDER, (than_ns, limit))
        return [(Place(*row[:3]), Row(*row[3:])) for row in rows]

    def let_go(self, number: int, digests: bytes) -> None:
        """Remove the text of a row; the digests of its values take its place."""
        self._database.execute(_LET_GO, (digests, number))

    def forget(self, place: Place) -> None:
        """Remove all of a session, its key with it."""
        with self._database.transaction():
            for statement in _FORGET:
                self._database.execute(statement, place)
            self.link(place.tenant, place.agent, place.session, "forgotten")
