"""All SQL of the look-ahead, in kernel.db: calls that failed, and what tools' calls fail for."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from fmos.storage.database import Database
from fmos.types import Principal

_FAILED = """
INSERT INTO trust_failure VALUES (?, ?, ?, ?, ?, 1, 0, ?)
ON CONFLICT DO UPDATE SET kind = excluded.kind, times = times + 1, at_ns = excluded.at_ns
"""
_ANY = "SELECT 1 FROM trust_failure WHERE tenant = ? AND agent = ? AND session = ? LIMIT 1"
_ONE = """
SELECT kind, times, warned, at_ns FROM trust_failure
WHERE tenant = ? AND agent = ? AND session = ? AND digest = ?
"""
_WARNED = """
UPDATE trust_failure SET warned = 1 WHERE tenant = ? AND agent = ? AND session = ? AND digest = ?
"""
_FORGET = "DELETE FROM trust_failure WHERE tenant = ? AND agent = ? AND session = ?"
_FORGET_ONE = _FORGET + " AND digest = ?"
_FORGET_OLD = "DELETE FROM trust_failure WHERE at_ns < ?"
_LEARN = """
INSERT INTO trust_lesson VALUES (?, ?, ?, ?, 1, ?)
ON CONFLICT DO UPDATE SET times = times + 1, advice = excluded.advice, at_ns = excluded.at_ns
"""
_LESSONS = """
SELECT tool, kind, advice, times FROM trust_lesson WHERE tenant = ? AND times >= ?
ORDER BY tool, times DESC, kind
"""
_MANY = "SELECT count(*) FROM trust_lesson WHERE tenant = ?"
_MOST_LESSONS = 10_000


class Failure(NamedTuple):
    """A call of a session that failed: for what kind of error, how often, and when last."""

    kind: str
    times: int
    warned: int
    at_ns: int


class Lesson(NamedTuple):
    """What calls of a tool fail for again and again, with advice for the next one."""

    tool: str
    kind: str
    advice: str
    times: int


class LookAheadStore:
    """What the look-ahead remembers of one home. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos_trust.lookahead").joinpath("schema.sql")
        database.install("trust-lookahead", [schema.read_text(encoding="utf-8")])

    def failed(self, who: Principal, digest: str, kind: str, now_ns: int) -> None:
        """Note that a call failed."""
        self._database.execute(_FAILED, (*_place(who), digest, kind, now_ns))

    def any_failure(self, who: Principal) -> bool:
        """Return whether anything of a session failed that still counts."""
        return bool(self._database.query(_ANY, _place(who)))

    def failure(self, who: Principal, digest: str) -> Failure | None:
        """Return what is known of a call that failed."""
        rows = self._database.query(_ONE, (*_place(who), digest))
        return Failure(*rows[0]) if rows else None

    def warned(self, who: Principal, digest: str) -> None:
        """Note that a repetition was refused: the next one is meant."""
        self._database.execute(_WARNED, (*_place(who), digest))

    def forget(self, who: Principal, digest: str = "") -> None:
        """Forget the failures of a session, or that of one call."""
        if digest:
            self._database.execute(_FORGET_ONE, (*_place(who), digest))
        else:
            self._database.execute(_FORGET, _place(who))

    def forget_old(self, before_ns: int) -> None:
        """Forget failures of before a time."""
        self._database.execute(_FORGET_OLD, (before_ns,))

    def learn(self, tenant: str, tool: str, kind: str, advice: str, now_ns: int) -> None:
        """Note what a call of a tool failed for; only of so many kinds for a tenant."""
        if self._database.query(_MANY, (tenant,))[0][0] < _MOST_LESSONS:
            self._database.execute(_LEARN, (tenant, tool, kind, advice, now_ns))

    def lessons(self, tenant: str, least: int) -> list[Lesson]:
        """Return by tool what calls failed for at least so often."""
        return [Lesson(*row) for row in self._database.query(_LESSONS, (tenant, least))]


def _place(who: Principal) -> tuple[str, str, str]:
    return (who.tenant, who.agent_key, who.session)
