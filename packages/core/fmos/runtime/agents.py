"""Which agents there are, which agent each was forked from, and under which account each spends."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from fmos.clock import Clock
from fmos.runtime.states import AgentState
from fmos.storage.database import Database
from fmos.types import Principal

_MIGRATIONS = ("agents.sql", "agents_0002_accounts.sql", "agents_0003_states.sql")

_PUT = """
INSERT INTO agent(tenant, agent, parent, account, origin, created_ns) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(tenant, agent) DO UPDATE SET
    parent = coalesce(excluded.parent, parent), account = coalesce(excluded.account, account),
    origin = coalesce(excluded.origin, origin)
"""
# A subquery, because a join of the two takes 10 us more, at every privileged operation.
_UP = """
SELECT parent, account, origin,
    (SELECT state FROM agent_state WHERE tenant = ?1 AND agent = ?2)
FROM agent WHERE tenant = ?1 AND agent = ?2
"""
_ALL = "SELECT agent, parent, created_ns FROM agent WHERE tenant = ? ORDER BY agent"
_FORGET = """
UPDATE agent SET parent = NULL, account = NULL, origin = NULL WHERE tenant = ? AND agent = ?
"""
_PASS_ON = """
UPDATE agent SET (parent, origin) =
    (SELECT parent, origin FROM agent WHERE tenant = ?1 AND agent = ?2)
WHERE tenant = ?1 AND parent = ?2
"""
_STATES = {None: AgentState.RUNNING, **{each.value: each for each in AgentState}}


class Descent(NamedTuple):
    """Where an agent comes from.

    `lineage` has its own key and its ancestors', nearest first, and `origins` the principals that
    forked them; `account` is the one that a fork spends under, None for an agent that is no fork.
    `state` is the agent's own: what was said of those above it does not bind it.
    """

    lineage: tuple[str, ...]
    account: str | None
    origins: tuple[Principal, ...]
    state: AgentState = AgentState.RUNNING


class Registered(NamedTuple):
    """One agent that was noted: its key, its parent's, and since when."""

    key: str
    parent: str | None
    created_ns: int


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

    def descent(self, principal: Principal) -> Descent:
        """Return whom an agent descends from, and under which account it spends."""
        keys = [principal.agent_key]
        above: str | None = None
        own: str | None = None
        origins: list[Principal] = []
        while True:
            rows = self._database.query(_UP, (principal.tenant, keys[-1]))
            parent, account, origin, state = rows[0] if rows else (None, None, None, None)
            if len(keys) == 1:
                above, own = account, state
            # A dropped id may come back as a fork of its own descendant.
            if parent is None or parent in keys:
                return Descent(tuple(keys), above, tuple(origins), _STATES[own])
            keys.append(parent)
            if origin is not None:
                origins.append(_principal(origin))

    def of_tenant(self, tenant: str) -> list[Registered]:
        """Return every agent of a tenant that was noted, by key."""
        return [Registered(*row) for row in self._database.query(_ALL, (tenant,))]

    def lineage(self, principal: Principal) -> tuple[str, ...]:
        """Return the agent's own key and its ancestors', nearest first."""
        return self.descent(principal).lineage


@lru_cache(maxsize=1024)
def _principal(text: str) -> Principal:
    return Principal.model_validate_json(text)
