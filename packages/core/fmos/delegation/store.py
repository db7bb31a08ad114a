"""The table of delegations in kernel.db: one row for each sub-agent."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from fmos.storage.database import Database

_FIELDS = "tenant, child, id, token, seen_ns, ended"
_PUT = f"INSERT OR REPLACE INTO delegation({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?)"
_SEEN = "UPDATE delegation SET seen_ns = max(seen_ns, ?4) WHERE (tenant, child, id) = (?1, ?2, ?3)"
_END = """
UPDATE delegation SET ended = ?4 WHERE (tenant, child, id) = (?1, ?2, ?3) AND ended = ''
"""
_FORGET = "DELETE FROM delegation WHERE (tenant, child) = (?, ?)"
_OF_TENANT = f"SELECT {_FIELDS} FROM delegation WHERE tenant = ? ORDER BY child"


class Row(NamedTuple):
    """One delegation as it is kept; only what `token` says is signed."""

    tenant: str
    child: str
    id: str
    token: str
    seen_ns: int
    ended: str = ""


class DelegationStore:
    """The delegations of one home."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos.delegation").joinpath("schema.sql")
        database.install("delegation", [schema.read_text(encoding="utf-8")])

    def put(self, row: Row) -> None:
        """Keep a delegation in the place of the one that the sub-agent had."""
        with self._database.transaction():
            self._database.execute(_PUT, row)

    def of(self, tenant: str, children: Sequence[str]) -> dict[str, Row]:
        """Return the rows of these agents, by key."""
        marks = ", ".join("?" * len(children))
        sql = f"SELECT {_FIELDS} FROM delegation WHERE tenant = ? AND child IN ({marks})"
        found = (Row(*row) for row in self._database.query(sql, (tenant, *children)))
        return {row.child: row for row in found}

    def of_tenant(self, tenant: str) -> list[Row]:
        """Return every row of a tenant, by the sub-agent's key."""
        return [Row(*row) for row in self._database.query(_OF_TENANT, (tenant,))]

    def seen(self, row: Row, now_ns: int) -> None:
        """Note that a delegation was used at a time."""
        with self._database.transaction():
            self._database.execute(_SEEN, (row.tenant, row.child, row.id, now_ns))

    def end(self, row: Row, why: str) -> bool:
        """End a delegation for good; return whether it had not ended."""
        with self._database.transaction():
            return self._database.execute(_END, (row.tenant, row.child, row.id, why)) == 1

    def forget(self, tenant: str, child: str) -> None:
        """Remove the row of an agent whose id is nobody's any more."""
        with self._database.transaction():
            self._database.execute(_FORGET, (tenant, child))
