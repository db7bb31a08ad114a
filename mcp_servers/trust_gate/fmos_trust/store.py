"""All SQL of the trust gate: tools, seen secrets and approvals, in kernel.db."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from fmos.storage.database import Database
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal
from fmos_trust.model import Approval
from fmos_trust.secrets import KnownSecret

_PUT_TOOL = "INSERT OR REPLACE INTO trust_tool VALUES (?, ?, ?, ?, ?)"
_TOOLS = "SELECT descriptor FROM trust_tool WHERE tenant = ? AND agent = ?"
_PUT_SECRET = "INSERT OR IGNORE INTO trust_secret VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SECRETS = "SELECT kind, length, digest, source FROM trust_secret WHERE tenant = ? AND agent = ?"
_PUT_APPROVAL = """
INSERT INTO trust_approval(id, tenant, agent, principal, operation, tool, shown, reasons, digest,
    state, created_ns, expires_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)
"""
_APPROVAL = """
SELECT id, principal, operation, tool, shown, reasons, digest, state, created_ns, expires_ns,
    approver, comment FROM trust_approval
"""
_ONE = _APPROVAL + " WHERE id = ?"
_WAITING = _APPROVAL + " WHERE state = 'pending' AND expires_ns > ? ORDER BY created_ns, id"
_SAME = (
    _APPROVAL + " WHERE tenant = ? AND agent = ? AND state = 'pending' AND digest = ?"
    " AND expires_ns > ?"
)
_DECIDE = """
UPDATE trust_approval SET state = ?, approver = ?, comment = ?, expires_ns = ?
WHERE id = ? AND state = 'pending' AND expires_ns > ?
"""
_USE = """
UPDATE trust_approval SET state = 'used'
WHERE id = ? AND state = 'approved' AND digest = ? AND expires_ns > ?
"""


class TrustStore:
    """The gate's tables. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos_trust").joinpath("schema.sql")
        database.install("trust", [schema.read_text(encoding="utf-8")])

    def put_tools(self, who: Principal, tools: Iterable[ToolDescriptor], now_ns: int) -> None:
        """Keep the descriptors; one that has the name of an older one replaces it."""
        with self._database.transaction():
            for tool in tools:
                row = (who.tenant, who.agent, tool.name, tool.model_dump_json(), now_ns)
                self._database.execute(_PUT_TOOL, row)

    def tools(self, tenant: str, lineage: Sequence[str]) -> dict[str, ToolDescriptor]:
        """Return the tools of an agent; a fork has its ancestors' tools too."""
        found: dict[str, ToolDescriptor] = {}
        for agent in lineage:
            for (text,) in self._database.query(_TOOLS, (tenant, agent)):
                tool = ToolDescriptor.model_validate_json(text)
                found.setdefault(tool.name, tool)
        return found

    def put_secrets(self, who: Principal, secrets: Iterable[KnownSecret], now_ns: int) -> None:
        """Keep the digests of secrets that entered the session."""
        with self._database.transaction():
            for item in secrets:
                place = (who.tenant, who.agent, who.session)
                row = (*place, item.digest, item.length, item.kind, item.source, now_ns)
                self._database.execute(_PUT_SECRET, row)

    def secrets(self, tenant: str, lineage: Sequence[str]) -> list[KnownSecret]:
        """Return what an agent and the agents it was forked from have seen."""
        return [
            KnownSecret(*row)
            for agent in lineage
            for row in self._database.query(_SECRETS, (tenant, agent))
        ]

    def put_approval(self, approval: Approval) -> Approval:
        """Keep a new approval; an equal call that waits already is returned in its place."""
        who = approval.principal
        same = (who.tenant, who.agent, approval.digest, approval.created_ns)
        with self._database.transaction():
            rows = self._database.query(_SAME, same)
            if rows:
                return _approval(rows[0])
            self._database.execute(_PUT_APPROVAL, _row(approval))
        return approval

    def approval(self, approval: str) -> Approval | None:
        """Return an approval in whatever state it is."""
        rows = self._database.query(_ONE, (approval,))
        return _approval(rows[0]) if rows else None

    def waiting(self, now_ns: int) -> list[Approval]:
        """Return the approvals of all tenants that still wait, oldest first."""
        return [_approval(row) for row in self._database.query(_WAITING, (now_ns,))]

    def decide(
        self, approval: str, state: str, approver: str, comment: str, *, now_ns: int, until_ns: int
    ) -> bool:
        """Answer an approval that waits, and return whether it did."""
        bindings = (state, approver, comment, until_ns, approval, now_ns)
        return self._database.execute(_DECIDE, bindings) == 1

    def use(self, approval: str, digest: str, now_ns: int) -> bool:
        """Use up an approval of exactly this call, and return whether there was one."""
        return self._database.execute(_USE, (approval, digest, now_ns)) == 1


def _row(approval: Approval) -> tuple[Any, ...]:
    who = approval.principal
    reasons = json.dumps(approval.reasons)
    asked = (approval.operation, approval.tool, approval.shown, reasons, approval.digest)
    times = (approval.created_ns, approval.expires_ns)
    return (approval.id, who.tenant, who.agent, who.model_dump_json(), *asked, *times)


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
    )
