"""What limits an account, and how its alerts, prices and share are set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from fmos.clock import Clock
from fmos.errors import ArgumentError
from fmos.ledger import alerts
from fmos.ledger.accounts import Account
from fmos.ledger.book import add_line, roll
from fmos.ledger.model import check_amount, check_resource, check_window
from fmos.ledger.store import LedgerStore, Line
from fmos.ledger.windows import Window
from fmos.storage.database import Database

#: The source of a limit that a person set.
BY_HAND = ""


class Limits:
    """The settings of accounts. Each change is one transaction."""

    def __init__(self, database: Database, store: LedgerStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock

    def set(self, account: Account, resource: str, limit: int | None, window: Window) -> None:
        """Set or remove a person's limit."""
        _check(resource, window, limit)
        with self._database.transaction():
            self._put(account, resource, window, BY_HAND, limit)

    def apply(
        self, accounts: Mapping[Account, Mapping[tuple[str, Window], int]], source: str
    ) -> bool:
        """Make a source's limits of these accounts exactly these; write only what differs."""
        if source == BY_HAND:
            raise ArgumentError("a source needs a name", hint="such as 'contract'")
        for limits in accounts.values():
            for (resource, window), limit in limits.items():
                _check(resource, window, limit)
        if self._declared(accounts, source) == accounts:
            return False
        with self._database.transaction():
            for account, known in self._declared(accounts, source).items():
                limits = accounts[account]
                for key in sorted(known.keys() | limits.keys()):
                    if known.get(key) != limits.get(key):
                        self._put(account, *key, source, limits.get(key))
        return True

    def set_thresholds(self, account: Account, percents: Sequence[int] | None) -> None:
        """Set the percents at which an account alerts."""
        with self._database.transaction():
            number = self._store.make_ids(account)[-1]
            self._store.put_thresholds(number, percents)
            lines = self._store.lines([number])
            for line in lines:
                self._set_alert(line)
            self._store.save(lines)

    def set_price(
        self,
        account: Account,
        resource: str,
        window: Window,
        step: float | None,
        until_ns: int | None,
    ) -> None:
        """Set how the price of a limit moves."""
        _check(resource, window, None)
        if step is not None and not 0 < step < math.inf:
            raise ArgumentError(f"{step!r} cannot be a step", hint="give a number above 0")
        with self._database.transaction():
            line = self._line(account, resource, window)
            line.step, line.until_ns = step, until_ns
            line.priced_ns, line.priced_spent = self._clock.now_ns(), line.spent
            line.altered = True
            self._store.save([line])

    def set_weight(self, account: Account, weight: float) -> None:
        """Set an account's weight among its siblings."""
        if not 0 < weight < math.inf:
            raise ArgumentError(f"{weight!r} cannot be a weight", hint="give a number above 0")
        with self._database.transaction():
            self._store.put_weight(self._store.make_ids(account)[-1], weight)

    def _declared(
        self, accounts: Iterable[Account], source: str
    ) -> dict[Account, dict[tuple[str, Window], int]]:
        """Return what a source declares for accounts; nothing for one that has no row yet."""
        paths = {account: self._store.ids(account) for account in accounts}
        known = self._store.limits([ids[-1] for ids in paths.values() if ids], source)
        return {account: known[ids[-1]] if ids else {} for account, ids in paths.items()}

    def _put(
        self, account: Account, resource: str, window: Window, source: str, limit: int | None
    ) -> None:
        line = self._line(account, resource, window)
        line.cap = self._store.put_limit(line.account, resource, window, source, limit)
        self._set_alert(line)
        line.altered = True
        self._store.save([line])

    def _line(self, account: Account, resource: str, window: Window) -> Line:
        """Return a line as it is now, adding it when it is new."""
        ids = self._store.make_ids(account)
        now_ns = self._clock.now_ns()
        add_line(self._store, ids[-1], account, resource, window, now_ns)
        lines = self._store.lines(ids)
        now_ns = max([now_ns, *(line.start_ns for line in lines)])
        [found] = [
            line
            for line in lines
            if (line.account, line.resource, line.window) == (ids[-1], resource, window)
        ]
        roll(found, now_ns)
        return found

    def _set_alert(self, line: Line) -> None:
        thresholds = self._store.thresholds(line.account)
        line.alert_at = alerts.due_at(line.cap, line.spent, thresholds)
        line.altered = True


def _check(resource: str, window: str, limit: int | None) -> None:
    check_resource(resource)
    check_window(window)
    if limit is not None:
        check_amount(resource, limit)
