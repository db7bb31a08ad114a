"""The balances of one path of accounts inside one transaction: what holds, spends and refuses.

A reservation counts in the window in which it was made. Usage up to what was reserved counts there
too; usage above it, or after the window has passed, counts where it becomes known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fmos.errors import BudgetExceededError
from fmos.ledger import alerts, prices
from fmos.ledger.accounts import Account
from fmos.ledger.model import Alert
from fmos.ledger.store import LedgerStore, Line, Row
from fmos.ledger.windows import Window, end_of, start_of

#: The alert of a fresh window is looked up at its first spending.
_LOOK_UP = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an account cannot set an amount aside."""

    line: Line
    account: Account
    asked: int
    left: int
    fair: bool = False

    def error(self) -> BudgetExceededError:
        """Return the error that a caller gets."""
        resource, window = self.line.resource, self.line.window
        within = "" if window == "total" else f" in this {window}"
        debt = self.line.spent - (self.line.cap or 0)
        owes = f" (it is {debt} in debt)" if debt > 0 else ""
        share = " of its fair share" if self.fair else ""
        wait = "" if window == "total" else f", or wait until the {window} ends"
        hint = f"raise its {resource} limit (`budgets` in the contract), or ask for less{wait}"
        return BudgetExceededError(
            f"the account {str(self.account)!r} has {self.left}{share} of {self.line.cap}"
            f" {resource} left{within}{owes}, and {self.asked} are asked for",
            hint="other tenants wait for theirs: retry later" if self.fair else hint,
            account=str(self.account),
            resource=resource,
            asked=self.asked,
            left=self.left,
        )


class Book:
    """The lines of one path for some resources. Read once, changed, and saved by `save`."""

    def __init__(
        self, store: LedgerStore, payer: Account, resources: Collection[str], clock_ns: int
    ) -> None:
        self._store = store
        self.payer = payer
        self.ids = store.make_ids(payer)
        self.lines = self._read(resources)
        if self._add_missing(resources, clock_ns):
            self.lines = self._read(resources)
        self.now_ns = clock_ns
        self.rates = [line for line in self.lines if line.window != "total"]
        if self.rates:
            # A clock that went back opens no window again: the latest that was seen counts.
            self.now_ns = max(clock_ns, *(line.start_ns for line in self.rates))
            for line in self.rates:
                roll(line, self.now_ns)

    def save(self) -> None:
        """Write what changed."""
        self._store.save(self.lines)

    def account(self, line: Line) -> Account:
        """Return the account of a line."""
        return self.payer.path[self.ids.index(line.account)]

    def refusal(self, amounts: Mapping[str, int]) -> Refusal | None:
        """Return why amounts cannot be set aside, from the first account that is short; or None."""
        for line in self.lines:
            if line.cap is None:
                continue
            asked = amounts.get(line.resource, 0)
            left = line.cap - line.reserved - line.spent
            if asked > max(0, left):
                return Refusal(line, self.account(line), asked, max(0, left))
        return None

    def hold(self, amounts: Mapping[str, int]) -> None:
        """Set amounts aside on every line."""
        for line in self.lines:
            line.reserved += amounts[line.resource]
            line.changed = True

    def release(self, row: Row) -> None:
        """Give back what an open reservation holds."""
        for line in self.lines:
            if _counts(line, row):
                line.reserved -= row.amounts.get(line.resource, 0)
                line.changed = True

    def spend(self, row: Row, used: Mapping[str, int]) -> tuple[Alert, ...]:
        """Turn what a reservation holds into what was used; return the alerts that raises."""
        told: list[Alert] = []
        for line in self.lines:
            held = row.amounts.get(line.resource, 0) if row.state == "open" else 0
            spent = used.get(line.resource, 0)
            if _counts(line, row):
                line.reserved -= held
                line.spent += spent
            else:
                line.spent += max(0, spent - held)
            line.changed = True
            if line.alert_at is not None and line.spent >= line.alert_at:
                told += self._tell(line)
            if line.cap is not None:
                move_price(line, self.now_ns)
        return tuple(told)

    def _read(self, resources: Collection[str]) -> list[Line]:
        return [line for line in self._store.lines(self.ids) if line.resource in resources]

    def _add_missing(self, resources: Collection[str], clock_ns: int) -> bool:
        rates = [line for line in self.lines if line.window != "total"]
        if len(self.lines) - len(rates) == len(self.ids) * len(resources) and not rates:
            return False
        there = {(line.account, line.resource, line.window) for line in self.lines}
        wanted: list[tuple[int, str, Window]] = [
            (each, name, "total") for each in self.ids for name in resources
        ]
        if len(self.ids) > 1:  # a tenant's use of its organisation's rates, for fair shares
            shared = [line for line in rates if line.account == self.ids[0]]
            wanted.extend((self.ids[1], line.resource, line.window) for line in shared)
        missing = [each for each in wanted if each not in there]
        for account, resource, window in missing:
            where = self.payer.path[self.ids.index(account)]
            add_line(self._store, account, where, resource, window, clock_ns)
        return bool(missing)

    def _tell(self, line: Line) -> list[Alert]:
        thresholds = self._store.thresholds(line.account)
        cap, due = line.cap or 0, line.alert_at or 0
        line.alert_at = alerts.due_at(line.cap, line.spent, thresholds)
        line.altered = True
        if not cap:
            return []
        account = self.account(line)
        return [
            self._store.add_alert(account, line, percent, self.now_ns)
            for percent in alerts.crossed(cap, due, line.spent, thresholds)
        ]


def add_line(
    store: LedgerStore, account: int, path: Account, resource: str, window: Window, clock_ns: int
) -> None:
    """Add a line that counts what is open in its window already."""
    held = [] if window == "total" else store.held(path, resource)
    start_ns = start_of(window, max([clock_ns, *(made for made, _ in held)]))
    reserved = sum(amount for made, amount in held if made >= start_ns)
    store.add_line(account, resource, window, reserved, start_ns)


def roll(line: Line, now_ns: int) -> None:
    """Begin the window that holds `now_ns`, if the line is of an earlier one."""
    start_ns = start_of(line.window, now_ns)
    if start_ns <= line.start_ns:
        return
    line.start_ns = start_ns
    line.priced_spent -= line.spent
    line.reserved = line.spent = 0
    line.alert_at = _LOOK_UP if line.cap else None
    line.altered = True


def move_price(line: Line, now_ns: int) -> None:
    """Move the price of a limited line, if its time has come."""
    if line.window == "total" and line.until_ns is None:
        return
    interval = prices.interval_ns(line.window, line.start_ns, line.until_ns, line.priced_ns)
    elapsed = now_ns - line.priced_ns
    if interval is None or line.cap is None or elapsed < interval:
        return
    if line.priced_ns:
        steps = elapsed // interval
        line.price = prices.ascend(
            line.price,
            used=line.spent - line.priced_spent,
            allowed=_allowed(line, line.cap, now_ns),
            step=(line.step or prices.DEFAULT_STEP) * steps,
        )
    line.priced_ns = now_ns
    line.priced_spent = line.spent
    line.altered = True


def _allowed(line: Line, cap: int, now_ns: int) -> float:
    """Return what the budget allowed since the last step, from what was left of it then."""
    since, left = line.priced_ns, cap - line.priced_spent
    end = line.until_ns if line.window == "total" else end_of(line.window, line.start_ns)
    if line.window != "total" and since < line.start_ns:
        since, left = line.start_ns, cap
    rate = left / (end - since) if end is not None and end > since else 0.0
    return rate * (now_ns - line.priced_ns)


def _counts(line: Line, row: Row) -> bool:
    """Return whether an open reservation is in the line's window; any line's, for a total."""
    if line.window == "total":
        return True
    return row.state == "open" and line.start_ns == start_of(line.window, row.made_ns)
