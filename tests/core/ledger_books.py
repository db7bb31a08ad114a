"""Adds up a ledger's books from its reservations, to be compared with the balances it keeps."""

from __future__ import annotations

import json
from collections import Counter

from fmos.ledger.accounts import Account
from fmos.ledger.windows import start_of
from fmos.storage.database import Database

_RESERVATIONS = """
SELECT a.path, r.state, r.made_ns, r.amounts, r.used
FROM reservation r JOIN account a ON a.id = r.account
"""
_BALANCES = """
SELECT a.path, b.resource, b.window, b.start_ns, b.reserved, b.spent
FROM balance b JOIN account a ON a.id = b.account
"""


def differences(database: Database) -> list[str]:
    """Return every balance that is not the sum of the reservations at or below its account.

    What was spent in a window depends on when; only totals are compared.
    """
    rows = database.query(_RESERVATIONS)
    found: list[str] = []
    for path, resource, window, start_ns, reserved, spent in database.query(_BALANCES):
        held = Counter[str]()
        used = Counter[str]()
        for payer, state, made_ns, amounts, actual in rows:
            if path not in Account(payer).path:
                continue
            if state == "open" and start_of(window, made_ns) == start_ns:
                held.update(json.loads(amounts))
            elif state == "committed":
                used.update(json.loads(actual))
        if reserved != held[resource]:
            found.append(f"{path} {resource} {window}: {reserved} reserved, not {held[resource]}")
        if window == "total" and spent != used[resource]:
            found.append(f"{path} {resource}: {spent} spent, not {used[resource]}")
    return found
