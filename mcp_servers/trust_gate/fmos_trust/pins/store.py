"""All SQL of tool pinning, in kernel.db. A row counts only under the seal of the tenant's key."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hmac import compare_digest
from importlib import resources
from typing import Any

from fmos.audit.keys import AuditKeys
from fmos.canonical import canonical_json
from fmos.storage.database import Database
from fmos_trust.pins.model import ServerTools, from_json, to_json, unpinned

_FIELDS = "server, revision, pins, offer, asked, pinned_ns, seal"
_ROWS = f"SELECT {_FIELDS} FROM trust_pin WHERE tenant = ? AND agent = ? ORDER BY server"
_SEEN = "SELECT server, revision, seal FROM trust_pin WHERE tenant = ? AND agent = ?"
_AGENTS = "SELECT DISTINCT tenant, agent FROM trust_pin ORDER BY tenant, agent"
_PUT = "INSERT OR REPLACE INTO trust_pin VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_OLDER = "SELECT descriptor FROM trust_tool WHERE tenant = ? AND agent = ? ORDER BY name"
_FORGET_OLDER = "DELETE FROM trust_tool WHERE tenant = ? AND agent = ?"

#: What tells one state of an agent's rows from every other.
Seen = tuple[tuple[str, int, str], ...]


class PinStore:
    """The pinned tools of one home's agents. Thread-safe as the database is."""

    def __init__(self, database: Database, keys_of: Callable[[str], AuditKeys]) -> None:
        self.database = database
        self._keys_of = keys_of
        schema = resources.files("fmos_trust.pins").joinpath("schema.sql")
        database.install("trust-pins", [schema.read_text(encoding="utf-8")])

    def seen(self, tenant: str, agent: str) -> Seen:
        """Return what changes whenever something is put."""
        return tuple(
            (row[0], row[1], row[2]) for row in self.database.query(_SEEN, (tenant, agent))
        )

    def servers(self, tenant: str, agent: str) -> tuple[list[ServerTools], str]:
        """Return an agent's servers by name, and what is wrong with one; else an empty text.

        Of a row that is not as the gate wrote it, nothing is pinned.
        """
        found: list[ServerTools] = []
        problem = ""
        for row in self.database.query(_ROWS, (tenant, agent)):
            tools = self._read(row)
            if not compare_digest(self._seal(tenant, agent, row[:-1]), row[-1]):
                tools = unpinned(tools)
                problem = (
                    f"the pinned tools of {agent!r} (server {row[0]!r}) were changed by other means"
                )
            found.append(tools)
        return found, problem

    def agents(self) -> list[tuple[str, str]]:
        """Return tenant and key of every agent that has a row."""
        return [(row[0], row[1]) for row in self.database.query(_AGENTS)]

    def put(self, tenant: str, agent: str, tools: ServerTools) -> None:
        """Keep a server's tools in the place of what was kept, under the next revision."""
        data = to_json(tools)
        parts = [
            tools.server,
            tools.revision + 1,
            *(json.dumps(data[name], sort_keys=True) for name in ("pins", "offer", "asked")),
            tools.pinned_ns,
        ]
        self.database.execute(_PUT, (tenant, agent, *parts, self._seal(tenant, agent, parts)))

    def older(self, tenant: str, agent: str) -> list[str]:
        """Return the descriptors that an older FMOS kept of an agent, as JSON."""
        return [row[0] for row in self.database.query(_OLDER, (tenant, agent))]

    def forget_older(self, tenant: str, agent: str) -> None:
        """Remove what an older FMOS kept of an agent."""
        self.database.execute(_FORGET_OLDER, (tenant, agent))

    @staticmethod
    def _read(row: Sequence[Any]) -> ServerTools:
        server, revision, pins, offer, asked, pinned_ns, _ = row
        try:
            data = {
                "server": server,
                "pins": json.loads(pins),
                "offer": json.loads(offer),
                "asked": json.loads(asked),
                "pinned_ns": pinned_ns,
            }
            return from_json(data, revision)
        except (ValueError, KeyError, TypeError):  # only what others wrote: no seal will fit
            return ServerTools(server, pinned_ns=pinned_ns or 1, revision=revision)

    def _seal(self, tenant: str, agent: str, parts: Sequence[object]) -> str:
        said = canonical_json([tenant, agent, *parts])
        return self._keys_of(tenant).seal("trust_pins", said)
