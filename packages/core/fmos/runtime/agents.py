"""Which agents there are, and which agent each was forked from."""

from __future__ import annotations

from importlib import resources

from fmos.clock import Clock
from fmos.storage.database import Database
from fmos.types import Principal

_PUT = """
INSERT INTO agent(tenant, agent, parent, created_ns) VALUES (?, ?, ?, ?)
ON CONFLICT(tenant, agent) DO UPDATE SET parent = coalesce(excluded.parent, parent)
"""
_PARENT = "SELECT parent FROM agent WHERE tenant = ? AND agent = ?"


class AgentRegistry:
    """The agents of one home. An agent's lineage says whose contract and account it lives under."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        schema = resources.files("fmos.runtime").joinpath("agents.sql")
        database.install("agents", [schema.read_text(encoding="utf-8")])

    def register(self, principal: Principal, parent: Principal | None = None) -> None:
        """Note an agent, and its parent if it is a fork; a known parent is never forgotten."""
        origin = parent.agent if parent is not None and parent.agent else None
        with self._database.transaction():
            self._database.execute(
                _PUT, (principal.tenant, principal.agent, origin, self._clock.now_ns())
            )

    def ancestors(self, principal: Principal) -> list[str]:
        """Return the agents that this one descends from, nearest first."""
        found: list[str] = []
        seen = {principal.agent}
        current = principal.agent
        while True:
            rows = self._database.query(_PARENT, (principal.tenant, current))
            parent: str | None = rows[0][0] if rows else None
            # A dropped id may come back as a fork of its own descendant.
            if parent is None or parent in seen:
                return found
            found.append(parent)
            seen.add(parent)
            current = parent
