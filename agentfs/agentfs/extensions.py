"""Tables of upper layers in the same volume and the same transactions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from .connection import Bindings, Row
from .errors import ExtensionError, TransactionRequired
from .transaction import ReadScope, Session, Volume, WriteScope

_NAME = re.compile(r"[a-z][a-z0-9]*\Z")
_OBJECTS = "SELECT name, sql FROM sqlite_schema"
_KNOWN = "SELECT value FROM meta WHERE key = ?"
_REMEMBER = "INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)"


class Extension:
    """The tables `ext_<name>_...` of one upper layer."""

    def __init__(self, volume: Volume, name: str) -> None:
        """Bind a name to a volume; `install` makes the tables."""
        self.name = name
        self._volume = volume

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
        with WriteScope(volume) as session:
            _run(session, name, ddl)
            session.execute(_REMEMBER, (key, digest))
    return Extension(volume, name)


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
