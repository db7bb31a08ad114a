"""SQL of the trust gate in kernel.db: calls, and which secrets were seen; installs its tables."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from fmos.storage.database import Database
from fmos.types import Principal
from fmos_trust.redaction.exact import Known
from fmos_trust.redaction.store import RedactionStore

_MIGRATIONS = (
    "schema.sql",
    "schema_0002_revisions.sql",
    "schema_0003_seals.sql",
    "schema_0004_calls.sql",
    "schema_0005_consent.sql",
)
_OPEN_CALL = """
INSERT INTO trust_call(tenant, agent, operation, digest, state, at_ns) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(tenant, agent, operation) DO UPDATE
    SET digest = excluded.digest, state = excluded.state WHERE state = 'asked'
"""
_CALL = "SELECT digest, state FROM trust_call WHERE tenant = ? AND agent = ? AND operation = ?"
_SETTLE_CALL = """
UPDATE trust_call SET state = 'settled'
WHERE tenant = ? AND agent = ? AND operation = ? AND state <> 'settled'
"""
_REOPEN_CALL = (
    "UPDATE trust_call SET state = 'open' WHERE tenant = ? AND agent = ? AND operation = ?"
)

_FORGET_CALLS = "DELETE FROM trust_call WHERE at_ns < ?"


class KnownCall(NamedTuple):
    """A call that the gate knows: the keyed digest of what was asked, and what became of it."""

    digest: str
    state: str


class TrustStore:
    """The gate's tables. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        folder = resources.files("fmos_trust")
        steps = [folder.joinpath(name).read_text(encoding="utf-8") for name in _MIGRATIONS]
        database.install("trust", steps)
        self._redactions = RedactionStore(database)

    def secrets(self, tenant: str, lineage: Sequence[str]) -> Known:
        """Return what an agent and the agents it was forked from have seen."""
        return self._redactions.known(tenant, lineage)

    def note_call(self, who: Principal, operation: str, call: KnownCall, now_ns: int) -> bool:
        """Note a call that may run or is asked about, and return whether none had its id."""
        row = (who.tenant, who.agent_key, operation, *call, now_ns)
        return self._database.execute(_OPEN_CALL, row) == 1

    def call(self, who: Principal, operation: str) -> KnownCall | None:
        """Return what is known of a call."""
        rows = self._database.query(_CALL, (who.tenant, who.agent_key, operation))
        return KnownCall(*rows[0]) if rows else None

    def settle_call(self, who: Principal, operation: str) -> bool:
        """Note that a call has ended, and return whether it had not."""
        return self._database.execute(_SETTLE_CALL, (who.tenant, who.agent_key, operation)) == 1

    def reopen_call(self, who: Principal, operation: str) -> None:
        """Take back that a call has ended: its outcome could not be noted."""
        self._database.execute(_REOPEN_CALL, (who.tenant, who.agent_key, operation))

    def forget_calls(self, before_ns: int) -> None:
        """Forget the calls of before a time."""
        self._database.execute(_FORGET_CALLS, (before_ns,))
