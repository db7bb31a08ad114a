"""Tables of upper layers in the same volume and the same transactions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256

import apsw

from .connection import Bindings, Row
from .errors import ExtensionError, TransactionRequired
from .transaction import ReadScope, Session, Volume, WriteScope

_NAME = re.compile(r"[a-z][a-z0-9]*\Z")
_OBJECTS = "SELECT name, sql FROM sqlite_schema"
# Those that SQLite makes for a virtual table come with it.
_TABLES = (
    "SELECT name, sql FROM pragma_table_list JOIN sqlite_schema USING (name)"
    " WHERE pragma_table_list.type IN ('table', 'virtual')"
    " AND pragma_table_list.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)
_CREATE = re.compile(r"CREATE (VIRTUAL )?TABLE (?:IF NOT EXISTS )?", re.IGNORECASE)
_KNOWN = "SELECT value FROM meta WHERE key = ?"
_REMEMBER = "INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)"


class Extension:
    """The tables `ext_<name>_...` of one upper layer."""

    def __init__(self, volume: Volume, name: str, stand_ins: Sequence[str] = ()) -> None:
        """Bind a name to a volume; `install` makes the tables.

        `stand_ins` make the empty tables that stand for those that a read-only volume has not.
        """
        self.name = name
        self._volume = volume
        self._stand_ins = stand_ins

    def execute(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """Run a statement in the current transaction and return its rows, if it has any.

        Raises:
            TransactionRequired: no transaction is open on this thread.
        """
        session = self._volume.session()
        if not session.depth:
            raise TransactionRequired(f"extension {self.name}.execute")
        return session.execute(sql, bindings).fetchall()

    def executemany(self, sql: str, bindings: Sequence[Bindings]) -> None:
        """Run a statement for each set of bindings in the current transaction.

        Raises:
            TransactionRequired: no transaction is open on this thread.
        """
        session = self._volume.session()
        if not session.depth:
            raise TransactionRequired(f"extension {self.name}.executemany")
        session.connection.executemany(sql, bindings)

    def query(self, sql: str, bindings: Bindings = ()) -> list[Row]:
        """Return the rows of a SELECT, from the current transaction or a consistent view."""
        with ReadScope(self._volume) as session:
            if self._stand_ins:
                _stand_in(session, self._stand_ins)
            return session.execute(sql, bindings).fetchall()


def install(volume: Volume, name: str, ddl: str) -> Extension:
    """Make the tables of an extension once, and return the extension.

    Raises:
        ExtensionError: a name does not begin with `ext_<name>_`.
    """
    if not _NAME.match(name):
        raise ExtensionError(name, "a name has lower-case letters and digits only")
    key, digest = f"extension.{name}", sha256(ddl.encode()).hexdigest()
    with ReadScope(volume) as session:
        row = session.execute(_KNOWN, (key,)).fetchone()
    if row is None or row[0] != digest:
        if volume.read_only:
            return Extension(volume, name, _missing(volume, ddl))
        with WriteScope(volume) as session:
            _run(session, name, ddl)
            session.execute(_REMEMBER, (key, digest))
    return Extension(volume, name)


def _missing(volume: Volume, ddl: str) -> list[str]:
    """Return what makes those tables of the definitions that the volume has not."""
    with closing(apsw.Connection(":memory:")) as scratch:
        scratch.execute(ddl).fetchall()
        wanted: list[Row] = scratch.execute(_TABLES).fetchall()
    with ReadScope(volume) as session:
        there = {row[0] for row in session.execute(_OBJECTS).fetchall()}
    return [
        _CREATE.sub(r"CREATE \1TABLE IF NOT EXISTS temp.", sql, count=1)
        for name, sql in wanted
        if name not in there
    ]


def _stand_in(session: Session, tables: Sequence[str]) -> None:
    """Make temporary tables, which are this connection's own."""
    session.execute("PRAGMA query_only = 0").fetchall()
    for each in tables:
        session.execute(each).fetchall()
    session.execute("PRAGMA query_only = 1").fetchall()


def _run(session: Session, name: str, ddl: str) -> None:
    """Run the definitions and refuse any effect outside the extension's own names."""
    before = dict(session.execute(_OBJECTS).fetchall())
    session.execute(ddl).fetchall()
    if not session.connection.in_transaction:
        raise ExtensionError(name, "its definitions end the transaction")
    after = dict(session.execute(_OBJECTS).fetchall())
    allowed = (f"ext_{name}_", f"sqlite_autoindex_ext_{name}_")
    for each in before.keys() | after.keys():
        changed = each not in before or before[each] != after.get(each, "")
        if changed and not each.startswith(allowed):
            raise ExtensionError(name, f"{each!r} must begin with 'ext_{name}_'")
