"""All SQL of the ledger. Every writing method expects the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple, cast

from pydantic_core import from_json, to_json

from fmos.ledger import migrate
from fmos.ledger.accounts import Account
from fmos.ledger.model import THRESHOLDS, Alert, ReservationState
from fmos.ledger.owners import Owner
from fmos.ledger.windows import Window
from fmos.storage.database import Database

_CACHED_PATHS = 10_000

_ID = "SELECT id FROM account WHERE path = ?"
_ADD_ACCOUNT = "INSERT INTO account(path, parent) VALUES (?, ?)"
# One statement for a path, without IN: that fills a temporary table, which takes longer.
_LINES = """
SELECT account, resource, window, cap, reserved, spent, start_ns, alert_at, price, priced_ns,
    priced_spent, step, until_ns FROM balance WHERE account = ?
"""
_SAVE = """
UPDATE balance SET cap = ?, reserved = ?, spent = ?, start_ns = ?, alert_at = ?, price = ?,
    priced_ns = ?, priced_spent = ?, step = ?, until_ns = ?
WHERE account = ? AND resource = ? AND window = ?
"""
_SAVE_AMOUNTS = """
UPDATE balance SET reserved = ?, spent = ? WHERE account = ? AND resource = ? AND window = ?
"""
_ADD_LINE = """
INSERT OR IGNORE INTO balance(account, resource, window, reserved, start_ns, rated)
VALUES (?1, ?2, ?3, ?4, ?5, ?3 = 'total' AND EXISTS (
    SELECT 1 FROM balance WHERE account = ?1 AND resource = ?2 AND window <> 'total'))
"""
_RATED = "UPDATE balance SET rated = 1 WHERE account = ? AND resource = ? AND window = 'total'"
_HELD = """
SELECT r.made_ns, r.amounts FROM reservation r INDEXED BY reservation_due
JOIN account a ON a.id = r.account
WHERE r.state = 'open' AND (a.path = ?1 OR substr(a.path, 1, length(?1) + 1) = ?1 || '/')
"""
_OPEN = """
INSERT INTO reservation(scope, key, turn, account, state, made_ns, expires_ns, owner, amounts)
VALUES (?, ?, ?, ?, 'open', ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# A subquery, because a join of the two takes several times as long.
_COLUMNS = """
SELECT scope, key, turn, (SELECT path FROM account WHERE id = reservation.account), state, made_ns,
    expires_ns, amounts, used FROM reservation
"""
_GET = _COLUMNS + "WHERE scope = ? AND key = ? AND turn = ?"
_LAST = _COLUMNS + "WHERE scope = ? AND key = ? ORDER BY turn DESC LIMIT 1"
_DUE = _COLUMNS + "INDEXED BY reservation_due WHERE state = 'open' AND expires_ns <= ?"
_OWNED = _COLUMNS + "INDEXED BY reservation_due WHERE state = 'open' AND owner = ?"
_BELOW = (
    _COLUMNS
    + """INDEXED BY reservation_due WHERE state = 'open' AND account IN (
    SELECT id FROM account WHERE path = ?1 OR substr(path, 1, length(?1) + 1) = ?1 || '/')
"""
)
_ANY_DUE = "SELECT 1 FROM reservation WHERE state = 'open' AND expires_ns <= ? LIMIT 1"
_CLOSE = "UPDATE reservation SET state = ?, used = ? WHERE scope = ? AND key = ? AND turn = ?"
_RENEW = "UPDATE reservation SET expires_ns = ? WHERE scope = ? AND key = ? AND turn = ?"

_LIMITS = "SELECT account, resource, window, amount FROM account_limit WHERE source = ?"
_PUT_LIMIT = "INSERT OR REPLACE INTO account_limit VALUES (?, ?, ?, ?, ?)"
_DROP_LIMIT = """
DELETE FROM account_limit WHERE account = ? AND resource = ? AND window = ? AND source = ?
"""
# A person's limit, whose source is '', goes before those of documents.
_CAP = """
SELECT amount FROM account_limit WHERE account = ? AND resource = ? AND window = ?
ORDER BY source <> '', amount LIMIT 1
"""
_ADD_ALERT = """
INSERT INTO alert(account, resource, window, start_ns, percent, cap, spent, at_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
_ALERTS = """
SELECT x.id, a.path, x.resource, x.window, x.percent, x.cap, x.spent, x.at_ns FROM alert x
JOIN account a ON a.id = x.account WHERE x.account = ? AND x.id > ?
"""
_DEMANDS = """
SELECT account, start_ns, refused, wanted, before FROM demand
WHERE parent = ? AND resource = ? AND window = ?
"""
_PUT_DEMAND = "INSERT OR REPLACE INTO demand VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_CHILDREN = """
SELECT a.id, a.weight, coalesce(b.reserved + b.spent, 0) FROM account a LEFT JOIN balance b
ON b.account = a.id AND b.resource = ?2 AND b.window = ?3 AND b.start_ns = ?4 WHERE a.parent = ?1
"""
_OWNER = "SELECT id FROM owner WHERE boot = ? AND space = ? AND pid = ? AND started = ?"


@dataclass(slots=True)
class Line:
    """One row of `balance`: an account's use of one resource in one window.

    `changed`: its amounts are to be written; `altered`: the rest of it, too.
    """

    account: int
    resource: str
    window: Window
    cap: int | None
    reserved: int
    spent: int
    start_ns: int
    alert_at: int | None
    price: float
    priced_ns: int
    priced_spent: int
    step: float | None
    until_ns: int | None
    changed: bool = False
    altered: bool = False


class Row(NamedTuple):
    """One reservation."""

    scope: int
    key: str
    turn: int
    account: Account
    state: ReservationState
    made_ns: int
    expires_ns: int
    amounts: dict[str, int]
    used: dict[str, int] | None

    @property
    def id(self) -> str:
        """The id that callers have: where the row is."""
        return f"{self.scope:x}.{self.turn}.{self.key}"


class Demand(NamedTuple):
    """What a tenant wanted when it was last refused, in the window that began at `start_ns`."""

    account: int
    start_ns: int
    refused: int
    wanted: int
    before: int


class Child(NamedTuple):
    """A tenant's weight and its use in a window."""

    account: int
    weight: float
    used: int


class LedgerStore:
    """The ledger's tables in kernel.db."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[str, tuple[int, ...]] = {}
        self._owners: dict[Owner, int] = {}
        first = resources.files("fmos.ledger").joinpath("migrations", "0001_untyped.sql")
        steps = [first.read_text(encoding="utf-8"), migrate.to_typed_accounts]
        database.install("ledger", steps)

    def ids(self, account: Account) -> tuple[int, ...] | None:
        """Return the ids of an account's path from the root down, or None if it has no row."""
        known = self._ids.get(account)
        if known is not None:
            return known
        found = [self._database.query(_ID, (str(each),)) for each in account.path]
        if not all(found):
            return None
        return self._remember(account, tuple(rows[0][0] for rows in found))

    def make_ids(self, account: Account) -> tuple[int, ...]:
        """Return the ids of an account's path, adding the accounts that are new."""
        known = self.ids(account)
        if known is not None:
            return known
        made: list[int] = []
        for each in account.path:
            rows = self._database.query(_ID, (str(each),))
            if not rows:
                self._database.execute(_ADD_ACCOUNT, (str(each), made[-1] if made else None))
                rows = self._database.query(_ID, (str(each),))
            made.append(rows[0][0])
        return self._remember(account, tuple(made))

    def _remember(self, account: Account, ids: tuple[int, ...]) -> tuple[int, ...]:
        # Not before the commit: a rolled back id may become another account's.
        def keep() -> None:
            if len(self._ids) >= _CACHED_PATHS:
                self._ids.clear()
            self._ids[account] = ids

        self._database.after(keep)
        return ids

    def lines(self, ids: Sequence[int]) -> list[Line]:
        """Return all rows of `balance` of the accounts given, in their order."""
        return [Line(*row) for row in self._database.query(_lines_of(len(ids)), ids)]

    def save(self, lines: Iterable[Line]) -> None:
        """Write the lines that changed."""
        amounts: list[tuple[object, ...]] = []
        for line in lines:
            if line.altered:
                self._database.execute(_SAVE, _bindings(line))
            elif line.changed:
                where = (line.account, line.resource, line.window)
                amounts.append((line.reserved, line.spent, *where))
            line.changed = line.altered = False
        self._database.execute_each(_SAVE_AMOUNTS, amounts)

    def add_line(
        self, account: int, resource: str, window: Window, reserved: int = 0, start_ns: int = 0
    ) -> None:
        """Add a row to `balance`, if it is not there."""
        self._database.execute(_ADD_LINE, (account, resource, window, reserved, start_ns))
        if window != "total":
            self._database.execute(_RATED, (account, resource))

    def held(self, account: str, resource: str) -> list[tuple[int, int]]:
        """Return when each open reservation at or below an account was made, and its amount."""
        rows = self._database.query(_HELD, (str(account),))
        return [(made, from_json(amounts).get(resource, 0)) for made, amounts in rows]

    def open(self, row: Row, account: int, owner: int | None) -> bool:
        """Write an open reservation, and return False if its key and turn are taken."""
        amounts = as_json(row.amounts)
        bindings = (row.scope, row.key, row.turn, account, row.made_ns, row.expires_ns)
        return self._database.execute(_OPEN, (*bindings, owner, amounts)) == 1

    def last(self, scope: int, key: str) -> Row | None:
        """Return the newest reservation of a key."""
        return self._one(_LAST, (scope, key))

    def get(self, reservation: str) -> Row | None:
        """Return a reservation by its id."""
        place = place_of(reservation)
        try:
            return self._one(_GET, place) if place is not None else None
        except OverflowError:
            return None

    def close(self, row: Row, state: ReservationState, used: Mapping[str, int] | None) -> None:
        """Set the state in which a reservation ended."""
        text = None if used is None else as_json(dict(used))
        self._database.execute(_CLOSE, (state, text, row.scope, row.key, row.turn))

    def renew(self, row: Row, expires_ns: int) -> None:
        """Set until when a reservation holds."""
        self._database.execute(_RENEW, (expires_ns, row.scope, row.key, row.turn))

    def any_due(self, now_ns: int) -> bool:
        """Return whether an open reservation's time is up."""
        return bool(self._database.query(_ANY_DUE, (now_ns,)))

    def due(self, now_ns: int) -> list[Row]:
        """Return the open reservations whose time is up."""
        return [_row(each) for each in self._database.query(_DUE, (now_ns,))]

    def below(self, account: Account) -> list[Row]:
        """Return the open reservations at or below an account."""
        return [_row(each) for each in self._database.query(_BELOW, (str(account),))]

    def owned(self, owner: int) -> list[Row]:
        """Return the open reservations of a process."""
        return [_row(each) for each in self._database.query(_OWNED, (owner,))]

    def owners(self) -> list[tuple[int, Owner]]:
        """Return the processes that have reserved and are not known to have ended."""
        rows = self._database.query("SELECT id, boot, space, pid, started FROM owner")
        return [(row[0], Owner(*row[1:])) for row in rows]

    def known_ids(self, account: Account) -> tuple[int, ...] | None:
        """Return the ids of an account's path if this process has looked them up already."""
        return self._ids.get(account)

    def known_owner(self, owner: Owner) -> int | None:
        """Return the id of a process if this one has looked it up already."""
        return self._owners.get(owner)

    def owner(self, owner: Owner) -> int:
        """Return the id of a process, adding it when it is new."""
        known = self._owners.get(owner)
        if known is not None:
            return known
        self._database.execute(
            "INSERT OR IGNORE INTO owner(boot, space, pid, started) VALUES (?, ?, ?, ?)", owner
        )
        found: int = self._database.query(_OWNER, owner)[0][0]
        self._database.after(lambda: self._owners.update({owner: found}))
        return found

    def drop_owner(self, owner: int) -> None:
        """Forget a process that has ended."""
        self._database.execute("DELETE FROM owner WHERE id = ?", (owner,))

    def limits(
        self, accounts: Sequence[int], source: str
    ) -> dict[int, dict[tuple[str, Window], int]]:
        """Return the limits that one source gives each of the accounts."""
        found: dict[int, dict[tuple[str, Window], int]] = {each: {} for each in accounts}
        places = ", ".join("?" * len(accounts))
        rows = self._database.query(f"{_LIMITS} AND account IN ({places})", (source, *accounts))
        for account, resource, window, amount in rows:
            found[account][resource, window] = amount
        return found

    def put_limit(
        self, account: int, resource: str, window: Window, source: str, amount: int | None
    ) -> int | None:
        """Note what a source says, or says no more, and return what the limit now is."""
        where = (account, resource, window, source)
        if amount is None:
            self._database.execute(_DROP_LIMIT, where)
        else:
            self._database.execute(_PUT_LIMIT, (*where, amount))
        rows = self._database.query(_CAP, where[:3])
        return rows[0][0] if rows else None

    def thresholds(self, account: int) -> tuple[int, ...]:
        """Return the percents at which an account alerts."""
        rows = self._database.query("SELECT thresholds FROM account WHERE id = ?", (account,))
        return THRESHOLDS if not rows or rows[0][0] is None else tuple(from_json(rows[0][0]))

    def put_thresholds(self, account: int, thresholds: Sequence[int] | None) -> None:
        """Set the percents at which an account alerts; None for the usual ones."""
        text = None if thresholds is None else as_json(sorted(set(thresholds)))
        self._database.execute("UPDATE account SET thresholds = ? WHERE id = ?", (text, account))

    def add_alert(self, account: Account, line: Line, percent: int, at_ns: int) -> Alert:
        """Keep an alert and return it."""
        cap = line.cap or 0
        where = (line.account, line.resource, line.window, line.start_ns)
        [(number,)] = self._database.query(_ADD_ALERT, (*where, percent, cap, line.spent, at_ns))
        return _alert(
            (number, account, line.resource, line.window, percent, cap, line.spent, at_ns)
        )

    def alerts(self, ids: Sequence[int], since: int) -> list[Alert]:
        """Return the alerts of accounts after an id, oldest first."""
        rows = [row for each in ids for row in self._database.query(_ALERTS, (each, since))]
        return [_alert(row) for row in sorted(rows)]

    def put_weight(self, account: int, weight: float) -> None:
        """Set an account's weight among its siblings."""
        self._database.execute("UPDATE account SET weight = ? WHERE id = ?", (weight, account))

    def demands(self, line: Line) -> list[Demand]:
        """Return what was refused below the account of a line, at last."""
        rows = self._database.query(_DEMANDS, (line.account, line.resource, line.window))
        return [Demand(*row) for row in rows]

    def put_demand(self, line: Line, demand: Demand) -> None:
        """Write what a tenant wanted of a line."""
        where = (line.account, demand.account, line.resource, line.window)
        self._database.execute(_PUT_DEMAND, (*where, *demand[1:]))

    def children(self, line: Line) -> list[Child]:
        """Return the accounts below the one of a line, and their use in its window."""
        where = (line.account, line.resource, line.window, line.start_ns)
        return [Child(*row) for row in self._database.query(_CHILDREN, where)]

    def _one(self, sql: str, bindings: tuple[object, ...]) -> Row | None:
        rows = self._database.query(sql, bindings)
        return _row(rows[0]) if rows else None


def scope_of(ids: Sequence[int]) -> int:
    """Return in which account's reservations the keys of a path are unique: its tenant's."""
    return ids[min(1, len(ids) - 1)]


def place_of(reservation: str) -> tuple[int, str, int] | None:
    """Return where the row of a reservation's id is: scope, key and turn; None if it is no id."""
    scope, _, rest = reservation.partition(".")
    turn, _, key = rest.partition(".")
    try:
        return int(scope, 16), key, int(turn)
    except ValueError:
        return None


def as_json(value: object) -> str:
    """Return amounts as the text that is kept of them."""
    return to_json(value).decode()


@cache
def _lines_of(depth: int) -> str:
    return " UNION ALL ".join([_LINES] * depth)


def _bindings(line: Line) -> tuple[object, ...]:
    return (
        line.cap,
        line.reserved,
        line.spent,
        line.start_ns,
        line.alert_at,
        line.price,
        line.priced_ns,
        line.priced_spent,
        line.step,
        line.until_ns,
        line.account,
        line.resource,
        line.window,
    )


def _row(values: tuple[object, ...]) -> Row:
    scope, key, turn, path, state, made, expires, amounts, used = cast(
        "tuple[int, str, int, str, ReservationState, int, int, str, str | None]", values
    )
    spent = None if used is None else from_json(used)
    return Row(scope, key, turn, Account(path), state, made, expires, from_json(amounts), spent)


def _alert(values: tuple[object, ...]) -> Alert:
    names = ("id", "account", "resource", "window", "percent", "limit", "spent", "at_ns")
    return Alert.model_validate(dict(zip(names, values, strict=True)))
