"""Lets go of what nothing leads to, and gives its bytes back to the operating system.

The mark reads one state of the volume, beside writers. What nothing leads to then stays so: ids
are never used twice, and a writer takes old nodes only from where it can see them. The exception
are chunks, which a writer finds again by their hash, so each sweep looks at newer files first.
Everything is done in short transactions, and a run that was killed is finished by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import apsw

from . import chunklists, chunks, history, journal, lineage, statistics
from .connection import Row, one, wait_when_busy
from .directories import BUCKET_ENTRIES
from .errors import InvalidArgument
from .nodes import DIRECTORY, View
from .transaction import ReadScope, Session, Volume, WriteScope
from .types import GcResult, Progress

Sign = Callable[[bytes], bytes]
"""Signs the hash of the last journal row that is let go."""

_BATCH = 64 * BUCKET_ENTRIES
_PAGES = 4096
# A past state that another process made so lately may be in use there.
_PAST_KEPT_NS = 600 * 1_000_000_000
_BUSY_MS = 100

_NODES = "SELECT id, kind, layout, depth FROM node"
_BUCKETS = "SELECT DISTINCT bucket FROM entry"
_CHUNKS = "SELECT id FROM chunk"
_ROOTS = (
    "SELECT root FROM branch UNION SELECT root FROM snapshot"
    f" UNION SELECT root FROM past UNION {lineage.ROOTS}"
    " UNION SELECT before FROM journal WHERE seq > :seq UNION SELECT after FROM journal"
    " WHERE seq > :seq UNION SELECT json_extract(detail, '$.links') FROM journal"
    " WHERE seq > :seq AND operation IN ('link', 'remove', 'rename', 'copy', 'restore')"
)
_REFS = "SELECT DISTINCT bucket FROM bucket_ref WHERE directory = ?"
_MEMBERS = "SELECT node FROM entry WHERE bucket = ?"
_CHUNKED = "SELECT id FROM node WHERE layout > 0"
_LIST = "SELECT layout, data FROM node WHERE id = ?"
_PASTS = "SELECT name, made_ns FROM past"
_DROP_PAST = "DELETE FROM past WHERE name = ?"
_FIRST_KEPT = "SELECT seq FROM journal WHERE time_ns >= ? ORDER BY seq LIMIT 1"
_WORTH_IT = "SELECT 1 FROM journal WHERE seq <= ? AND operation <> ? LIMIT 1"
_ROW = "SELECT seq, time_ns, hash FROM journal WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
_COUNT_ROWS = "SELECT count(*) FROM journal WHERE seq <= ?"
_STEP = "SELECT seq, time_ns, hash FROM journal WHERE seq <= ? ORDER BY seq LIMIT 1 OFFSET ?"
_DROP_ROWS = "DELETE FROM journal WHERE seq <= ?"
_DROP_CHECKPOINT = "DELETE FROM checkpoint"
_SET_CHECKPOINT = (
    "INSERT INTO checkpoint(seq, time_ns, hash, rows, signature) VALUES (?, ?, ?, ?, ?)"
)
_DROP_NODE = "DELETE FROM node WHERE id = ? RETURNING coalesce(length(data), 0)"
_DROP_BUCKET = "DELETE FROM entry WHERE bucket = ?"
_DROP_REFS = "DELETE FROM bucket_ref WHERE directory = ?"
_DROP_CHUNK = "DELETE FROM chunk WHERE id = ? RETURNING length(data)"
_NODE_BYTES = "SELECT coalesce(length(data), 0) FROM node WHERE id = ?"
_CHUNK_BYTES = "SELECT length(data) FROM chunk WHERE id = ?"


class Bitmap:
    """A set of ids, a bit for each up to the largest."""

    __slots__ = ("bits",)

    def __init__(self) -> None:
        """Begin with none."""
        self.bits = bytearray()

    def add(self, number: int) -> bool:
        """Add an id, and say whether it is new."""
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(self.bits):
            self.bits.extend(bytes(max(place + 1 - len(self.bits), len(self.bits), 1024)))
        old = self.bits[place]
        self.bits[place] = old | bit
        return not old & bit

    def __contains__(self, number: int) -> bool:
        """Say whether an id is in it."""
        place = number >> 3
        return place < len(self.bits) and bool(self.bits[place] >> (number & 7) & 1)

    def without(self, other: Bitmap) -> Iterator[int]:
        """Yield the ids that another one lacks, in order."""
        theirs = other.bits + bytes(max(len(self.bits) - len(other.bits), 0))
        mine = int.from_bytes(self.bits, "little")
        left = mine & ~int.from_bytes(theirs, "little")
        for place, byte in enumerate(left.to_bytes(len(self.bits) + 1, "little")):
            if byte:
                yield from ((place << 3) + bit for bit in range(8) if byte >> bit & 1)


@dataclass(slots=True)
class Dead:
    """What nothing led to when it was marked."""

    nodes: list[int]
    directories: list[int]
    buckets: list[int]
    chunks: list[int]


@dataclass(slots=True)
class Counted:
    """What one run let go of so far."""

    nodes: int = 0
    chunks: int = 0
    journal_rows: int = 0
    bytes: int = 0
    progress: Progress | None = field(default=None)

    def tell(self, what: str, count: int) -> None:
        """Pass on how far the run is."""
        if self.progress is not None:
            self.progress(what, count)


class Mark:
    """Everything that roots lead to, in one state of the volume."""

    def __init__(self, session: Session) -> None:
        """Take in which ids there are."""
        self.session = session
        self.nodes, self.live = Bitmap(), Bitmap()
        self.buckets, self.live_buckets = Bitmap(), Bitmap()
        self.chunks, self.live_chunks = Bitmap(), Bitmap()
        self.depths: dict[int, int] = {}
        self.chunked: set[int] = set()
        for node_id, kind, layout, depth in session.execute(_NODES):
            self.nodes.add(node_id)
            if kind == DIRECTORY:
                self.depths[node_id] = depth
            elif layout > 0:
                self.chunked.add(node_id)
        for (bucket,) in session.execute(_BUCKETS):
            self.buckets.add(bucket)
        for (chunk_id,) in session.execute(_CHUNKS):
            self.chunks.add(chunk_id)

    def run(self, roots: Iterable[int], counted: Counted) -> Dead:
        """Follow the roots, and return what is left over."""
        waiting = [root for root in roots if self._is_new(root)]
        done = 0
        while waiting:
            waiting += self._children(waiting.pop())
            done += 1
            if not done % 1000:
                counted.tell("directories marked", done)
        for node_id in self.chunked:
            if node_id in self.live:
                self.file(node_id)
        dead = list(self.nodes.without(self.live))
        return Dead(
            dead,
            [each for each in dead if each in self.depths],
            list(self.buckets.without(self.live_buckets)),
            list(self.chunks.without(self.live_chunks)),
        )

    def _is_new(self, node_id: int) -> bool:
        """Mark a node, and say whether it is a directory to be followed."""
        return self.live.add(node_id) and node_id in self.depths

    def _children(self, directory: int) -> list[int]:
        """Mark what a directory holds, and return the directories in it that are new."""
        found: list[int] = []
        add, depths, execute = self.live.add, self.depths, self.session.execute
        buckets: Sequence[Row] = [(directory,)]
        if depths[directory]:
            buckets = execute(_REFS, (directory,)).fetchall()
        for (bucket,) in buckets:
            if self.live_buckets.add(bucket):
                found += [
                    each for (each,) in execute(_MEMBERS, (bucket,)) if add(each) and each in depths
                ]
        return found

    def file(self, node_id: int) -> None:
        """Mark the chunks of a file."""
        row = self.session.execute(_LIST, (node_id,)).fetchone()
        if row is not None:
            content = chunklists.decode(*row)
            self._page(content.levels, content.items)

    def _page(self, levels: int, items: list[chunklists.Item]) -> None:
        """Mark what a page leads to; one that another file has too is read once."""
        for chunk_id, _length in items:
            if chunk_id != chunklists.HOLE and self.live_chunks.add(chunk_id) and levels > 1:
                below = chunklists.decode_page(chunks.get(self.session, chunk_id))
                self._page(levels - 1, below)

    def newer_files(self) -> None:
        """Mark the chunks of files that were made, or taken in from the host, since.

        They may have found old chunks.
        """
        for (node_id,) in self.session.execute(_CHUNKED).fetchall():
            if node_id not in self.chunked:
                self.chunked.add(node_id)
                self.file(node_id)


def collect(
    volume: Volume, principal: str, branch: str, keep: set[str], retention_s: float | None,
    dry_run: bool, progress: Progress | None, sign: Sign | None, until: int | None = None,
) -> GcResult:  # fmt: skip
    """Do one run; `keep` names the past states that are open, `until` the last row that may go.

    Raises:
        InvalidArgument: a transaction is open on this thread.
        VolumeBusy, Corrupt.
    """
    if volume.session().depth:
        raise InvalidArgument("gc", "it cannot run inside a transaction")
    work = Collection(volume, principal, branch, Counted(progress=progress), until)
    if dry_run:
        return work.look(keep, retention_s)
    size = _file_bytes(volume)
    work.prepare(keep, retention_s, sign)
    work.sweep()
    work.shrink()
    counted = work.counted
    return GcResult(
        counted.nodes, counted.chunks, counted.journal_rows, counted.bytes,
        max(size - _file_bytes(volume), 0),
    )  # fmt: skip


class Collection:
    """The steps of one run."""

    def __init__(
        self, volume: Volume, principal: str, branch: str, counted: Counted, until: int | None
    ) -> None:
        """Take what the steps need."""
        self.until = until
        self.volume = volume
        self.principal = principal
        self.branch = branch
        self.counted = counted

    def look(self, keep: set[str], retention_s: float | None) -> GcResult:
        """Count what a run would let go of."""
        roots: set[int] = set()
        until = rows = 0
        try:
            with WriteScope(self.volume) as session:
                until = self._last_to_drop(session, retention_s)
                rows = one(session.execute(_COUNT_ROWS, (until,)), "journal")[0]
                _drop_pasts(session, keep, retention_s)
                lineage.prune(session)
                roots = _roots(session, until)
                raise _Undo
        except _Undo:
            pass
        with ReadScope(self.volume) as session:
            dead = Mark(session).run(roots, self.counted)
            freed = _sizes(session, _NODE_BYTES, dead.nodes)
            freed += _sizes(session, _CHUNK_BYTES, dead.chunks)
        return GcResult(len(dead.nodes), len(dead.chunks), rows, freed, 0)

    # -- what is too old ------------------------------------------------------------------------

    def prepare(self, keep: set[str], retention_s: float | None, sign: Sign | None) -> None:
        """Let go of lineage, past states and journal rows that nobody needs any more."""
        with WriteScope(self.volume) as session:
            lineage.prune(session)
            _drop_pasts(session, keep, retention_s)
            session.forget()
            until = self._announce(session, retention_s)
        while until and self._drop_rows(until, sign):
            self.counted.tell("journal rows", self.counted.journal_rows)

    def _last_to_drop(self, session: Session, retention_s: float | None) -> int:
        found = _last_to_drop(session, retention_s)
        if self.until is None:
            return 0 if history.journal_keeper(session) else found
        return min(found, self.until)

    def _announce(self, session: Session, retention_s: float | None) -> int:
        """Write into the journal up to where it is let go, so that nobody else can do it."""
        until = self._last_to_drop(session, retention_s)
        row = session.execute(_ROW, (until,)).fetchone()
        if row is None or not session.execute(_WORTH_IT, (until, journal.LET_GO)).fetchone():
            return 0
        view = View(session, session.ref(self.branch), True, self.principal)
        detail = {"until": row[0], "hash": row[2].hex()}
        journal.append(view, journal.LET_GO, detail=detail)
        return row[0]

    def _drop_rows(self, until: int, sign: Sign | None) -> bool:
        """Replace the oldest rows by a checkpoint; say whether there were any."""
        with WriteScope(self.volume) as session:
            row = session.execute(_STEP, (until, _BATCH - 1)).fetchone()
            if row is None:
                row = session.execute(_ROW, (until,)).fetchone()
            if row is None:
                return False
            seq, time_ns, digest = row
            dropped = one(session.execute(_COUNT_ROWS, (seq,)), "journal")[0]
            before = journal.checkpoint(session)
            session.execute(_DROP_ROWS, (seq,))
            session.execute(_DROP_CHECKPOINT)
            total = dropped + (before.rows if before else 0)
            signature = sign(digest) if sign else None
            session.execute(_SET_CHECKPOINT, (seq, time_ns, digest, total, signature))
        self.counted.journal_rows += dropped
        return True

    # -- what nothing leads to --------------------------------------------------------------------

    def sweep(self) -> None:
        """Mark in one state of the volume, then let go of the rest piece by piece."""
        with ReadScope(self.volume) as session:
            mark = Mark(session)
            dead = mark.run(_roots(session, 0), self.counted)
            version = _data_version(session)
        for ids in _pieces(dead.directories):
            with WriteScope(self.volume) as session:
                session.connection.executemany(_DROP_REFS, ids)
        for ids in _pieces(dead.buckets):
            with WriteScope(self.volume) as session:
                session.connection.executemany(_DROP_BUCKET, ids)
        for ids in _pieces(dead.nodes):
            with WriteScope(self.volume) as session:
                self.counted.nodes += self._drop(session, _DROP_NODE, ids)
            self.counted.tell("nodes", self.counted.nodes)
        for ids in _pieces(dead.chunks):
            with WriteScope(self.volume) as session:
                if _data_version(session) != version:
                    version = _data_version(session)
                    mark.newer_files()
                still = [each for each in ids if each[0] not in mark.live_chunks]
                self.counted.chunks += self._drop(session, _DROP_CHUNK, still)
            self.counted.tell("chunks", self.counted.chunks)

    def _drop(self, session: Session, sql: str, ids: list[tuple[int]]) -> int:
        sizes = [size for (size,) in session.connection.executemany(sql, ids)]
        self.counted.bytes += sum(sizes)
        return len(sizes)

    # -- back to the operating system --------------------------------------------------------------

    def shrink(self) -> None:
        """Cut free pages off the file, and empty the write-ahead log unless it is in use."""
        while True:
            with WriteScope(self.volume) as session:
                free = session.execute("PRAGMA freelist_count").get
                if free:
                    session.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
                left = session.execute("PRAGMA freelist_count").get
            self.counted.tell("free pages", left)
            if not left or left >= free:
                break
        connection = session.connection
        connection.set_busy_timeout(_BUSY_MS)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except apsw.BusyError:
            # A reader is on an older state; a later checkpoint does it.
            pass
        finally:
            wait_when_busy(connection, self.volume.busy_s)


class _Undo(Exception):
    """Ends a transaction that was only tried."""


def _roots(session: Session, dropped: int) -> set[int]:
    """Return the ids that must be kept with all they lead to."""
    found = session.execute(_ROOTS, {"seq": dropped})
    return {root for (root,) in found if root is not None}


def _last_to_drop(session: Session, retention_s: float | None) -> int:
    """Return the last journal row that is older than the retention, or 0."""
    keep_s = history.retention_s(session) if retention_s is None else retention_s
    if keep_s < 0:
        raise InvalidArgument("gc", "the retention is a number of seconds that is not negative")
    newest = journal.bounds(session)[1]
    if keep_s == 0:
        return newest
    row = session.execute(_FIRST_KEPT, (time.time_ns() - int(keep_s * 1e9),)).fetchone()
    return row[0] - 1 if row else newest


def _drop_pasts(session: Session, keep: set[str], retention_s: float | None) -> None:
    keep_s = history.retention_s(session) if retention_s is None else retention_s
    fresh = time.time_ns() - (_PAST_KEPT_NS if keep_s else 0)
    for name, made_ns in session.execute(_PASTS).fetchall():
        if name not in keep and made_ns <= fresh:
            session.execute(_DROP_PAST, (name,))


def _pieces(ids: list[int]) -> Iterator[list[tuple[int]]]:
    for start in range(0, len(ids), _BATCH):
        yield [(each,) for each in ids[start : start + _BATCH]]


def _sizes(session: Session, sql: str, ids: list[int]) -> int:
    found = session.connection.executemany(sql, [(each,) for each in ids])
    return sum(size for (size,) in found)


def _data_version(session: Session) -> int:
    return session.execute("PRAGMA data_version").get


def _file_bytes(volume: Volume) -> int:
    return statistics.file_bytes(volume.path)
