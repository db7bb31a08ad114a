"""What a person said of each agent: running, paused, killed, or being imported; all SQL of it.

Who may go from which state to which is lifecycle.py's matter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fmos.storage.database import Database
from fmos.types import Principal

_FIELDS = "tenant, agent, state, since_ns, person, reason, change, event, detail, noted"
_GET = f"SELECT {_FIELDS} FROM agent_state WHERE tenant = ? AND agent = ?"
_PUT = f"INSERT OR REPLACE INTO agent_state({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ALL = f"SELECT {_FIELDS} FROM agent_state WHERE tenant = ? ORDER BY agent"
_OPEN = f"SELECT {_FIELDS} FROM agent_state WHERE noted = 0"
_NOTED = "UPDATE agent_state SET noted = 1 WHERE tenant = ? AND agent = ? AND change = ?"
_REMOVE = "DELETE FROM agent_state WHERE tenant = ? AND agent = ? AND change = ?"


class AgentState(StrEnum):
    """Whether an agent may do anything; `importing` lasts until all of it has arrived."""

    RUNNING = "running"
    PAUSED = "paused"
    KILLED = "killed"
    IMPORTING = "importing"


@dataclass(frozen=True, slots=True)
class StateRow:
    """The last change of an agent's state; `noted` says whether the journal has it already."""

    tenant: str
    agent: str
    state: AgentState
    since_ns: int
    person: str
    reason: str
    change: str
    event: str
    detail: dict[str, Any]
    noted: bool = False


class AgentStates:
    """The table of states. Its tables are made with those of the agents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, who: Principal) -> StateRow | None:
        """Return the last change of an agent, or None for one that was always left to run."""
        rows = self._database.query(_GET, (who.tenant, who.agent_key))
        return _to_row(rows[0]) if rows else None

    def of_tenant(self, tenant: str) -> list[StateRow]:
        """Return the last change of every agent of a tenant that has one, by key."""
        return [_to_row(row) for row in self._database.query(_ALL, (tenant,))]

    def unnoted(self) -> list[StateRow]:
        """Return the changes that the journal may not have yet, of all tenants."""
        return [_to_row(row) for row in self._database.query(_OPEN)]

    def put(self, row: StateRow) -> StateRow:
        """Keep a change in place of the one before."""
        text = json.dumps(row.detail, sort_keys=True)
        fields = (row.tenant, row.agent, row.state.value, row.since_ns, row.person, row.reason)
        self._database.execute(_PUT, (*fields, row.change, row.event, text, int(row.noted)))
        return row

    def set_noted(self, row: StateRow) -> StateRow:
        """Remember that the journal has a change; nothing happens if another came since."""
        self._database.execute(_NOTED, (row.tenant, row.agent, row.change))
        return replace(row, noted=True)

    def remove(self, row: StateRow) -> None:
        """Forget a change that came to nothing."""
        self._database.execute(_REMOVE, (row.tenant, row.agent, row.change))


def refusal(agent: str, state: AgentState) -> str:
    """Return why nothing of an agent may run, with the way out; empty for one that may."""
    if state is AgentState.PAUSED:
        way = f"`fmos agent resume {agent}` lets it go on"
        return f"the agent {agent!r} is paused, so nothing of it may run; {way}"
    if state is AgentState.KILLED:
        way = f"a person may start it anew with `fmos agent spawn {agent}`"
        return f"the agent {agent!r} was killed, so nothing of it may run; {way}"
    if state is AgentState.IMPORTING:
        way = "try again when the import has ended"
        return f"the agent {agent!r} is still being imported; {way}"
    return ""


def _to_row(row: tuple[Any, ...]) -> StateRow:
    tenant, agent, state, since_ns, person, reason, change, event, detail, noted = row
    said = (person, reason, change, event, json.loads(detail), bool(noted))
    return StateRow(tenant, agent, AgentState(state), since_ns, *said)
