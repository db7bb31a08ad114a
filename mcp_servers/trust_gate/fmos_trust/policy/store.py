"""All SQL of trust policies: how often tools were let through, for rules that count."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from fmos.storage.database import Database
from fmos.types import Principal

_COUNT = """
INSERT INTO trust_policy_count(tenant, agent, session, tool, day, calls) VALUES (?, ?, ?, ?, ?, 1)
ON CONFLICT(tenant, agent, tool, day, session) DO UPDATE SET calls = calls + 1
"""
_COUNTED = """
SELECT COALESCE(SUM(CASE WHEN session = ?4 THEN calls END), 0),
    COALESCE(SUM(CASE WHEN day = ?5 THEN calls END), 0)
FROM trust_policy_count WHERE tenant = ?1 AND agent = ?2 AND tool = ?3
"""
_FORGET = "DELETE FROM trust_policy_count WHERE day < ?"


class CountStore:
    """The counts of one home. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos_trust.policy").joinpath("schema.sql")
        database.install("trust_policy", [schema.read_text(encoding="utf-8")])

    def count(self, who: Principal, tool: str, day: str) -> None:
        """Count one call that was let through, in the current transaction if there is one."""
        row = (who.tenant, who.agent_key, who.session, tool, day)
        self._database.execute(_COUNT, row)

    def counted(
        self, who: Principal, lineage: Sequence[str], tool: str, day: str
    ) -> tuple[int, int]:
        """Return the calls of a tool in the session and on the day, ancestors' included."""
        session = today = 0
        for agent in lineage:
            rows = self._database.query(_COUNTED, (who.tenant, agent, tool, who.session, day))
            session += rows[0][0]
            today += rows[0][1]
        return session, today

    def forget(self, before_day: str) -> None:
        """Forget the counts of before a day, such as `2026-11-22`."""
        self._database.execute(_FORGET, (before_day,))
