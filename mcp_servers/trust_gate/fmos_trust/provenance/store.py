"""All SQL of explanations: a table in kernel.db."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from fmos.entered.store import Place
from fmos.storage.database import Database

_FIELDS = "tenant, agent, session, operation, approval, decision, sealed, at_ns"
_PUT = f"INSERT INTO trust_why({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FOUND = f"SELECT {_FIELDS} FROM trust_why WHERE tenant = ?1 AND "
_OPERATION = _FOUND + "operation = ?2 ORDER BY id DESC LIMIT 1"
_APPROVAL = _FOUND + "approval = ?2 AND approval <> '' ORDER BY id DESC LIMIT 1"
_LAST = (
    _FOUND + "agent = ?2 AND (?3 = '' OR session = ?3) AND decision = 'deny'"
    " ORDER BY id DESC LIMIT 1"
)
_FORGET = "DELETE FROM trust_why WHERE at_ns < ?"


class Why(NamedTuple):
    """What was kept of a verdict."""

    tenant: str
    agent: str
    session: str
    operation: str
    approval: str
    decision: str
    sealed: bytes
    at_ns: int

    @property
    def place(self) -> Place:
        """The session it was said in."""
        return Place(self.tenant, self.agent, self.session)


class WhyStore:
    """The explanations of a home. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        folder = resources.files("fmos_trust.provenance")
        database.install("trust_why", [folder.joinpath("schema.sql").read_text("utf-8")])

    def put(self, why: Why) -> None:
        """Keep why a call was stopped."""
        self._database.execute(_PUT, why)

    def find(self, tenant: str, id: str) -> Why | None:
        """Return the last that was said of an operation, or of an approval."""
        for sql in (_OPERATION, _APPROVAL):
            rows = self._database.query(sql, (tenant, id))
            if rows:
                return Why(*rows[0])
        return None

    def last_denial(self, place: Place) -> Why | None:
        """Return the last denial of a session; of all the agent's if the session has no name."""
        rows = self._database.query(_LAST, place)
        return Why(*rows[0]) if rows else None

    def forget(self, before_ns: int) -> None:
        """Forget what was said before a time."""
        self._database.execute(_FORGET, (before_ns,))
