"""The ledger's usual case in a few statements: limits without windows, no alert or price due.

Every statement carries the whole condition, and each must change as many rows as the path has
lines; else nothing is kept, and the caller goes the long way, which knows every case and every
error. So this path decides nothing that book.py would decide otherwise; it only saves the reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmos.ledger.store import as_json
from fmos.storage.database import Database

_HOLD = """
UPDATE balance SET reserved = reserved + ?1
WHERE account = ?2 AND resource = ?3 AND window = 'total' AND NOT rated
    AND (cap IS NULL OR reserved + spent + ?1 <= cap)
"""
_OPEN = """
INSERT INTO reservation(scope, key, turn, account, state, made_ns, expires_ns, owner, amounts)
VALUES (?, ?, 0, ?, 'open', ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_SETTLE = """
UPDATE balance SET reserved = reserved - ?1, spent = spent + ?2
WHERE account = ?3 AND resource = ?4 AND window = 'total' AND NOT rated AND until_ns IS NULL
    AND (alert_at IS NULL OR spent + ?2 < alert_at)
"""
_COMMIT = """
UPDATE reservation SET state = 'committed', used = ?
WHERE scope = ? AND key = ? AND turn = ? AND state = 'open' AND account = ? AND amounts = ?
"""
_CHARGE = """
UPDATE balance SET spent = spent + ?1
WHERE account = ?2 AND resource = ?3 AND window = 'total' AND NOT rated AND until_ns IS NULL
    AND (alert_at IS NULL OR spent + ?1 < alert_at)
    AND (cap IS NULL OR NOT ?4 OR reserved + spent + ?1 <= cap)
"""


class _NotPlain(Exception):
    """Some line or row is not as the usual case has it."""


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
        held = [(amount, each, name) for name, amount in amounts.items() for each in ids]
        scope = ids[min(1, len(ids) - 1)]
        opened = (scope, key, ids[-1], *times_ns, owner, as_json(dict(amounts)))
        return self._all(((_OPEN, [opened]), (_HOLD, held)))

    def commit(
        self,
        ids: Sequence[int],
        place: tuple[int, str, int],
        amounts: Mapping[str, int],
        used: Mapping[str, int],
    ) -> bool:
        """Commit the open reservation at `place` (scope, key, turn) of exactly these amounts."""
        settled = [
            (amounts.get(name, 0), used.get(name, 0), each, name)
            for name in {**amounts, **used}
            for each in ids
        ]
        closed = (as_json(dict(used)), *place, ids[-1], as_json(dict(amounts)))
        return self._all(((_COMMIT, [closed]), (_SETTLE, settled)))

    def charge(self, ids: Sequence[int], amounts: Mapping[str, int], *, enforce: bool) -> bool:
        """Spend at once, within the limits if `enforce` is set."""
        spent = [(amount, each, name, enforce) for name, amount in amounts.items() for each in ids]
        return self._all(((_CHARGE, spent),))

    def _all(self, steps: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> bool:
        try:
            with self._database.transaction():
                for sql, bindings in steps:
                    if self._database.execute_each(sql, bindings) != len(bindings):
                        raise _NotPlain
        except _NotPlain:
            return False
        return True
