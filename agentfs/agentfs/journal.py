"""The operation log: one row per operation in the same transaction, chained by hash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, NamedTuple

import apsw

from . import quota
from .connection import Row, one, translate
from .errors import InvalidArgument
from .nodes import View
from .paths import from_stored, to_stored
from .transaction import Session, Volume
from .types import Checkpoint, Damage, JournalCheck, JournalPart, JournalRow, JournalStart, Progress

FIRST_HASH = bytes(32)
_PAGE = 500
_COLUMNS = "seq, time_ns, principal, branch, operation, path, path2, before, after, detail, hash"
_HEAD = (
    "SELECT seq, hash FROM journal UNION ALL SELECT seq, hash FROM checkpoint"
    " ORDER BY seq DESC LIMIT 1"
)
_INSERT = f"INSERT INTO journal({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
_INSERT_AFTER = (
    f"INSERT INTO journal({_COLUMNS}) SELECT ?,?,?,?,?,?,?,?,?,?,?"
    " WHERE (SELECT max(seq) FROM journal) = ?"
)
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
# The text that is hashed, as SQLite writes it: it differs from `_hash` where something but `detail`
# has to be escaped, and for text that is not ASCII. A row that differs is looked at again.
_TEXTS = (
    'SELECT hash, CAST(format(\'{"after":%s,"before":%s,"branch":"%s","detail":%s,'
    '"operation":"%s","path":"%s","path2":"%s","principal":"%s","seq":%d,'
    "\"time_ns\":%d}', coalesce(after, 'null'), coalesce(before, 'null'), branch,"
    " json_quote(detail), operation, path, path2, principal, seq, time_ns) AS BLOB)"
    " FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq"
)
_NEIGHBOURS = 16
_NEAR = (
    "SELECT seq, time_ns, CAST(principal AS BLOB), CAST(branch AS BLOB), CAST(operation AS BLOB),"
    " CAST(path AS BLOB), CAST(path2 AS BLOB), before, after, CAST(detail AS BLOB), hash"
    " FROM journal WHERE seq BETWEEN ? AND ?"
)
_ONE = (
    "SELECT seq, time_ns, CAST(principal AS BLOB), CAST(branch AS BLOB), CAST(operation AS BLOB),"
    " CAST(path AS BLOB), CAST(path2 AS BLOB), before, after, CAST(detail AS BLOB), hash"
    " FROM journal WHERE seq = ?"
)
# The rows that say how far gc was about to let go.
LET_GO = "gc.journal"
_ANNOUNCED = f"SELECT detail FROM journal WHERE operation = '{LET_GO}'"
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
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
    _check_event(operation)
    return append(view, operation, path, detail=detail)


def record_alone(
    volume: Volume, branch: str, principal: str, operation: str, path: str, detail: dict[str, Any]
) -> int | None:
    """Write the row of an event in one statement, which is its own transaction.

    That is half the work of a transaction around it. The row is written only if the newest one is
    still the one that this session knows, which also says that nobody changed a branch since: each
    such change is a row. Else, and inside a transaction, this returns None and nothing is written.
    """
    session = volume.session()
    state = session.remembered(branch)
    known = state is not None and state.generation and session.head is not None
    if not known or session.notes or session.commits != volume.commits:
        return None
    _check_event(operation)
    volume.acquire()
    try:
        if session.commits != volume.commits or session.head is None:
            return None
        number, previous = session.head
        text = _canonical_detail(detail) if detail else "{}"
        fields = (number + 1, time.time_ns(), principal, branch, operation, path, "")
        digest = _hash(previous, (*fields, None, None, text))
        values = (*fields[:5], to_stored(path), "", None, None, text, digest, number)
        if not _is_written(session, values, volume.path):
            return None
        session.head = (number + 1, digest)
        volume.note_commit(session)
    finally:
        volume.lock.release()
    return number + 1


def record_within(
    volume: Volume, branch: str, principal: str, operation: str, path: str, detail: dict[str, Any]
) -> int | None:
    """Write the row of an event in this thread's open transaction, without a savepoint around it.

    One statement needs none. Returns None, with nothing written, where there is no transaction or
    a quota has to be looked at first.
    """
    session = volume.session()
    if not session.depth or not session.connection.in_transaction:
        return None
    view = View(session, session.ref(branch), True, principal)
    if view.state.replaced:
        return None
    _check_event(operation)
    try:
        return append(view, operation, path, detail=detail)
    except apsw.Error as error:
        raise translate(error, volume.path) from error


def _is_written(session: Session, values: Row, path: str) -> bool:
    """Run the one statement, and say whether the newest row was the right one."""
    try:
        session.execute(_INSERT_AFTER, values)
    except apsw.Error as error:
        raise translate(error, path) from error
    return session.connection.changes() == 1


def _check_event(operation: str) -> None:
    if "." not in operation:
        raise InvalidArgument(operation, "an event's name has a dot, such as 'op.intent'")
    if operation.startswith(_OWN_EVENTS):
        raise InvalidArgument(operation, "this library alone records such events")


def _canonical_detail(detail: dict[str, Any]) -> str:
    try:
        return _encode(detail)
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
        plain = plain_text(row)
        if plain is None or row[0] != self.expected or _hash(self.previous, plain) != row[10]:
            return False
        if plain[4] == LET_GO and self.start is not None:
            self._backed = self._backed or _announces(json.loads(plain[9]), self.start)
        self.previous, self.expected = row[10], self.expected + 1
        return True


def part(session: Session, since: int, until: int, previous: bytes) -> JournalPart:
    """Recompute the chain of the rows after one number up to another, from the hash before them.

    It ends at the first row that does not follow; a missing row counts as one.
    """
    hashes: list[bytes] = []
    add = hashes.append
    # The number of a row is in its text, so that one that is missing makes the next one not follow.
    for digest, text in session.execute(_TEXTS, (since, until)):
        if sha256(previous + text).digest() != digest:
            expected = since + len(hashes) + 1
            if not _follows(session, expected, previous):
                return JournalPart(hashes, expected)
        previous = digest
        add(digest)
    last = since + len(hashes)
    return JournalPart(hashes, None if last >= until else last + 1)


def start(session: Session) -> JournalStart:
    """Return where the journal begins, and whether a row of gc says so."""
    kept = checkpoint(session)
    if kept is None:
        return JournalStart(0, FIRST_HASH, True, None)
    said = (json.loads(text) for (text,) in session.execute(_ANNOUNCED))
    announced = any(_announces(each, kept) for each in said)
    return JournalStart(kept.seq, kept.hash, announced, kept.signature)


def _announces(detail: dict[str, Any], kept: Checkpoint) -> bool:
    """Say whether a row of gc allows what was let go."""
    return detail.get("until", 0) > kept.seq or detail.get("hash") == kept.hash.hex()


def explain(session: Session, seq: int, previous: bytes) -> Damage:
    """Say what happened to a row that does not follow from the hash before it.

    A row that is elsewhere in the neighbourhood was moved; one that another row's place was given
    to was removed.
    """
    near: list[Row] = session.execute(_NEAR, (seq - _NEIGHBOURS, seq + _NEIGHBOURS)).fetchall()
    rows = {row[0]: row for row in near}
    if seq not in rows:
        return "removed"
    hashes = {previous, *(row[10] for row in near)}
    if not any(_was_elsewhere(rows[each], each, hashes) for each in (seq, seq + 1) if each in rows):
        return "changed"
    own = any(_is_row(row, seq, {previous}) for row in near)
    return "reordered" if own else "removed"


def _was_elsewhere(row: Row, number: int, hashes: set[bytes]) -> bool:
    """Say whether a row was written under another number than it has."""
    around = range(number - _NEIGHBOURS, number + _NEIGHBOURS + 1)
    return any(_is_row(row, each, hashes) for each in around if each != number)


def _is_row(row: Row, number: int, previous: set[bytes]) -> bool:
    """Say whether a row was written under a number, after one of some hashes."""
    plain = plain_text(row)
    return plain is not None and any(
        _hash(each, (number, *plain[1:])) == row[10] for each in previous
    )


def _follows(session: Session, seq: int, previous: bytes) -> bool:
    """Say whether a row is the next one after a hash, whatever has to be escaped in it."""
    row = session.execute(_ONE, (seq,)).fetchone()
    plain = None if row is None else plain_text(row)
    return plain is not None and row is not None and _hash(previous, plain) == row[10]


def plain_text(row: Row) -> Row | None:
    """Return the fields of a row that was read as bytes, or None where they are no text."""
    try:
        texts = [each.decode("utf-8") for each in (*row[2:5], row[9])]
        paths = [each.decode("utf-8", "surrogateescape") for each in row[5:7]]
    except (ValueError, AttributeError):
        return None
    return (*row[:2], *texts[:3], *paths, *row[7:9], texts[3])


def verify(session: Session, progress: Progress | None = None) -> JournalCheck:
    """Recompute the chain; removed and changed rows make it fail from there on."""
    return Chain(session).run(progress)
