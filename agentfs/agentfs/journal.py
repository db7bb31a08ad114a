"""The operation log: one row per operation in the same transaction, chained by hash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, NamedTuple

from . import quota
from .connection import Row, one
from .errors import InvalidArgument
from .nodes import View
from .paths import from_stored, to_stored
from .transaction import Session
from .types import Checkpoint, JournalCheck, JournalRow, Progress

FIRST_HASH = bytes(32)
_PAGE = 500
_COLUMNS = "seq, time_ns, principal, branch, operation, path, path2, before, after, detail, hash"
_HEAD = (
    "SELECT seq, hash FROM journal UNION ALL SELECT seq, hash FROM checkpoint"
    " ORDER BY seq DESC LIMIT 1"
)
_INSERT = f"INSERT INTO journal({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
# A filter that is not given is NULL, and then lets every row through. Paths compare as bytes,
# because those that are not UTF-8 are stored as BLOB.
_SINCE = (
    f"SELECT {_COLUMNS} FROM journal WHERE seq > :since AND seq <= :until"
    " AND (:branch IS NULL OR branch = :branch)"
    " AND (:principal IS NULL OR principal = :principal)"
    " AND (:operation IS NULL OR operation = :operation)"
    " AND (:path IS NULL OR CAST(path AS BLOB) = :path OR CAST(path2 AS BLOB) = :path"
    " OR substr(CAST(path AS BLOB), 1, :length) = :below"
    " OR substr(CAST(path2 AS BLOB), 1, :length) = :below)"
    " ORDER BY seq LIMIT :count"
)
_NEWEST_SEQ = 1 << 62
_NEWEST = f"SELECT {_COLUMNS} FROM journal WHERE branch = ? ORDER BY seq DESC LIMIT ?"
_CHECKPOINT = "SELECT seq, time_ns, hash, rows, signature FROM checkpoint"
_EDGES = "SELECT min(seq), max(seq) FROM journal"
_ALL = (
    "SELECT seq, time_ns, CAST(principal AS BLOB), CAST(branch AS BLOB), CAST(operation AS BLOB),"
    " CAST(path AS BLOB), CAST(path2 AS BLOB), before, after, CAST(detail AS BLOB), hash"
    " FROM journal ORDER BY seq"
)
# The rows that say how far gc was about to let go.
LET_GO = "gc.journal"
_OWN_EVENTS = ("gc.", "kv.", "fsck.")


def append(
    view: View,
    operation: str,
    path: str = "",
    path2: str = "",
    before: int | None = None,
    after: int | None = None,
    detail: dict[str, Any] | None = None,
) -> int:
    """Write the row of an operation in the current transaction and return its number.

    Raises:
        QuotaExceeded: the operation made the branch grow beyond its quota.
    """
    if view.state.replaced:
        quota.settle(view)
    session = view.session
    number, previous = _head(session)
    seq = number + 1
    text = _canonical_detail(detail) if detail else "{}"
    fields = (seq, time.time_ns(), view.principal, view.state.name, operation, path, path2)
    digest = _hash(previous, (*fields, before, after, text))
    session.execute(
        _INSERT,
        (*fields[:5], to_stored(path), to_stored(path2), before, after, text, digest),
    )
    session.head = (seq, digest)
    return seq


def head(session: Session) -> int:
    """Return the number of the newest row, or of the last one that gc let go."""
    return _head(session)[0]


def _head(session: Session) -> tuple[int, bytes]:
    if session.head is None:
        session.head = session.execute(_HEAD).fetchone() or (0, FIRST_HASH)
    return session.head


def record(view: View, operation: str, path: str, detail: dict[str, Any]) -> int:
    """Write the row of an upper layer's event; its name has a dot, as in `op.intent`."""
    if "." not in operation:
        raise InvalidArgument(operation, "an event's name has a dot, such as 'op.intent'")
    if operation.startswith(_OWN_EVENTS):
        raise InvalidArgument(operation, "this library alone records such events")
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


class Filter(NamedTuple):
    """Which rows a reader wants; None lets all through, and `until` is the last number."""

    until: int | None = None
    path: str | None = None
    branch: str | None = None
    principal: str | None = None
    operation: str | None = None


EVERYTHING = Filter()


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


def page(session: Session, since: int, count: int, wanted: Filter = EVERYTHING) -> list[JournalRow]:
    """Return up to `count` rows after a number that pass a filter."""
    path = None if wanted.path in (None, "/") else wanted.path.encode("utf-8", "surrogateescape")
    below = None if path is None else path + b"/"
    bindings = {
        "since": since,
        "until": _NEWEST_SEQ if wanted.until is None else wanted.until,
        "branch": wanted.branch,
        "principal": wanted.principal,
        "operation": wanted.operation,
        "path": path,
        "below": below,
        "length": len(below or b""),
        "count": count,
    }
    return [_to_row(row) for row in session.execute(_SINCE, bindings)]


def checkpoint(session: Session) -> Checkpoint | None:
    """Return where the journal begins, or None while no row was let go."""
    row = session.execute(_CHECKPOINT).fetchone()
    return None if row is None else Checkpoint(*row)


def bounds(session: Session) -> tuple[int, int]:
    """Return the oldest and the newest number after which the state is known."""
    kept = checkpoint(session)
    newest = one(session.execute(_EDGES), "journal")[1]
    oldest = kept.seq if kept else 0
    return oldest, max(newest or 0, oldest)


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


class Chain:
    """Recomputes the chain from its first row, or from the checkpoint that replaced older ones."""

    def __init__(self, session: Session) -> None:
        """Begin where the journal begins."""
        self.session = session
        start = checkpoint(session)
        self.start = start
        self.previous = start.hash if start else FIRST_HASH
        self.expected = start.seq + 1 if start else 1
        self.count = 0
        self._backed = start is None

    def run(self, progress: Progress | None = None) -> JournalCheck:
        """Return the outcome; a missing row counts as a bad one after it."""
        for row in self.session.execute(_ALL):
            if not self._follows(row):
                return JournalCheck(False, self.count, row[0], self.previous)
            if progress is not None and not self.count % _PAGE:
                progress("journal", self.count)
        if self.start is not None and not self._backed:
            return JournalCheck(False, self.count, self.start.seq, self.previous)
        return JournalCheck(True, self.count, None, self.previous)

    def _follows(self, row: Row) -> bool:
        """Say whether a row is the next of the chain."""
        self.count += 1
        try:
            texts = [each.decode("utf-8") for each in (*row[2:5], row[9])]
            paths = [each.decode("utf-8", "surrogateescape") for each in row[5:7]]
            plain = (*row[:2], *texts[:3], *paths, *row[7:9], texts[3])
            if row[0] != self.expected or _hash(self.previous, plain) != row[10]:
                return False
        except (ValueError, AttributeError, TypeError):
            return False
        if texts[2] == LET_GO:
            self._note(json.loads(texts[3]))
        self.previous, self.expected = row[10], self.expected + 1
        return True

    def _note(self, detail: dict[str, Any]) -> None:
        """Compare the checkpoint with the row that gc wrote before it let rows go."""
        start, until = self.start, detail.get("until", 0)
        if start is not None and (until > start.seq or detail.get("hash") == start.hash.hex()):
            self._backed = True


def verify(session: Session, progress: Progress | None = None) -> JournalCheck:
    """Recompute the chain; removed and changed rows make it fail from there on."""
    return Chain(session).run(progress)
