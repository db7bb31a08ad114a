"""What is damage: of the tables' definitions, or behind an error that no code expected."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import apsw

from .connection import define_tables, translate
from .errors import AgentFSError, Corrupt

_HERE = Path(__file__).parent
_COLUMNS = (
    'SELECT t.name, c.cid, c.name, c.type, c."notnull", c.pk FROM pragma_table_list t'
    " JOIN pragma_table_xinfo(t.name) c WHERE t.schema = 'main' ORDER BY 1, 2"
)
# These run what their caller gives them.
_FOR_CALLERS = ("extensions.py", "filesystem.py")
# What code meets that trusts the types of a row.
_UNEXPECTED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
    struct.error,
)  # fmt: skip
# A check reads the whole file, so that it is only made of one that is quickly read.
_MOST_CHECKED = 256 * 2**20


def retold(error: BaseException | None, path: str, connection: apsw.Connection) -> Exception | None:
    """Return what to raise instead of an error that a scope's body met, if anything.

    Where this library's own code met what cannot be in its tables, SQLite says whether it is in
    them: then that is damage, and else a mistake, which is left as it is.
    """
    if isinstance(error, apsw.SQLError) and _is_own(error):
        return Corrupt(path, f"its tables are not those of SPEC.md ({error})")
    if isinstance(error, apsw.Error):
        translated = translate(error, path)
        return None if translated is error else translated
    if not isinstance(error, _UNEXPECTED) or isinstance(error, (AgentFSError, OSError)):
        return None
    if not _is_own(error):
        return None
    if isinstance(error, UnicodeDecodeError):
        return Corrupt(path, f"a stored text is not UTF-8 ({error.reason})")
    found = _first_fault(path, connection)
    return None if found is None else Corrupt(path, found)


def wrong_tables(connection: apsw.Connection) -> list[str]:
    """Return the names of the tables whose columns are not those of the format."""
    fresh = apsw.Connection(":memory:")
    define_tables(fresh)
    expected, found = _columns(fresh), _columns(connection)
    fresh.close()
    return [name for name, columns in expected.items() if found.get(name) != columns]


def _columns(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    tables: dict[str, list[tuple[Any, ...]]] = {}
    for name, *column in connection.execute(_COLUMNS):
        if not name.startswith("sqlite_"):
            tables.setdefault(name, []).append(tuple(column))
    return tables


def _is_own(error: BaseException) -> bool:
    """Say whether an error comes from a module that reads this library's own tables."""
    where = Path()
    trace = error.__traceback__
    while trace is not None:
        here = Path(trace.tb_frame.f_code.co_filename)
        where = here if here.suffix == ".py" else where  # apsw adds lines of its C source
        trace = trace.tb_next
    return where.parent == _HERE and where.name not in _FOR_CALLERS


def _first_fault(path: str, connection: apsw.Connection) -> str | None:
    """Return the first thing that SQLite finds wrong, or None."""
    if os.path.getsize(path) > _MOST_CHECKED:
        return None
    try:
        found = str(connection.execute("PRAGMA integrity_check(1)").get)
    except apsw.Error as error:
        return str(error)
    return None if found == "ok" else found
