"""The operation log: one row per operation in the same transaction, chained by hash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from .connection import Row
from .errors import InvalidArgument
from .nodes import View
from .paths import from_stored, to_stored
from .transaction import Session
from .types import JournalCheck, JournalRow

FIRST_HASH = bytes(32)
_PAGE = 500
_COLUMNS = "seq, time_ns, principal, branch, operation, path, path2, before, after, detail, hash"
_HEAD = "SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1"
_INSERT = f"INSERT INTO journal({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_SINCE = f"SELECT {_COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
_NEWEST = f"SELECT {_COLUMNS} FROM journal WHERE branch = ? ORDER BY seq DESC LIMIT ?"
_SINCE_OPERATION = (
    f"SELECT {_COLUMNS} FROM journal WHERE seq > ? AND operation = ? ORDER BY seq LIMIT ?"
)


def append(
    view: View,
    operation: str,
    path: str = "",
    path2: str = "",
    before: int | None = None,
    after: int | None = None,
    detail: dict[str, Any] | None = None,
) -> int:
    """Write the row of an operation in the current transaction and return its number."""
    session = view.session
    if session.head is None:
        session.head = session.execute(_HEAD).fetchone() or (0, FIRST_HASH)
    seq = session.head[0] + 1
    text = _canonical_detail(detail) if detail else "{}"
    fields = (seq, time.time_ns(), view.principal, view.state.name, operation, path, path2)
    digest = _hash(session.head[1], (*fields, before, after, text))
    session.execute(
        _INSERT,
        (*fields[:5], to_stored(path), to_stored(path2), before, after, text, digest),
    )
    session.head = (seq, digest)
    return seq


def record(view: View, operation: str, path: str, detail: dict[str, Any]) -> int:
    """Write the row of an upper layer's event; its name has a dot, as in `op.intent`."""
    if "." not in operation:
        raise InvalidArgument(operation, "an event's name has a dot, such as 'op.intent'")
    return append(view, operation, path, detail=detail)


def _canonical_detail(detail: dict[str, Any]) -> str:
    try:
        return json.dumps(detail, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidArgument("detail", f"it is not JSON: {error}") from error


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def _hash(previous: bytes, row: Row) -> bytes:
    """Hash the previous hash and the row as JSON with sorted keys and no spaces.

    Written out by hand, because it runs once per operation; equal to json.dumps.
    """
    seq, time_ns, principal, branch, operation, path, path2, before, after, detail = row
    text = (
        f'{{"after":{_number(after)},"before":{_number(before)},"branch":{_quote(branch)},'
        f'"detail":{_quote(detail)},"operation":{_quote(operation)},"path":{_quote(path)},'
        f'"path2":{_quote(path2)},"principal":{_quote(principal)},"seq":{seq},'
        f'"time_ns":{time_ns}}}'
    )
    return sha256(previous + text.encode("ascii")).digest()


def rows(
    fetch: Callable[[int, int], list[JournalRow]], since: int, limit: int | None
) -> Iterator[JournalRow]:
    """Yield rows after a number, a page per read so that no view stays open."""
    left = limit
    while left is None or left > 0:
        page = fetch(since, _PAGE if left is None else min(left, _PAGE))
        yield from page
        if not page:
            return
        since = page[-1].seq
        left = None if left is None else left - len(page)


def page(session: Session, since: int, count: int, operation: str | None) -> list[JournalRow]:
    """Return up to `count` rows after a number."""
    if operation is None:
        found = session.execute(_SINCE, (since, count))
    else:
        found = session.execute(_SINCE_OPERATION, (since, operation, count))
    return [_to_row(row) for row in found]


def newest(session: Session, branch: str, count: int | None) -> list[JournalRow]:
    """Return the newest rows of a branch, newest first."""
    found = session.execute(_NEWEST, (branch, -1 if count is None else count))
    return [_to_row(row) for row in found]


def _to_row(row: Row) -> JournalRow:
    seq, time_ns, principal, branch, operation, path, path2, before, after, detail, digest = row
    return JournalRow(
        seq, time_ns, principal, branch, operation, from_stored(path), from_stored(path2),
        before, after, json.loads(detail), digest,
    )  # fmt: skip


def verify(session: Session) -> JournalCheck:
    """Recompute the chain from its first row; a missing row counts as a bad one after it."""
    previous, expected, count = FIRST_HASH, 1, 0
    for row in session.execute(f"SELECT {_COLUMNS} FROM journal ORDER BY seq"):
        count += 1
        plain = (*row[:5], from_stored(row[5]), from_stored(row[6]), *row[7:10])
        if row[0] != expected or _hash(previous, plain) != row[10]:
            return JournalCheck(False, count, row[0], previous)
        previous, expected = row[10], expected + 1
    return JournalCheck(True, count, None, previous)
