"""Brings a kernel.db of the first version, whose accounts were 'tenant/app/agents.../session'.

A path did not say what its parts are, so that a session and a fork of one name shared a balance.
Here each account that reservations name is a session; what it spent is added again upwards.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib import resources

from fmos.ledger.accounts import Account
from fmos.storage.database import Database

_OLD = ("account_limit", "account_total", "reservation", "reservation_amount")
_LEAVES = "SELECT DISTINCT account FROM old_reservation"
_TOTALS = "SELECT account, resource, spent FROM old_account_total WHERE spent > 0"
_HELD = """
SELECT r.account, x.resource, sum(x.amount) FROM old_reservation r
JOIN old_reservation_amount x ON x.reservation = r.id WHERE r.state = 'open' GROUP BY 1, 2
"""
_RESERVATIONS = """
SELECT r.account, r.operation, r.state, r.expires_ns,
    (SELECT json_group_object(x.resource, x.amount) FROM old_reservation_amount x
        WHERE x.reservation = r.id)
FROM old_reservation r
"""
_ADD = """
INSERT INTO balance(account, resource, window, reserved, spent) VALUES (?, ?, 'total', ?, ?)
ON CONFLICT DO UPDATE SET reserved = reserved + excluded.reserved, spent = spent + excluded.spent
"""
_MADE = """
INSERT OR IGNORE INTO reservation(
    scope, key, turn, account, state, made_ns, expires_ns, amounts, used)
VALUES (?, ?, 0, ?, ?, 0, ?, ?, ?)
"""
_LIMIT = "INSERT OR IGNORE INTO account_limit VALUES (?, ?, 'total', ?, ?)"
_CAP = """
INSERT INTO balance(account, resource, window, cap, alert_at) VALUES (?1, ?2, 'total', ?3, 1)
ON CONFLICT DO UPDATE SET cap = ?3, alert_at = 1
"""
_DECLARED = "SELECT account, resource, amount FROM budget_limit"


def to_typed_accounts(database: Database) -> None:
    """Make the tables of schema.sql, move what the old ones hold, and drop those."""
    for name in _OLD:
        database.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    database.execute("DROP INDEX reservation_due")
    schema = resources.files("fmos.ledger").joinpath("schema.sql")
    database.execute(schema.read_text(encoding="utf-8"))
    leaves = {path for (path,) in database.query(_LEAVES)}
    _move_spending(database, leaves)
    _move_reservations(database, leaves)
    _move_limits(database, leaves)
    for name in reversed(_OLD):
        database.execute(f"DROP TABLE old_{name}")


def typed(path: str, leaves: set[str]) -> Account:
    """Return the account that an untyped path of the first version means."""
    tenant, *rest = [_name(part) for part in path.split("/")]
    parts = ["org:default", f"tenant:{tenant}"]
    if rest:
        parts.append(f"app:{rest[0]}")
    agents = rest[1:]
    below = any(leaf.startswith(path + "/") for leaf in leaves)
    ends_in_session = len(agents) > 1 and (path in leaves or not below)
    if ends_in_session:
        agents, session = agents[:-1], [f"session:{agents[-1]}"]
    else:
        session = []
    return Account.parse("/".join([*parts, *(f"agent:{each}" for each in agents), *session]))


def _name(part: str) -> str:
    return part if part == "-" else re.sub(r"[^A-Za-z0-9._@+-]|^(?![A-Za-z0-9])", "x", part)[:256]


def _move_spending(database: Database, leaves: set[str]) -> None:
    own = Counter[tuple[str, str]]()
    totals = {(path, resource): spent for path, resource, spent in database.query(_TOTALS)}
    for (path, resource), spent in sorted(totals.items(), reverse=True):
        if path in leaves:
            below = sum(
                n for (p, r), n in own.items() if r == resource and p.startswith(path + "/")
            )
            own[path, resource] = max(0, spent - below)
    held = {(path, resource): amount for path, resource, amount in database.query(_HELD)}
    for path, resource in sorted(own.keys() | held.keys()):
        reserved, spent = held.get((path, resource), 0), own[path, resource]
        for account in _make(database, typed(path, leaves)):
            database.execute(_ADD, (account, resource, reserved, spent))


def _move_reservations(database: Database, leaves: set[str]) -> None:
    for path, operation, state, expires_ns, amounts in database.query(_RESERVATIONS):
        ids = _make(database, typed(path, leaves))
        used = json.dumps(json.loads(amounts)) if state == "committed" else None
        row = (ids[min(1, len(ids) - 1)], operation, ids[-1], state, expires_ns, amounts, used)
        database.execute(_MADE, row)


def _move_limits(database: Database, leaves: set[str]) -> None:
    declared = _declared(database)
    limits = {
        (path, resource): amount
        for path, resource, amount in database.query("SELECT * FROM old_account_limit")
    }
    for path, resource in sorted(limits.keys() | declared.keys()):
        account = _make(database, typed(path, leaves))[-1]
        amount, said = limits.get((path, resource)), declared.get((path, resource))
        if said is not None:
            database.execute(_LIMIT, (account, resource, "contract", said))
        if amount is not None and amount != said:
            database.execute(_LIMIT, (account, resource, "", amount))
        cap = said if amount is None else amount
        database.execute(_CAP, (account, resource, cap))


def _declared(database: Database) -> dict[tuple[str, str], int]:
    """Return the limits that contracts gave; the reasoning-budget server kept them."""
    there = database.query("SELECT 1 FROM sqlite_schema WHERE name = 'budget_limit'")
    rows = database.query(_DECLARED) if there else []
    return {(path, resource): amount for path, resource, amount in rows}


def _make(database: Database, account: Account) -> list[int]:
    ids: list[int] = []
    for each in account.path:
        above = ids[-1] if ids else None
        database.execute(
            "INSERT OR IGNORE INTO account(path, parent) VALUES (?, ?)", (str(each), above)
        )
        ids.append(database.query("SELECT id FROM account WHERE path = ?", (str(each),))[0][0])
    return ids
