"""All SQL of approvals, in the table `trust_approval` of kernel.db."""

from __future__ import annotations

from typing import Any

from fmos.clock import Uptime
from fmos.storage.database import Database
from fmos.types import Principal
from fmos_trust.model import Approval

_PUT = """
INSERT INTO trust_approval(id, tenant, agent, digest, state, created_ns, expires_ns, boot,
    up_until_ns, branch, document, seal)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_GET = """
SELECT document, state, expires_ns, boot, up_until_ns, expired FROM trust_approval
"""
_ONE = f"{_GET} WHERE id = ?"
_SEAL = "SELECT seal FROM trust_approval WHERE id = ?"
_WAITING = f"""
{_GET} WHERE state = 'pending' AND NOT expired AND expires_ns > ? ORDER BY created_ns, id
"""
_COUNT = """
SELECT COUNT(*) FROM trust_approval
WHERE state = 'pending' AND tenant = ? AND agent = ? AND NOT expired AND expires_ns > ?
"""
_SAME = f"""
{_GET} WHERE digest = ? AND state = 'pending' AND NOT expired AND expires_ns > ?
"""
_REFUSED = f"{_GET} WHERE digest = ? AND state = 'denied' ORDER BY created_ns DESC LIMIT 1"
_CHANGE = """
UPDATE trust_approval
SET state = ?, expires_ns = ?, boot = ?, up_until_ns = ?, branch = ?, document = ?, seal = ?
WHERE id = ? AND state = 'pending' AND NOT expired AND expires_ns > ? AND seal = ?
"""
_REPLACE = "UPDATE trust_approval SET state = 'replaced' WHERE id = ? AND state = ?"
_USE = """
UPDATE trust_approval SET state = 'used'
WHERE id = ? AND state = 'approved' AND digest = ? AND NOT expired AND expires_ns > ?
"""
# A yes does not outlive its boot: after it, only the time of day could say how long ago it was. A
# question does, unless the clock is behind what was seen of it already.
_DUE = """
expired = 0 AND state IN ('pending', 'approved') AND (
    expires_ns <= :now OR (boot = :boot AND up_until_ns <= :up) OR (boot <> :boot AND (
        state = 'approved' OR :now < (SELECT MAX(created_ns) FROM trust_approval))))
"""
_ANY_DUE = f"SELECT 1 FROM trust_approval WHERE {_DUE} LIMIT 1"
_EXPIRE = f"UPDATE trust_approval SET expired = 1 WHERE {_DUE}"
_ENDED = f"""
{_GET} WHERE branch <> '' AND (expired OR state IN ('denied', 'replaced', 'used'))
"""
_NO_BRANCH = "UPDATE trust_approval SET branch = '' WHERE id = ?"
_LIVE_BRANCHES = """
SELECT branch FROM trust_approval WHERE branch <> '' AND tenant = ?
"""
_SHOWS = """
SELECT 1 FROM trust_approval
WHERE branch = ? AND id <> ? AND NOT expired AND state IN ('pending', 'approved') LIMIT 1
"""
_FORGET = """
DELETE FROM trust_approval
WHERE expires_ns < ? AND branch = '' AND (expired OR state NOT IN ('pending', 'approved'))
"""


class ApprovalStore:
    """The approvals of one home. Thread-safe as the database is; TrustStore makes the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, approval: Approval, seal: str) -> Approval:
        """Keep a new approval; an equal call that waits already is returned in its place."""
        with self._database.transaction():
            rows = self._database.query(_SAME, (approval.digest, approval.created_ns))
            if rows:
                return _approval(rows[0])
            self._database.execute(_PUT, (approval.id, *_columns(approval), seal))
        return approval

    def get(self, approval: str) -> Approval | None:
        """Return an approval in whatever state it is."""
        rows = self._database.query(_ONE, (approval,))
        return _approval(rows[0]) if rows else None

    def seal(self, approval: str) -> str:
        """Return the seal that was kept with an approval."""
        rows = self._database.query(_SEAL, (approval,))
        return rows[0][0] if rows else ""

    def expire(self, now_ns: int, up: Uptime) -> None:
        """End what nobody answered or used in time: a clock set back does not revive it."""
        given = {"now": now_ns, "boot": up.boot, "up": up.ns}
        if self._database.query(_ANY_DUE, given):
            self._database.execute(_EXPIRE, given)

    def waiting(self, now_ns: int) -> list[Approval]:
        """Return the approvals of all tenants that still wait, oldest first."""
        return [_approval(row) for row in self._database.query(_WAITING, (now_ns,))]

    def count(self, who: Principal, now_ns: int) -> int:
        """Return how many calls of an agent wait."""
        return self._database.query(_COUNT, (who.tenant, who.agent_key, now_ns))[0][0]

    def same(self, digest: str, now_ns: int) -> Approval | None:
        """Return what waits for an answer to exactly this call."""
        rows = self._database.query(_SAME, (digest, now_ns))
        return _approval(rows[0]) if rows else None

    def refused(self, digest: str) -> Approval | None:
        """Return the last no to exactly this call."""
        rows = self._database.query(_REFUSED, (digest,))
        return _approval(rows[0]) if rows else None

    def change(self, now: Approval, seal: str, was: str, now_ns: int) -> bool:
        """Keep a waiting approval as it is now; return whether it was as its seal `was` says."""
        state, _, *rest = _columns(now)[3:]
        changed = (state, *rest, seal, now.id, now_ns, was)
        return self._database.execute(_CHANGE, changed) == 1

    def replace(self, approval: Approval) -> None:
        """End an approval in whose place another one is asked for."""
        self._database.execute(_REPLACE, (approval.id, approval.state))

    def use(self, approval: str, digest: str, now_ns: int) -> bool:
        """Use up an approval of exactly this call, and return whether there was one."""
        return self._database.execute(_USE, (approval, digest, now_ns)) == 1

    def ended_with_branch(self) -> list[Approval]:
        """Return what has ended and may have left a fork."""
        return [_approval(row) for row in self._database.query(_ENDED)]

    def branch_gone(self, approval: str) -> None:
        """Note that the fork of an approval is no more."""
        self._database.execute(_NO_BRANCH, (approval,))

    def branches(self, tenant: str) -> set[str]:
        """Return the forks that approvals of a tenant still name."""
        return {row[0] for row in self._database.query(_LIVE_BRANCHES, (tenant,))}

    def shows(self, branch: str, beside: str) -> bool:
        """Return whether another approval than `beside`, which may still count, shows a fork."""
        return bool(self._database.query(_SHOWS, (branch, beside)))

    def forget(self, before_ns: int) -> int:
        """Remove what ended before a time; return how many."""
        return self._database.execute(_FORGET, (before_ns,))


def _columns(approval: Approval) -> tuple[Any, ...]:
    who = approval.principal
    times = (approval.expires_ns, approval.boot, approval.up_until_ns)
    branch = approval.effect.branch if approval.effect else ""
    found = (who.tenant, who.agent_key, approval.digest, approval.state, approval.created_ns)
    return (*found, *times, branch, approval.model_dump_json())


def _approval(row: tuple[Any, ...]) -> Approval:
    document, state, expires_ns, boot, up_until_ns, expired = row
    columns = {"state": state, "expires_ns": expires_ns, "boot": boot, "up_until_ns": up_until_ns}
    found = Approval.model_validate_json(document)
    return found.model_copy(update={**columns, "expired": bool(expired)})
