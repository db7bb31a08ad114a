"""The ledger's usual case in one script: limits without windows, no alert or price due.

Every statement carries the whole condition, and each must change as many rows as the path has
lines; else nothing is kept, and the caller goes the long way, which knows every case and every
error. So this path decides nothing that book.py would decide otherwise; it only saves the reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from fmos.ledger.store import as_json, scope_of
from fmos.storage.database import KEPT_IF, Database

_HOLD = """
UPDATE balance SET reserved = reserved + ?
WHERE account = ? AND resource = ? AND window = 'total' AND NOT rated
    AND (cap IS NULL OR reserved + spent + ? <= cap)
"""
_OPEN = """
INSERT INTO reservation(scope, key, turn, account, state, made_ns, expires_ns, owner, amounts)
VALUES (?, ?, 0, ?, 'open', ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_SETTLE = """
UPDATE balance SET reserved = reserved - ?, spent = spent + ?
WHERE account = ? AND resource = ? AND window = 'total' AND NOT rated AND until_ns IS NULL
    AND (alert_at IS NULL OR spent + ? < alert_at)
"""
_COMMIT = """
UPDATE reservation SET state = 'committed', used = ?
WHERE scope = ? AND key = ? AND turn = ? AND state = 'open' AND account = ? AND amounts = ?
"""
_CHARGE = """
UPDATE balance SET spent = spent + ?
WHERE account = ? AND resource = ? AND window = 'total' AND NOT rated AND until_ns IS NULL
    AND (alert_at IS NULL OR spent + ? < alert_at)
    AND (cap IS NULL OR NOT ? OR reserved + spent + ? <= cap)
"""


class Quick:
    """The usual case. Each method returns whether it was one, and has done nothing if not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(
        self,
        ids: Sequence[int],
        amounts: Mapping[str, int],
        key: str,
        *,
        times_ns: tuple[int, int],
        owner: int | None,
    ) -> bool:
        """Open a reservation with a new key, made and expiring at `times_ns`."""
        bindings: list[object] = [scope_of(ids), key, ids[-1], *times_ns, owner]
        bindings.append(as_json(dict(amounts)))
        for name, amount in amounts.items():
            for each in ids:
                bindings += (amount, each, name, amount)
        lines = len(amounts) * len(ids)
        return self._database.run_whole(_script(_OPEN, _HOLD, lines), bindings, lines + 1)

    def commit(
        self,
        ids: Sequence[int],
        place: tuple[int, str, int],
        amounts: Mapping[str, int],
        used: Mapping[str, int],
    ) -> bool:
        """Commit the open reservation at `place` (scope, key, turn) of exactly these amounts."""
        bindings: list[object] = [as_json(dict(used)), *place, ids[-1], as_json(dict(amounts))]
        names = amounts if amounts.keys() >= used.keys() else {**amounts, **used}
        for name in names:
            spent = used.get(name, 0)
            for each in ids:
                bindings += (amounts.get(name, 0), spent, each, name, spent)
        lines = len(names) * len(ids)
        return self._database.run_whole(_script(_COMMIT, _SETTLE, lines), bindings, lines + 1)

    def charge(self, ids: Sequence[int], amounts: Mapping[str, int], *, enforce: bool) -> bool:
        """Spend at once, within the limits if `enforce` is set."""
        bindings: list[object] = []
        for name, amount in amounts.items():
            for each in ids:
                bindings += (amount, each, name, amount, enforce, amount)
        lines = len(amounts) * len(ids)
        return self._database.run_whole(_script("", _CHARGE, lines), bindings, lines)


@lru_cache(maxsize=256)
def _script(first: str, each_line: str, lines: int) -> str:
    return ";".join([*([first] if first else ()), *[each_line] * lines, KEPT_IF])
