"""Reserve, commit, refund, expire: no account on a path gets more than its limit reserved.

Every change is one `BEGIN IMMEDIATE` transaction, so processes that spend from one account take
turns. Spending is history: nothing here gives back what was committed.
"""

from __future__ import annotations

from fmos.clock import Clock
from fmos.errors import ArgumentError, BudgetExceededError, NotFoundError
from fmos.ledger.model import (
    Balance,
    Reservation,
    check_amount,
    check_amounts,
    check_resource,
    path_of,
)
from fmos.ledger.store import LedgerStore, ReservationRow
from fmos.storage.database import Database
from fmos.types import new_id

_NS = 1_000_000_000


class Ledger:
    """The accounts of one home. Thread-safe, and safe across processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._store = LedgerStore(database)

    def set_limit(self, account: str, resource: str, limit: int | None) -> None:
        """Limit what an account and everything below it may use; None removes the limit.

        Raises:
            ArgumentError: if the account, the resource or the limit is not one.
        """
        path_of(account)
        check_resource(resource)
        if limit is not None:
            check_amount(resource, limit)
        with self._database.transaction():
            if limit is None:
                self._store.drop_limit(account, resource)
            else:
                self._store.put_limit(account, resource, limit)

    def reserve(
        self, account: str, amounts: dict[str, int], *, operation: str, ttl_s: int = 900
    ) -> Reservation:
        """Set amounts aside on every account of the path, all of them or none.

        Asked again for the same operation, it returns the same reservation; one that was
        refunded or has expired is opened again, if there is enough left.

        Raises:
            BudgetExceededError: naming the first account that has not enough left.
            ArgumentError: if an amount or the account is not one.
        """
        path = path_of(account)
        check_amounts(amounts)
        with self._database.transaction():
            self._expire_due()
            known = self._store.find(account, operation)
            if known is not None and known.state in ("open", "committed"):
                return self._reservation(known)
            self._require(path, amounts)
            row = ReservationRow(
                id=known.id if known else new_id(),
                account=account,
                operation=operation,
                state="open",
                expires_ns=self._clock.now_ns() + ttl_s * _NS,
            )
            self._store.put(row, amounts)
            for resource, amount in amounts.items():
                self._store.add(path, resource, amount, 0)
            return self._reservation(row)

    def commit(self, reservation: str, amounts: dict[str, int] | None = None) -> None:
        """Turn a reservation into spending: the amounts used, or what was reserved.

        Usage above the reservation is recorded in full, also past a limit, because it happened;
        the same holds for a reservation that has expired meanwhile.

        Raises:
            NotFoundError: if there is no such reservation.
            ArgumentError: if it was refunded, or an amount is not one.
        """
        if amounts is not None:
            check_amounts(amounts)
        with self._database.transaction():
            row = self._known(reservation)
            if row.state == "committed":
                return
            if row.state == "refunded":
                raise ArgumentError(
                    f"the reservation {reservation!r} was refunded and cannot be committed",
                    hint="reserve again for what was used",
                )
            used = self._store.amounts(row.id) if amounts is None else amounts
            if row.state == "open":
                self._release(row)
            for resource, amount in used.items():
                self._store.add(path_of(row.account), resource, 0, amount)
            self._store.close(row.id, "committed")

    def refund(self, reservation: str) -> None:
        """Give a reservation back: the operation did not happen.

        Raises:
            NotFoundError: if there is no such reservation.
            ArgumentError: if it was committed.
        """
        with self._database.transaction():
            row = self._known(reservation)
            if row.state == "committed":
                raise ArgumentError(
                    f"the reservation {reservation!r} was committed and cannot be refunded",
                    hint="spending is history; raise the account's limit instead",
                )
            if row.state == "open":
                self._release(row)
            self._store.close(row.id, "refunded")

    def expire(self) -> int:
        """Give back every reservation whose time is up, and return how many there were."""
        if not self._store.due(self._clock.now_ns()):
            return 0
        with self._database.transaction():
            return self._expire_due()

    def status(self, account: str) -> tuple[Balance, ...]:
        """Return the balances of every account on the path, from the root down.

        Raises:
            ArgumentError: if the account is not one.
        """
        path = path_of(account)
        self.expire()
        return tuple(
            Balance(
                account=row.account,
                resource=row.resource,
                limit=row.limit,
                reserved=row.reserved,
                spent=row.spent,
                left=None if row.limit is None else max(0, row.limit - row.reserved - row.spent),
            )
            for part in path
            for row in self._store.totals(part)
        )

    def _require(self, path: tuple[str, ...], amounts: dict[str, int]) -> None:
        for account in path:
            for resource, asked in amounts.items():
                found = self._store.limit(account, resource)
                if found is not None and asked > found[0] - found[1]:
                    raise _exceeded(account, resource, asked, limit=found[0], used=found[1])

    def _expire_due(self) -> int:
        rows = self._store.due(self._clock.now_ns())
        for row in rows:
            self._release(row)
            self._store.close(row.id, "expired")
        return len(rows)

    def _release(self, row: ReservationRow) -> None:
        for resource, amount in self._store.amounts(row.id).items():
            self._store.add(path_of(row.account), resource, -amount, 0)

    def _known(self, reservation: str) -> ReservationRow:
        row = self._store.get(reservation)
        if row is None:
            raise NotFoundError(
                f"there is no reservation {reservation!r}",
                hint="give the id that the reserving call returned",
            )
        return row

    def _reservation(self, row: ReservationRow) -> Reservation:
        return Reservation(
            id=row.id,
            account=row.account,
            operation=row.operation,
            amounts=self._store.amounts(row.id),
            expires_ns=row.expires_ns,
        )


def _exceeded(
    account: str, resource: str, asked: int, *, limit: int, used: int
) -> BudgetExceededError:
    left = max(0, limit - used)
    return BudgetExceededError(
        f"the account {account!r} has {left} of {limit} {resource} left, and {asked} are asked for",
        hint=f"raise its {resource} limit (`budgets` in the contract), or ask for less",
        account=account,
        resource=resource,
        asked=asked,
        left=left,
    )
