"""Reserve, commit, refund, expire: no account on a path gets more than its limit reserved.

Every change is one `BEGIN IMMEDIATE` transaction, so processes that spend from one account take
turns. Spending is history: nothing here gives back what was committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from fmos.clock import Clock
from fmos.errors import ArgumentError, NotFoundError
from fmos.ledger import alerts as thresholds_of
from fmos.ledger.accounts import Account
from fmos.ledger.book import Book, Refusal, move_price, roll
from fmos.ledger.contention import Contention
from fmos.ledger.limits import Limits
from fmos.ledger.model import (
    Alert,
    Balance,
    Known,
    Reservation,
    Settled,
    check_amounts,
    check_key,
)
from fmos.ledger.owners import Owner, is_dead, this_process
from fmos.ledger.quick import Quick
from fmos.ledger.store import LedgerStore, Line, Row, place_of, scope_of
from fmos.ledger.windows import WINDOWS, Window, end_of
from fmos.storage.database import Database

_NS = 1_000_000_000
_LOOK_FOR_DUE_S = 0.2
_LOOK_FOR_DEAD_S = 1.0


class Ledger:
    """The accounts of one home. Thread-safe, and safe across processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._store = LedgerStore(database)
        self._limits = Limits(database, self._store, clock)
        self._contention = Contention(self._store)
        self._quick = Quick(database)
        self._looked_for_due = self._looked_for_dead = -_LOOK_FOR_DEAD_S

    def set_limit(
        self, account: str, resource: str, limit: int | None, window: Window = "total"
    ) -> None:
        """Limit, as a person, what an account and everything below it may use.

        It goes before the limits that documents declare, until None removes it.

        Raises:
            ArgumentError: if the account, the resource, the limit or the window is not one.
        """
        self._limits.set(Account.parse(account), resource, limit, window)

    def apply_limits(
        self,
        account: str,
        limits: Mapping[tuple[str, Window], int],
        *,
        source: str = "contract",
    ) -> bool:
        """Let a source limit an account to exactly this; return whether anything changed.

        A limit that the source set before and does not name now is removed. Where two sources
        limit the same, the smaller limit counts; a person's goes before them.

        Raises:
            ArgumentError: if the account, a resource, a limit or a window is not one.
        """
        return self.apply_all_limits({Account.parse(account): limits}, source=source)

    def apply_all_limits(
        self,
        limits: Mapping[Account, Mapping[tuple[str, Window], int]],
        *,
        source: str = "contract",
    ) -> bool:
        """Do what `apply_limits` does for several accounts, all or none; a look if all are so.

        Raises:
            ArgumentError: if a resource, a limit or a window is not one.
        """
        return self._limits.apply(limits, source)

    def reserve(
        self,
        account: str,
        amounts: dict[str, int],
        *,
        operation: str,
        ttl_s: float = 900,
        owner: Owner | Literal["here"] | None = "here",
    ) -> Reservation:
        """Set amounts aside on every account of the path, all of them or none.

        `operation` is the idempotency key, one in a tenant: asked again for the same, it returns
        the same reservation; one that was refunded or has expired is opened anew, if there is
        enough left. `owner` is the process whose end frees the reservation before its time: this
        one, or None for that of a remote caller, which is not known.

        Raises:
            BudgetExceededError: naming the first account that has not enough left.
            ArgumentError: if an amount or the account is not one, or the key was used for other
                amounts or another account, or is settled.
        """
        payer = Account.parse(account)
        check_amounts(amounts)
        check_key(operation)
        self._sweep()
        holder = this_process() if owner == "here" else owner
        ask = _Ask(payer, dict(amounts), operation, ttl_s, holder)
        quick = self._reserve_quickly(ask)
        if quick is not None:
            return quick
        found = self._attempt(ask)
        if isinstance(found, Refusal) and self._sweep(look=True):
            found = self._attempt(ask)
        if isinstance(found, Refusal):
            self._note(payer, amounts, found)
            raise found.error()
        return found

    def commit(
        self, reservation: str | Reservation, actual: Mapping[str, int] | None = None
    ) -> Settled:
        """Turn a reservation into spending: what was used, or what was reserved.

        Usage above the reservation is recorded in full, also past a limit, because it happened;
        the same holds for a reservation that has expired meanwhile. Less than was reserved gives
        the rest back. Committed again, it changes nothing.

        Raises:
            NotFoundError: if there is no such reservation.
            ArgumentError: if it was refunded, or an amount is not one.
        """
        if actual is not None:
            check_amounts(actual)
        if isinstance(reservation, Reservation) and self._commit_quickly(reservation, actual):
            used = reservation.amounts if actual is None else dict(actual)
            return Settled(reservation=reservation.id, used=used)
        with self._database.transaction():
            row = self._known(reservation)
            if row.state == "committed":
                return Settled(reservation=row.id, used=row.used or {})
            if row.state == "refunded":
                raise ArgumentError(
                    f"the reservation {row.id!r} was refunded and cannot be committed",
                    hint="reserve again for what was used",
                )
            used = row.amounts if actual is None else dict(actual)
            book = self._book(row.account, row.amounts.keys() | used.keys())
            told = book.spend(row, used)
            self._store.close(row, "committed", used)
            book.save()
        return Settled(reservation=row.id, used=used, alerts=told)

    def charge(
        self,
        account: str,
        amounts: Mapping[str, int],
        *,
        needed: Mapping[str, int] | None = None,
    ) -> tuple[Alert, ...]:
        """Spend at once, without a reservation, and return the alerts that this raises.

        `needed` is what every account of the path must have left, or nothing is spent; without it
        the amounts are recorded whatever the limits say, because they were used already. It has no
        idempotency key: charged twice, it is spent twice.

        Raises:
            BudgetExceededError: naming the first account that has not what is needed.
            ArgumentError: if the account or an amount is not one.
        """
        payer = Account.parse(account)
        check_amounts(amounts)
        wanted = dict(needed or {})
        check_amounts(wanted)
        self._sweep()
        ids = self._store.known_ids(payer)
        if ids is not None and (needed is None or wanted == dict(amounts)):
            enforce = needed is not None
            if self._quick.charge(ids, amounts, enforce=enforce):
                return ()
        with self._database.transaction():
            book = self._book(payer, amounts.keys() | wanted.keys())
            refused = None if needed is None else self._refusal(book, wanted)
            if refused is not None:
                self._note(payer, wanted, refused)
                raise refused.error()
            now = Row(0, "", 0, payer, "open", book.now_ns, 0, {}, None)
            told = book.spend(now, amounts)
            book.save()
        return told

    def refund(self, reservation: str | Reservation) -> None:
        """Give a reservation back: the operation did not happen.

        Raises:
            NotFoundError: if there is no such reservation.
            ArgumentError: if it was committed.
        """
        with self._database.transaction():
            row = self._known(reservation)
            if row.state == "committed":
                raise ArgumentError(
                    f"the reservation {row.id!r} was committed and cannot be refunded",
                    hint="spending is history; raise the account's limit instead",
                )
            if row.state != "refunded":
                self._release(row, "refunded")

    def renew(self, reservation: str | Reservation, ttl_s: float) -> Reservation:
        """Hold a reservation for `ttl_s` from now on; a time that ends later is kept.

        Raises:
            NotFoundError: if there is no such reservation.
            ArgumentError: if it is not open any more.
        """
        with self._database.transaction():
            row = self._known(reservation)
            if row.state != "open":
                raise ArgumentError(
                    f"the reservation {row.id!r} is {row.state} and cannot be renewed",
                    hint="reserve again, with another operation id if it was committed",
                )
            until = max(row.expires_ns, self._clock.now_ns() + int(ttl_s * _NS))
            self._store.renew(row, until)
        return _reservation(row._replace(expires_ns=until))

    def expire(self) -> int:
        """Give back what is held past its time or by a process that ended; return how many."""
        return self._expire_due() + self._expire_dead()

    def give_back(self, account: str) -> int:
        """Give back what an agent's own sessions hold, and not its forks; return how many.

        Such a reservation has expired: what its operation used all the same still counts when it
        is settled.

        Raises:
            ArgumentError: if the account is not one.
        """
        holder = Account.parse(account)
        with self._database.transaction():
            below = self._store.below(holder)
            own = [row for row in below if row.account.nearest("agent") == holder]
            for row in own:
                self._release(row, "expired")
        return len(own)

    def find(self, reservation: str) -> Known | None:
        """Return a reservation with its state, or None if there is none."""
        row = self._store.get(reservation)
        return row and Known(reservation=_reservation(row), state=row.state, used=row.used)

    def status(self, account: str) -> tuple[Balance, ...]:
        """Return the balances of every account on the path, from the root down.

        Raises:
            ArgumentError: if the account is not one.
        """
        payer = Account.parse(account)
        self._sweep(look=True)
        lines = self._lines(payer)
        ids = self._known_ids(payer)
        lines.sort(key=lambda line: (ids.index(line.account), line.resource, _ORDER[line.window]))
        return tuple(
            _balance(payer.path[ids.index(line.account)], line)
            for line in lines
            if line.window == "total" or line.cap is not None
        )

    def limited(self, account: str) -> set[str]:
        """Return the resources that a limit on the path of an account is set for.

        Raises:
            ArgumentError: if the account is not one.
        """
        ids = self._known_ids(Account.parse(account))
        lines = self._store.lines(ids) if ids else []
        return {line.resource for line in lines if line.cap is not None}

    def alerts(self, account: str, since: int = 0) -> tuple[Alert, ...]:
        """Return the alerts of every account on the path whose id is above `since`, by id.

        Raises:
            ArgumentError: if the account is not one.
        """
        ids = self._known_ids(Account.parse(account))
        return tuple(self._store.alerts(ids, since))

    def set_alerts(self, account: str, percents: Sequence[int] | None) -> None:
        """Choose the percents of its limits at which an account alerts; None: the usual ones.

        Raises:
            ArgumentError: if the account or a percent is not one.
        """
        payer = Account.parse(account)
        if percents is not None:
            thresholds_of.check_thresholds(percents)
        self._limits.set_thresholds(payer, percents)

    def prices(self, account: str) -> dict[str, float]:
        """Return what a unit of each limited resource costs on this path, in the caller's value.

        A hint (see prices.py): 0 for what is not scarce. No limit depends on it.

        Raises:
            ArgumentError: if the account is not one.
        """
        found: dict[str, float] = {}
        for line in self._lines(Account.parse(account)):
            if line.cap:
                move_price(line, max(self._clock.now_ns(), line.start_ns))
                found[line.resource] = found.get(line.resource, 0.0) + line.price / line.cap
        return found

    def price_of(self, account: str, amounts: Mapping[str, int]) -> float:
        """Return what amounts cost at the present prices: worth it if the caller's value is above.

        Raises:
            ArgumentError: if the account or an amount is not one.
        """
        check_amounts(amounts)
        prices = self.prices(account)
        return sum(prices.get(resource, 0.0) * amount for resource, amount in amounts.items())

    def set_price(
        self,
        account: str,
        resource: str,
        *,
        window: Window = "total",
        step: float | None = None,
        until_ns: int | None = None,
    ) -> None:
        """Choose how fast the price of a limit moves, and when a total should be used up.

        Windows have prices anyway; a total has one from the time that it has an end.

        Raises:
            ArgumentError: if the account, the resource, the window or the step is not one.
        """
        self._limits.set_price(Account.parse(account), resource, window, step, until_ns)

    def set_weight(self, account: str, weight: float) -> None:
        """Set a tenant's weight in the fair shares of its organisation; 1 unless it is set.

        Raises:
            ArgumentError: if the account is not one, or the weight not above 0.
        """
        self._limits.set_weight(Account.parse(account), weight)

    def _reserve_quickly(self, ask: _Ask) -> Reservation | None:
        """Reserve in the usual case; None where it is not that, and nothing has happened."""
        ids = self._store.known_ids(ask.payer)
        owner = None if ask.owner is None else self._store.known_owner(ask.owner)
        if ids is None or (owner is None and ask.owner is not None):
            return None
        made_ns = self._clock.now_ns()
        times = (made_ns, made_ns + int(ask.ttl_s * _NS))
        if not self._quick.reserve(ids, ask.amounts, ask.operation, times_ns=times, owner=owner):
            return None
        row = Row(scope_of(ids), ask.operation, 0, ask.payer, "open", *times, ask.amounts, None)
        return _reservation(row)

    def _commit_quickly(self, reservation: Reservation, actual: Mapping[str, int] | None) -> bool:
        """Commit in the usual case; False where it is not that, and nothing has happened."""
        ids = self._store.known_ids(Account(reservation.account))
        place = place_of(reservation.id)
        if ids is None or place is None:
            return False
        held = reservation.amounts
        return self._quick.commit(ids, place, held, held if actual is None else actual)

    def _attempt(self, ask: _Ask) -> Reservation | Refusal:
        amounts = ask.amounts
        with self._database.transaction():
            book = self._book(ask.payer, amounts.keys())
            scope = scope_of(book.ids)
            refused = self._refusal(book, amounts)
            expires_ns = self._clock.now_ns() + int(ask.ttl_s * _NS)
            made = (ask.payer, "open", book.now_ns, expires_ns, amounts, None)
            row = Row(scope, ask.operation, 0, *made)
            owner = None if ask.owner is None else self._store.owner(ask.owner)
            if refused is not None or not self._store.open(row, book.ids[-1], owner):
                known = self._store.last(scope, ask.operation)
                if known is not None and known.state in ("open", "committed"):
                    return _again(known, ask)
                if refused is not None:
                    return refused
                row = row._replace(turn=known.turn + 1 if known else 0)
                self._store.open(row, book.ids[-1], owner)
            book.hold(amounts)
            book.save()
        return _reservation(row)

    def _refusal(self, book: Book, amounts: Mapping[str, int]) -> Refusal | None:
        refused = book.refusal(amounts)
        if refused is None and book.rates:
            refused = self._contention.refusal(book, amounts)
        return refused

    def _note(self, payer: Account, resources: Iterable[str], refused: Refusal) -> None:
        """Remember who was refused: others leave it its share of the window."""
        if refused.line.window == "total":
            return

        def note() -> None:
            with self._database.transaction():
                self._contention.note(self._book(payer, resources), refused)

        # The refusal ends the caller's transaction, and must be known all the same.
        self._database.after(note, always=True)

    def _book(self, payer: Account, resources: Iterable[str]) -> Book:
        return Book(self._store, payer, frozenset(resources), self._clock.now_ns())

    def _sweep(self, *, look: bool = False) -> int:
        """Give back what is due; not each time, and seldom look for processes that ended."""
        now = time.monotonic()
        count = 0
        if look or now - self._looked_for_due >= _LOOK_FOR_DUE_S:
            self._looked_for_due = now
            count += self._expire_due()
        if now - self._looked_for_dead >= _LOOK_FOR_DEAD_S:
            self._looked_for_dead = now
            count += self._expire_dead()
        return count

    def _expire_due(self) -> int:
        now_ns = self._clock.now_ns()
        if not self._store.any_due(now_ns):
            return 0
        with self._database.transaction():
            rows = self._store.due(now_ns)
            for row in rows:
                self._release(row, "expired")
        return len(rows)

    def _expire_dead(self) -> int:
        dead = [number for number, owner in self._store.owners() if is_dead(owner)]
        count = 0
        for number in dead:
            with self._database.transaction():
                rows = self._store.owned(number)
                for row in rows:
                    self._release(row, "expired")
                self._store.drop_owner(number)
            count += len(rows)
        return count

    def _release(self, row: Row, state: Literal["refunded", "expired"]) -> None:
        if row.state == "open":
            book = self._book(row.account, row.amounts)
            book.release(row)
            book.save()
        self._store.close(row, state, None)

    def _known(self, reservation: str | Reservation) -> Row:
        name = reservation if isinstance(reservation, str) else reservation.id
        row = self._store.get(name)
        if row is None:
            raise NotFoundError(
                f"there is no reservation {name!r}",
                hint="give the id that the reserving call returned",
            )
        return row

    def _known_ids(self, payer: Account) -> tuple[int, ...]:
        """Return the ids of the part of a path that has rows."""
        found = [ids for each in payer.path if (ids := self._store.ids(each)) is not None]
        return found[-1] if found else ()

    def _lines(self, payer: Account) -> list[Line]:
        """Return the lines of a path as they are now, without changing them."""
        ids = self._known_ids(payer)
        lines = self._store.lines(ids) if ids else []
        now_ns = max([self._clock.now_ns(), *(line.start_ns for line in lines)])
        for line in lines:
            roll(line, now_ns)
        return lines


class _Ask:
    """What `reserve` was asked for."""

    __slots__ = ("amounts", "operation", "owner", "payer", "ttl_s")

    def __init__(
        self,
        payer: Account,
        amounts: dict[str, int],
        operation: str,
        ttl_s: float,
        owner: Owner | None,
    ) -> None:
        self.payer = payer
        self.amounts = amounts
        self.operation = operation
        self.ttl_s = ttl_s
        self.owner = owner


_ORDER: dict[Window, int] = {window: number for number, window in enumerate(WINDOWS)}


def _again(row: Row, ask: _Ask) -> Reservation:
    """Return the reservation that was made for the same, or say why it is not the same."""
    if row.state == "committed":
        raise ArgumentError(
            f"the operation {ask.operation!r} is already used and settled",
            hint="give a new operation its own id",
        )
    if row.account != ask.payer or row.amounts != ask.amounts:
        raise ArgumentError(
            f"the operation {ask.operation!r} was reserved with {row.amounts} from"
            f" {str(row.account)!r}, and now asks for {ask.amounts} from {str(ask.payer)!r}",
            hint="give each operation its own id",
        )
    return _reservation(row)


def _reservation(row: Row) -> Reservation:
    return Reservation(
        id=row.id,
        account=str(row.account),
        operation=row.key,
        amounts=row.amounts,
        expires_ns=row.expires_ns,
    )


def _balance(account: Account, line: Line) -> Balance:
    used = line.reserved + line.spent
    return Balance(
        account=str(account),
        resource=line.resource,
        limit=line.cap,
        reserved=line.reserved,
        spent=line.spent,
        left=None if line.cap is None else max(0, line.cap - used),
        window=line.window,
        debt=0 if line.cap is None else max(0, line.spent - line.cap),
        resets_ns=end_of(line.window, line.start_ns),
    )
