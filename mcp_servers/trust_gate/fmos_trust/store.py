"""All SQL of the trust gate: tools, seen secrets and approvals, in kernel.db."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

from fmos.clock import Uptime
from fmos.storage.database import Database
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal
from fmos_trust.model import Approval
from fmos_trust.secrets import KnownSecret

_PUT_TOOL = "INSERT OR REPLACE INTO trust_tool VALUES (?, ?, ?, ?, ?)"
_TOOLS = "SELECT descriptor FROM trust_tool WHERE tenant = ? AND agent = ?"
_REVISION = "SELECT revision FROM trust_toolset WHERE tenant = ? AND agent = ?"
_REVISE = """
INSERT INTO trust_toolset(tenant, agent, revision) VALUES (?, ?, 1)
ON CONFLICT(tenant, agent) DO UPDATE SET revision = revision + 1
"""
_MIGRATIONS = (
    "schema.sql",
    "schema_0002_revisions.sql",
    "schema_0003_seals.sql",
    "schema_0004_calls.sql",
)
_KEPT = 256
_PUT_SECRET = "INSERT OR IGNORE INTO trust_secret VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SECRETS = "SELECT kind, length, digest, source FROM trust_secret WHERE tenant = ? AND agent = ?"
_PUT_APPROVAL = """
INSERT INTO trust_approval(id, tenant, agent, principal, operation, tool, shown, reasons, digest,
    state, created_ns, expires_ns, boot, up_until_ns, seal)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?)
"""
_APPROVAL = """
SELECT id, principal, operation, tool, shown, reasons, digest, state, created_ns, expires_ns,
    approver, comment, boot, up_until_ns, decided_seq, seal FROM trust_approval
"""
_ANY_DUE = """
SELECT 1 FROM trust_approval
WHERE expired = 0 AND state IN ('pending', 'approved')
    AND (expires_ns <= ? OR (boot = ? AND up_until_ns <= ?)) LIMIT 1
"""
_ONE = _APPROVAL + " WHERE id = ?"
_WAITING = (
    _APPROVAL + " WHERE state = 'pending' AND NOT expired AND expires_ns > ?"
    " ORDER BY created_ns, id"
)
_SAME = (
    _APPROVAL + " WHERE tenant = ? AND agent = ? AND state = 'pending' AND digest = ?"
    " AND NOT expired AND expires_ns > ?"
)
_DECIDE = """
UPDATE trust_approval SET state = ?, approver = ?, comment = ?, expires_ns = ?, boot = ?,
    up_until_ns = ?, decided_seq = ?, seal = ?
WHERE id = ? AND state = 'pending' AND NOT expired AND expires_ns > ?
"""
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
_EXPIRE = """
UPDATE trust_approval SET expired = 1
WHERE expired = 0 AND state IN ('pending', 'approved')
    AND (expires_ns <= ? OR (boot = ? AND up_until_ns <= ?))
"""
_USE = """
UPDATE trust_approval SET state = 'used'
WHERE id = ? AND state = 'approved' AND digest = ? AND NOT expired AND expires_ns > ?
"""


class KnownCall(NamedTuple):
    """A call that the gate knows: the keyed digest of what was asked, and what became of it."""

    digest: str
    state: str


#: Tool name to descriptor.
Toolbox: TypeAlias = Mapping[str, ToolDescriptor]


class TrustStore:
    """The gate's tables. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._toolsets: dict[tuple[str, ...], tuple[tuple[int, ...], Toolbox]] = {}
        folder = resources.files("fmos_trust")
        steps = [folder.joinpath(name).read_text(encoding="utf-8") for name in _MIGRATIONS]
        database.install("trust", steps)

    def put_tools(self, who: Principal, tools: Iterable[ToolDescriptor], now_ns: int) -> None:
        """Keep the descriptors; one that has the name of an older one replaces it."""
        with self._database.transaction():
            for tool in tools:
                row = (who.tenant, who.agent_key, tool.name, tool.model_dump_json(), now_ns)
                self._database.execute(_PUT_TOOL, row)
            self._database.execute(_REVISE, (who.tenant, who.agent_key))

    def tools(self, tenant: str, lineage: Sequence[str]) -> Toolbox:
        """Return the tools of an agent by name; a fork has its ancestors' tools too.

        The same object, until something is registered for one of them.
        """
        key = (tenant, *lineage)
        revisions = tuple(self._revision(tenant, agent) for agent in lineage)
        known = self._toolsets.get(key)
        if known is not None and known[0] == revisions:
            return known[1]
        found: dict[str, ToolDescriptor] = {}
        for agent in lineage:
            for (text,) in self._database.query(_TOOLS, (tenant, agent)):
                tool = ToolDescriptor.model_validate_json(text)
                found.setdefault(tool.name, tool)
        if len(self._toolsets) >= _KEPT:
            self._toolsets.clear()
        self._toolsets[key] = (revisions, found)
        return found

    def _revision(self, tenant: str, agent: str) -> int:
        rows = self._database.query(_REVISION, (tenant, agent))
        return rows[0][0] if rows else 0

    def put_secrets(self, who: Principal, secrets: Iterable[KnownSecret], now_ns: int) -> None:
        """Keep the digests of secrets that entered the session."""
        with self._database.transaction():
            for item in secrets:
                place = (who.tenant, who.agent_key, who.session)
                row = (*place, item.digest, item.length, item.kind, item.source, now_ns)
                self._database.execute(_PUT_SECRET, row)

    def secrets(self, tenant: str, lineage: Sequence[str]) -> list[KnownSecret]:
        """Return what an agent and the agents it was forked from have seen."""
        return [
            KnownSecret(*row)
            for agent in lineage
            for row in self._database.query(_SECRETS, (tenant, agent))
        ]

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

    def put_approval(self, approval: Approval, seal: str) -> Approval:
        """Keep a new approval; an equal call that waits already is returned in its place."""
        who = approval.principal
        same = (who.tenant, who.agent_key, approval.digest, approval.created_ns)
        with self._database.transaction():
            rows = self._database.query(_SAME, same)
            if rows:
                return _approval(rows[0])
            self._database.execute(_PUT_APPROVAL, (*_row(approval), seal))
        return approval

    def approval(self, approval: str) -> Approval | None:
        """Return an approval in whatever state it is."""
        rows = self._database.query(_ONE, (approval,))
        return _approval(rows[0]) if rows else None

    def seal(self, approval: str) -> str:
        """Return the seal that was kept with an approval."""
        rows = self._database.query(_ONE, (approval,))
        return rows[0][-1] if rows else ""

    def expire(self, now_ns: int, up: Uptime) -> None:
        """End what nobody answered or used in time: a clock set back does not revive it."""
        if self._database.query(_ANY_DUE, (now_ns, *up)):
            self._database.execute(_EXPIRE, (now_ns, *up))

    def waiting(self, now_ns: int) -> list[Approval]:
        """Return the approvals of all tenants that still wait, oldest first."""
        return [_approval(row) for row in self._database.query(_WAITING, (now_ns,))]

    def decide(self, answered: Approval, seal: str, now_ns: int) -> bool:
        """Keep the answer to an approval that waits, and return whether it did."""
        answer = (answered.state, answered.approver, answered.comment, answered.expires_ns)
        until = (answered.boot, answered.up_until_ns, answered.decided_seq)
        return self._database.execute(_DECIDE, (*answer, *until, seal, answered.id, now_ns)) == 1

    def use(self, approval: str, digest: str, now_ns: int) -> bool:
        """Use up an approval of exactly this call, and return whether there was one."""
        return self._database.execute(_USE, (approval, digest, now_ns)) == 1


def _row(approval: Approval) -> tuple[Any, ...]:
    who = approval.principal
    reasons = json.dumps(approval.reasons)
    asked = (approval.operation, approval.tool, approval.shown, reasons, approval.digest)
    times = (approval.created_ns, approval.expires_ns, approval.boot, approval.up_until_ns)
    return (approval.id, who.tenant, who.agent_key, who.model_dump_json(), *asked, *times)


def _approval(row: tuple[Any, ...]) -> Approval:
    return Approval(
        id=row[0],
        principal=Principal.model_validate_json(row[1]),
        operation=row[2],
        tool=row[3],
        shown=row[4],
        reasons=tuple(json.loads(row[5])),
        digest=row[6],
        state=row[7],
        created_ns=row[8],
        expires_ns=row[9],
        approver=row[10],
        comment=row[11],
        boot=row[12],
        up_until_ns=row[13],
        decided_seq=row[14],
    )
