"""All SQL of the reasoning-budget server, in kernel.db; balances are the ledger's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from fmos.storage.database import Database

_LIMITS = "SELECT resource, amount FROM budget_limit WHERE account = ?"
_PUT_LIMIT = "INSERT OR REPLACE INTO budget_limit VALUES (?, ?, ?)"
_DROP_LIMIT = "DELETE FROM budget_limit WHERE account = ? AND resource = ?"
_ADMIT = "INSERT OR REPLACE INTO budget_admission VALUES (?, ?, ?, ?, NULL)"
_ADMISSION = """
SELECT reservation, operation, account, amounts, settled FROM budget_admission
WHERE reservation = ?
"""
_SETTLE = "UPDATE budget_admission SET settled = ? WHERE reservation = ? AND settled IS NULL"


@dataclass(frozen=True, slots=True)
class Admission:
    """One admitted operation; `settled` is what it used, or None while it runs."""

    reservation: str
    operation: str
    account: str
    amounts: dict[str, int]
    settled: dict[str, int] | None


class BudgetStore:
    """The server's tables. Thread-safe as the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos_budget").joinpath("schema.sql")
        database.install("budget", [schema.read_text(encoding="utf-8")])

    def limits(self, account: str) -> dict[str, int]:
        """Return the limits that a contract gave an account."""
        return dict(self._database.query(_LIMITS, (account,)))

    def put_limit(self, account: str, resource: str, amount: int | None) -> None:
        """Note the limit that the contract gives now; None when it gives none any more."""
        if amount is None:
            self._database.execute(_DROP_LIMIT, (account, resource))
        else:
            self._database.execute(_PUT_LIMIT, (account, resource, amount))

    def admit(self, admission: Admission) -> None:
        """Note an admitted operation."""
        amounts = json.dumps(admission.amounts)
        row = (admission.reservation, admission.operation, admission.account, amounts)
        self._database.execute(_ADMIT, row)

    def admission(self, reservation: str) -> Admission | None:
        """Return an admitted operation, or None."""
        rows = self._database.query(_ADMISSION, (reservation,))
        if not rows:
            return None
        settled = json.loads(rows[0][4]) if rows[0][4] is not None else None
        return Admission(*rows[0][:3], amounts=json.loads(rows[0][3]), settled=settled)

    def settle(self, reservation: str, used: dict[str, int]) -> bool:
        """Note what an operation used, and return whether it was the first time."""
        return self._database.execute(_SETTLE, (json.dumps(used), reservation)) == 1
