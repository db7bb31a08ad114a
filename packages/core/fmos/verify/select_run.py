"""Runs one SELECT on given rows in an SQLite database of its own, in memory, within limits."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import apsw

_SECONDS = 2.0
_MAX_ROWS = 10_000
_MAX_GIVEN = 100_000
_MAX_VALUE_BYTES = 1_000_000
_MAX_BYTES = 20_000_000
_STEPS = 1_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_ALLOWED = (apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE)
#: Functions that only fill memory, or reach outside.
_REFUSED = frozenset(
    {"load_extension", "randomblob", "zeroblob", "readfile", "writefile", "edit", "fts3_tokenizer"}
)


class NotRun(Exception):
    """A statement was not run to its end; `is_wrong` if that is its own fault."""

    def __init__(self, message: str, *, is_wrong: bool) -> None:
        super().__init__(message)
        self.is_wrong = is_wrong


def run_select(
    sql: str, tables: Mapping[str, Mapping[str, str]], rows: Mapping[str, list[dict[str, Any]]]
) -> list[tuple[Any, ...]]:
    """Return the rows of a SELECT over tables that hold just the given rows.

    Raises:
        NotRun: if it fails, takes too long, or returns too much.
    """
    connection = apsw.Connection(":memory:")
    try:
        _fill(connection, tables, rows)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        connection.limit(apsw.SQLITE_LIMIT_EXPR_DEPTH, 200)
        connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
        connection.authorizer = _authorised
        ends = time.monotonic() + _SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
        return _fetched(connection, sql)
    except (apsw.InterruptError, apsw.TooBigError, apsw.NoMemError) as error:
        raise NotRun(f"it took more than {_SECONDS:g} s, or too much", is_wrong=False) from error
    except (apsw.Error, ValueError, TypeError, OverflowError) as error:
        raise NotRun(
            f"it does not run: {error}", is_wrong=isinstance(error, apsw.SQLError)
        ) from error
    finally:
        connection.close()


def _fetched(connection: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in connection.execute(sql):
        found.append(tuple(row))
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(found) > _MAX_ROWS or size > _MAX_BYTES:
            raise NotRun(f"it returns more than {_MAX_ROWS} rows, or too much", is_wrong=False)
    return found


def _authorised(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    if action == apsw.SQLITE_FUNCTION:
        refused = (second or "").lower() in _REFUSED
        return apsw.SQLITE_DENY if refused else apsw.SQLITE_OK
    return apsw.SQLITE_OK if action in _ALLOWED else apsw.SQLITE_DENY


def _fill(
    connection: apsw.Connection,
    tables: Mapping[str, Mapping[str, str]],
    rows: Mapping[str, list[dict[str, Any]]],
) -> None:
    if sum(len(each) for each in rows.values()) > _MAX_GIVEN:
        raise NotRun(f"more than {_MAX_GIVEN} rows are given", is_wrong=False)
    for table in dict.fromkeys([*tables, *rows]):
        given = rows.get(table, [])
        columns = list(tables.get(table) or (given[0] if given else {}))
        if not columns or not all(_NAME.fullmatch(name) for name in (table, *columns)):
            raise NotRun(
                f"the table {table[:60]!r} has no columns, or no plain names", is_wrong=False
            )
        listed = ", ".join(f'"{name}"' for name in columns)
        connection.execute(f'CREATE TABLE "{table}" ({listed})')
        marks = ", ".join("?" * len(columns))
        connection.executemany(
            f'INSERT INTO "{table}" VALUES ({marks})',
            ([row.get(name) for name in columns] for row in given),
        )
