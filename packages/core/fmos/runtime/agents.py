"""Which agents there are, which agent each was forked from, and under which account each spends."""

from __future__ import annotations

from importlib import resources

from fmos.clock import Clock
from fmos.storage.database import Database
from fmos.types import Principal

_MIGRATIONS = ("agents.sql", "agents_0002_accounts.sql")

_PUT = """
INSERT INTO agent(tenant, agent, parent, account, origin, created_ns) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(tenant, agent) DO UPDATE SET
    parent = coalesce(excluded.parent, parent), account = coalesce(excluded.account, account),
    origin = coalesce(excluded.origin, origin)
"""
_PARENT = "SELECT parent FROM agent WHERE tenant = ? AND agent = ?"
_ACCOUNT = "SELECT account FROM agent WHERE tenant = ? AND agent = ?"
_ORIGIN = "SELECT origin FROM agent WHERE tenant = ? AND agent = ?"
_FORGET = """
UPDATE agent SET parent = NULL, account = NULL, origin = NULL WHERE tenant = ? AND agent = ?
"""
_PASS_ON = """
UPDATE agent SET (parent, origin) =
    (SELECT parent, origin FROM agent WHERE tenant = ?1 AND agent = ?2)
WHERE tenant = ?1 AND parent = ?2
"""


class AgentRegistry:
    """The agents of one home. An agent's lineage says whose contract and account it lives under.

    An agent is known by its key (`Principal.agent_key`), which no other application's agent has.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        folder = resources.files("fmos.runtime")
        steps = [folder.joinpath(name).read_text(encoding="utf-8") for name in _MIGRATIONS]
        database.install("agents", steps)

    def register(
        self, principal: Principal, parent: Principal | None = None, account: str | None = None
    ) -> None:
        """Note an agent; of a fork its parent and the account that it spends under.

        A known parent is never forgotten, so a fork cannot leave its parent by registering anew.
        """
        origin = parent.agent_key if parent is not None and parent.agent else None
        forker = parent.model_dump_json() if parent is not None and parent.agent else None
        made_ns = self._clock.now_ns()
        row = (principal.tenant, principal.agent_key, origin, account, forker, made_ns)
        with self._database.transaction():
            self._database.execute(_PUT, row)

    def forget_origin(self, principal: Principal) -> None:
        """Let the id be anybody's again: who takes it next is not the fork that had it.

        Its own forks go on under the agent that it was forked from.
        """
        key = (principal.tenant, principal.agent_key)
        with self._database.transaction():
            self._database.execute(_PASS_ON, key)
            self._database.execute(_FORGET, key)

    def account(self, principal: Principal) -> str | None:
        """Return the account that a fork spends under, or None for an agent that is no fork."""
        rows = self._database.query(_ACCOUNT, (principal.tenant, principal.agent_key))
        return rows[0][0] if rows else None

    def origins(self, principal: Principal) -> list[Principal]:
        """Return the principals that forked an agent, and who forked these, nearest first."""
        found: list[Principal] = []
        seen = {principal.agent_key}
        current = principal
        while True:
            rows = self._database.query(_ORIGIN, (current.tenant, current.agent_key))
            if not rows or rows[0][0] is None:
                return found
            current = Principal.model_validate_json(rows[0][0])
            if current.agent_key in seen:
                return found
            found.append(current)
            seen.add(current.agent_key)

    def ancestors(self, principal: Principal) -> list[str]:
        """Return the keys of the agents that this one descends from, nearest first."""
        found: list[str] = []
        seen = {principal.agent_key}
        current = principal.agent_key
        while True:
            rows = self._database.query(_PARENT, (principal.tenant, current))
            parent: str | None = rows[0][0] if rows else None
            # A dropped id may come back as a fork of its own descendant.
            if parent is None or parent in seen:
                return found
            found.append(parent)
            seen.add(parent)
            current = parent

    def lineage(self, principal: Principal) -> list[str]:
        """Return the agent's own key and its ancestors', nearest first."""
        return [principal.agent_key, *self.ancestors(principal)]
