"""The usual way to keep a budget, to be compared with: look, call, add up afterwards.

Gateways do so with counters in a cache or a database. Here they are in SQLite with the settings of
the kernel's own file: one statement reads the counters of a path before the call, one adds to them
after it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fmos.storage.database import Database

_SCHEMA = """
CREATE TABLE counter(account TEXT PRIMARY KEY, cap INTEGER, spent INTEGER NOT NULL)
STRICT, WITHOUT ROWID
"""
_LOOK = "SELECT count(*) FROM counter WHERE account IN (?, ?, ?) AND spent + ? > cap"
_ADD = "UPDATE counter SET spent = spent + ? WHERE account IN (?, ?, ?)"


class CheckThenAdd:
    """Counters of a tree of three levels."""

    def __init__(self, database: Database) -> None:
        """Keep the file."""
        self._database = database

    def create(self, caps: Mapping[str, int | None]) -> None:
        """Make a counter for each account."""
        with self._database.transaction():
            self._database.execute(_SCHEMA)
            rows = [(account, cap, 0) for account, cap in caps.items()]
            self._database.execute_each("INSERT INTO counter VALUES (?, ?, ?)", rows)

    def fits(self, path: tuple[str, ...], amount: int) -> bool:
        """Return whether no account of the path would be above its cap."""
        return self._database.query(_LOOK, (*path, amount))[0][0] == 0

    def add(self, path: tuple[str, ...], amount: int) -> None:
        """Add to every account of the path."""
        with self._database.transaction():
            self._database.execute(_ADD, (amount, *path))

    def spent(self) -> dict[str, int]:
        """Return what each account has spent."""
        return dict(self._database.query("SELECT account, spent FROM counter"))
