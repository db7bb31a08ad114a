"""All SQL of the ledger. Every writing method expects the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple, cast

from fmos.ledger.model import ReservationState
from fmos.storage.database import Database

_MIGRATIONS = ("schema.sql",)

_TOTALS = """
SELECT t.account, t.resource, l.amount, t.reserved, t.spent FROM account_total t
LEFT JOIN account_limit l ON l.account = t.account AND l.resource = t.resource
WHERE t.account = ?1
UNION ALL
SELECT l.account, l.resource, l.amount, 0, 0 FROM account_limit l
WHERE l.account = ?1 AND NOT EXISTS (
    SELECT 1 FROM account_total t WHERE t.account = l.account AND t.resource = l.resource)
ORDER BY 2
"""
_LIMIT = """
SELECT l.amount, coalesce(t.reserved, 0) + coalesce(t.spent, 0) FROM account_limit l
LEFT JOIN account_total t ON t.account = l.account AND t.resource = l.resource
WHERE l.account = ? AND l.resource = ?
"""
# SQLite checks the new row before it looks for the old one, hence the max().
_ADD = """
INSERT INTO account_total(account, resource, reserved, spent)
VALUES (?1, ?2, max(?3, 0), max(?4, 0))
ON CONFLICT(account, resource) DO UPDATE SET reserved = reserved + ?3, spent = spent + ?4
"""
_PUT = """
INSERT INTO reservation(id, account, operation, state, expires_ns) VALUES (?, ?, ?, 'open', ?)
ON CONFLICT(id) DO UPDATE SET state = 'open', expires_ns = excluded.expires_ns
"""
_COLUMNS = "SELECT id, account, operation, state, expires_ns FROM reservation "


class TotalRow(NamedTuple):
    """One resource of one account."""

    account: str
    resource: str
    limit: int | None
    reserved: int
    spent: int


class ReservationRow(NamedTuple):
    """One reservation without its amounts."""

    id: str
    account: str
    operation: str
    state: ReservationState
    expires_ns: int


class LedgerStore:
    """The ledger's tables in kernel.db."""

    def __init__(self, database: Database) -> None:
        self._database = database
        folder = resources.files("fmos.ledger")
        database.install(
            "ledger", [folder.joinpath(name).read_text(encoding="utf-8") for name in _MIGRATIONS]
        )

    def put_limit(self, account: str, resource: str, amount: int) -> None:
        """Set the limit of one account for one resource."""
        self._database.execute(
            "INSERT OR REPLACE INTO account_limit VALUES (?, ?, ?)", (account, resource, amount)
        )

    def drop_limit(self, account: str, resource: str) -> None:
        """Remove a limit, if there is one."""
        self._database.execute(
            "DELETE FROM account_limit WHERE account = ? AND resource = ?", (account, resource)
        )

    def limit(self, account: str, resource: str) -> tuple[int, int] | None:
        """Return the limit and what is reserved or spent of it, or None without a limit."""
        rows = self._database.query(_LIMIT, (account, resource))
        return (rows[0][0], rows[0][1]) if rows else None

    def totals(self, account: str) -> list[TotalRow]:
        """Return every resource that the account limits or has used."""
        return [TotalRow(*row) for row in self._database.query(_TOTALS, (account,))]

    def add(self, accounts: Iterable[str], resource: str, reserved: int, spent: int) -> None:
        """Add to the totals of every account given; an amount may be negative."""
        for account in accounts:
            self._database.execute(_ADD, (account, resource, reserved, spent))

    def find(self, account: str, operation: str) -> ReservationRow | None:
        """Return the reservation that the account made for an operation."""
        return self._one(_COLUMNS + "WHERE account = ? AND operation = ?", (account, operation))

    def get(self, reservation: str) -> ReservationRow | None:
        """Return a reservation by its id."""
        return self._one(_COLUMNS + "WHERE id = ?", (reservation,))

    def due(self, now_ns: int) -> list[ReservationRow]:
        """Return the open reservations whose time is up."""
        rows = self._database.query(
            _COLUMNS + "WHERE state = 'open' AND expires_ns <= ?", (now_ns,)
        )
        return [_row(row) for row in rows]

    def amounts(self, reservation: str) -> dict[str, int]:
        """Return what a reservation sets aside."""
        return dict(
            self._database.query(
                "SELECT resource, amount FROM reservation_amount WHERE reservation = ?"
                " ORDER BY resource",
                (reservation,),
            )
        )

    def put(self, row: ReservationRow, amounts: dict[str, int]) -> None:
        """Write an open reservation, or open a closed one again with new amounts."""
        self._database.execute(_PUT, (row.id, row.account, row.operation, row.expires_ns))
        self._database.execute("DELETE FROM reservation_amount WHERE reservation = ?", (row.id,))
        for resource, amount in amounts.items():
            self._database.execute(
                "INSERT INTO reservation_amount VALUES (?, ?, ?)", (row.id, resource, amount)
            )

    def close(self, reservation: str, state: ReservationState) -> None:
        """Set the state in which a reservation ended."""
        self._database.execute(
            "UPDATE reservation SET state = ? WHERE id = ?", (state, reservation)
        )

    def _one(self, sql: str, bindings: tuple[str, ...]) -> ReservationRow | None:
        rows = self._database.query(sql, bindings)
        return _row(rows[0]) if rows else None


def _row(values: tuple[object, ...]) -> ReservationRow:
    return ReservationRow(*cast("tuple[str, str, str, ReservationState, int]", values))
