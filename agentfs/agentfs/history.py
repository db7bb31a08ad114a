"""Past states: finds the moment that is meant and makes its tree by undoing journal rows.

A file version never changes and each row has the node before it, so the tree of a moment is the
nearest later tree that is known, with the rows in between undone, newest first. It is made as a
hidden tree under a generation of its own (path copying) and remembered in the table `past`.
"""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Any, NamedTuple

from . import branches, directories, journal
from .connection import Row, one
from .directories import Place
from .errors import BranchNotFound, InvalidArgument, NotFound
from .nodes import DIRECTORY, View
from .paths import LINKS_NAME, LINKS_PATH, from_stored
from .transaction import PAST_MARK, RefState, Session

Moment = int | str | datetime
"""A journal row's number, a text, or a time with its zone; see `locate`."""
DEFAULT_RETENTION_S = 30 * 24 * 3600.0
FORMS = (
    "a moment is a branch or snapshot, '@12' (journal row), '-2h' (ago: s, m, h, d, w),"
    " '2026-11-21T16:00:00Z' (with its zone) or 'ns:1700000000000000000'"
)
RETENTION = "history_retention"
JOURNAL_KEEPER = "journal_keeper"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhdw])\Z")
_SEQ = re.compile(r"@(\d+)\Z")
_NS = re.compile(r"ns:(\d+)\Z")
_LOOKS_LIKE_A_MOMENT = re.compile(r"[-+@]?\d|ns:")

_GET_META = "SELECT value FROM meta WHERE key = ?"
_SET_META = "INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)"
_AT_TIME = "SELECT seq FROM journal WHERE time_ns <= ? ORDER BY seq DESC LIMIT 1"
_TIME_OF = (
    "SELECT time_ns FROM journal WHERE seq = :seq"
    " UNION ALL SELECT time_ns FROM checkpoint WHERE seq = :seq"
)
_IS_REF = (
    "SELECT 1 FROM branch WHERE name = :name UNION ALL SELECT 1 FROM snapshot WHERE name = :name"
)
_OF_SNAPSHOT = "SELECT branch FROM snapshot WHERE name = ?"
_BORN = "SELECT created_ns FROM branch WHERE name = ?"
_PARENT = "SELECT parent FROM branch WHERE name = ?"
_FORKED = "SELECT seq FROM journal WHERE operation = 'fork' AND path = ? ORDER BY seq DESC LIMIT 1"
_LAST = (
    "SELECT seq FROM journal WHERE branch = ? AND seq <= ? AND seq > ? ORDER BY seq DESC LIMIT 1"
)
_LATER = (
    "SELECT seq, time_ns, operation, path, path2, before, after, detail FROM journal"
    " WHERE seq > ? AND seq <= ? AND (before IS NOT NULL OR after IS NOT NULL)"
    " AND (branch = ? OR (operation = 'fork' AND path2 = ?)) ORDER BY seq DESC"
)
_NEAREST = (
    "SELECT seq, operation, before, after FROM journal WHERE seq >= :seq"
    " AND ((branch = :branch AND (operation IN ('snapshot', 'merge')"
    " OR (operation = 'restore' AND path = '/'))) OR (operation = 'fork' AND path2 = :branch))"
    " AND NOT (seq = :seq AND operation IN ('merge', 'restore')) ORDER BY seq LIMIT 1"
)
_FIND_PAST = "SELECT root FROM past WHERE name = ?"
_ADD_PAST = "INSERT INTO past(name, root, made_ns) VALUES (?, ?, ?)"
_NO_LATER = "UPDATE node SET mtime_ns = ?, ctime_ns = ? WHERE id = ? AND mtime_ns > ?"
_SET_ATTRIBUTES = "UPDATE node SET mode = ?, mtime_ns = ?, xattrs = ? WHERE id = ?"
# Rows of these name states as a whole and change no path of the branch.
_WHOLE = frozenset({"fork", "snapshot", "delete_branch"})
_SETS_ROOT = frozenset({"restore", "merge"})
_MOVES = frozenset({"rename", "copy", "link"})
_ATTRIBUTES = frozenset({"chmod", "chown", "utime", "setxattr", "removexattr"})
# What these undo is never a directory, so that of many on one path only the oldest counts.
_PLAIN = frozenset({"write", "append", "truncate", "put", "kv.set", "kv.delete", "symlink"})


# -- retention ------------------------------------------------------------------------------------


def retention_s(session: Session) -> float:
    """Return for how many seconds the states before an operation are kept."""
    row = session.execute(_GET_META, (RETENTION,)).fetchone()
    return DEFAULT_RETENTION_S if row is None else float(row[0])


def set_retention(view: View, seconds: float) -> None:
    """Keep the states of so many seconds; 0 keeps none."""
    if not 0 <= seconds < float("inf"):
        raise InvalidArgument(RETENTION, "it is a number of seconds that is not negative")
    view.session.execute(_SET_META, (RETENTION, float(seconds)))
    journal.append(view, "setting", detail={RETENTION: float(seconds)})


def journal_keeper(session: Session) -> str:
    """Return who alone lets journal rows go; empty where the retention does."""
    row = session.execute(_GET_META, (JOURNAL_KEEPER,)).fetchone()
    return "" if row is None else str(row[0])


def keep_journal(session: Session, keeper: str) -> None:
    """Leave it to an upper layer to say which journal rows may go."""
    session.execute(_SET_META, (JOURNAL_KEEPER, keeper))


# -- which moment ---------------------------------------------------------------------------------


class Target(NamedTuple):
    """A branch or snapshot by its name, or a branch after a journal row."""

    name: str
    seq: int | None = None


def locate(session: Session, ref: str, moment: Moment) -> Target:
    """Return what a moment means for the branch of a handle.

    A text that names a branch or snapshot is that one. Otherwise a number or `@12` is the state
    after that journal row; a time (`datetime`, ISO text, `-2h`, `ns:...`) the state after the last
    row that is not later.

    Raises:
        BranchNotFound: a text names nothing.
        InvalidArgument: a text or time has two meanings; the forms are named.
        NotFound: the moment is not kept.
    """
    if isinstance(moment, str) and session.execute(_IS_REF, {"name": moment}).fetchone():
        return Target(moment)
    branch = _branch_of(session, ref)
    seq, time_ns = _parse(moment)
    if seq is None and time_ns is not None:
        seq = _row_at(session, time_ns)
    assert seq is not None
    return Target(branch, _kept(session, branch, seq))


def _branch_of(session: Session, ref: str) -> str:
    """Return the branch whose history a handle means, also where it is on a past state."""
    branch = ref.partition(PAST_MARK)[0]
    row = session.execute(_OF_SNAPSHOT, (branch,)).fetchone()
    if row is not None and not session.execute(_BORN, (branch,)).fetchone():
        branch = row[0]
    if not session.execute(_BORN, (branch,)).fetchone():
        raise BranchNotFound(branch, "its history can be read through a handle on a branch only")
    return branch


def _parse(moment: Moment) -> tuple[int | None, int | None]:
    """Return a journal row's number or a time in nanoseconds."""
    if isinstance(moment, bool):
        raise InvalidArgument(repr(moment), FORMS)
    if isinstance(moment, int):
        return moment, None
    if isinstance(moment, datetime):
        return None, _from_datetime(moment)
    if found := _SEQ.match(moment):
        return int(found[1]), None
    if found := _NS.match(moment):
        return None, int(found[1])
    if found := _AGO.match(moment):
        return None, time.time_ns() - int(float(found[1]) * _UNITS[found[2]] * 1_000_000_000)
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        error = InvalidArgument if _LOOKS_LIKE_A_MOMENT.match(moment) else BranchNotFound
        raise error(moment, FORMS) from None
    return None, _from_datetime(parsed)


def _from_datetime(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise InvalidArgument(moment.isoformat(), "its time zone is missing; " + FORMS)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1000


def _row_at(session: Session, time_ns: int) -> int:
    row = session.execute(_AT_TIME, (time_ns,)).fetchone()
    if row is not None:
        return row[0]
    kept = journal.checkpoint(session)
    if kept is not None and kept.time_ns <= time_ns:
        return kept.seq
    if kept is None and time_ns >= _volume_ns(session):
        return 0
    raise NotFound(_when(time_ns), range_kept(session))


def _kept(session: Session, branch: str, seq: int) -> int:
    """Return the last row of a branch up to a number, when its state can be told."""
    oldest, newest = journal.bounds(session)
    if not oldest <= seq <= newest:
        raise NotFound(f"@{seq}", range_kept(session))
    born = _born(session, branch)
    if seq < born:
        raise NotFound(f"@{seq}", f"the branch {branch!r} was made by journal row {born}")
    row = session.execute(_LAST, (branch, seq, born)).fetchone()
    return row[0] if row else max(born, oldest)


def _born(session: Session, branch: str) -> int:
    """Return the row that made a branch; 0 for the first one, or when it is not kept."""
    if one(session.execute(_PARENT, (branch,)), f"branch {branch}")[0] is None:
        return 0
    row = session.execute(_FORKED, (branch,)).fetchone()
    return row[0] if row else 0


def range_kept(session: Session) -> str:
    """Say which moments are kept."""
    oldest, newest = journal.bounds(session)
    row = session.execute(_TIME_OF, {"seq": oldest}).fetchone()
    since = row[0] if row else _volume_ns(session)
    return f"history is kept from journal row {oldest} ({_when(since)}) to row {newest}"


def _volume_ns(session: Session) -> int:
    row = session.execute("SELECT min(created_ns) FROM branch").fetchone()
    return row[0] if row and row[0] else 0


def _when(time_ns: int) -> str:
    try:
        moment = time.gmtime(time_ns // 1_000_000_000)
    except (OverflowError, ValueError, OSError):
        return f"ns:{time_ns}"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)


# -- making its tree ------------------------------------------------------------------------------


def past_name(target: Target) -> str:
    """Return the name under which the table `past` has a moment; no branch can have it."""
    return f"{target.name}{PAST_MARK}@{target.seq}"


def known(session: Session, target: Target) -> bool:
    """Say whether the tree of a moment was made already."""
    return session.execute(_FIND_PAST, (past_name(target),)).fetchone() is not None


def make(view: View, target: Target) -> None:
    """Make and remember the tree of a branch after a journal row, unless it is there."""
    session = view.session
    if known(session, target):
        return
    assert target.seq is not None
    root, start = _nearest(session, target.name, target.seq)
    work = Undo(view, root, target.seq)
    bindings = (target.seq, start, target.name, target.name)
    for row in session.execute(_LATER, bindings).fetchall():
        work.undo(row)
    row = (past_name(target), work.finish(), time.time_ns())
    session.execute(_ADD_PAST, row)


def _nearest(session: Session, branch: str, seq: int) -> tuple[int, int]:
    """Return the nearest later root that cannot change any more, and the row it is true after."""
    row = session.execute(_NEAREST, {"seq": seq, "branch": branch}).fetchone()
    if row is None:
        # What a branch has now must not change in place while the past leads to it.
        branches.bump(session, branch)
        return session.branch(branch).root, journal.bounds(session)[1]
    number, operation, before, after = row
    return (before, number - 1) if operation in ("merge", "restore") else (after, number)


class Undo:
    """A hidden tree on which journal rows are undone, newest first."""

    def __init__(self, view: View, root: int, seq: int) -> None:
        """Begin with a later root; what is made belongs to a generation that no branch has."""
        self.session = view.session
        state = RefState("", root, view.session.new_generation())
        self.view = View(view.session, state, True, view.principal)
        self.time_ns = _time_of(view.session, seq)
        self._pending: dict[str, int | None] = {}
        self._touched: set[int] = set()

    def undo(self, row: Row) -> None:
        """Undo one row."""
        _seq, _time_ns, operation, path, path2, before, after, detail = row
        if operation in _WHOLE:
            return
        path, path2 = from_stored(path), from_stored(path2)
        if operation in _PLAIN:
            self._pending.pop(path, None)
            self._pending[path] = before
            return
        self._flush()
        kept: dict[str, Any] = {} if detail == "{}" else json.loads(detail)
        if path == "/" and (before != after or operation in _SETS_ROOT):
            self._set_root(before)
        elif operation in _MOVES:
            self._undo_move(operation, path, path2, before, after)
        elif "was" in kept:
            self._attributes(path, kept["was"])
        else:
            self._set(path, before, through=operation in _ATTRIBUTES)
        if "links" in kept:
            self._set_links(kept["links"])

    def _undo_move(
        self, operation: str, path: str, path2: str, before: int | None, after: int | None
    ) -> None:
        if operation == "rename":
            self._rename(path, path2, before)
        elif operation == "copy":
            self._set(path2, before)
        else:
            self._set(path2, None, through=False)
            self._set(path, after, through=False)

    def finish(self) -> int:
        """Undo what waits, and return the root of the tree.

        When the names of a directory changed last before the moment is not known: its time then
        is the moment's.
        """
        self._flush()
        rows = [(self.time_ns, self.time_ns, each, self.time_ns) for each in self._touched]
        self.session.connection.executemany(_NO_LATER, rows)
        return self.view.state.root

    def _flush(self) -> None:
        for path, before in self._pending.items():
            self._set(path, before)
        self._pending.clear()

    def _set_root(self, root: int) -> None:
        state = self.view.state
        state.directories.clear()
        state.root, state.generation = root, self.session.new_generation()

    def _set(self, path: str, node_id: int | None, through: bool = True) -> None:
        """Let a path lead to a node, or to nothing; `through` means the file of a hard link."""
        place = directories.locate(self.view, path, follow=False, through=through)
        self._put(place, node_id)

    def _put(self, place: Place, node_id: int | None) -> None:
        if place.node is not None and place.node.kind == DIRECTORY:
            directories.forget_below(self.view, place.path)
        if node_id is not None:
            is_new = place.node is None
            directories.set_entry(self.view, place.directory, place.name, node_id, is_new)
        elif place.node is not None:
            directories.drop_entry(self.view, place.directory, place.name)
        self._touched.add(place.directory.id)

    def _rename(self, source: str, target: str, before: int | None) -> None:
        """Take back a name with what is below it as it was then."""
        moved = directories.locate(self.view, target, follow=False, through=False)
        if moved.node is None:
            raise NotFound(target, "the journal says that it was moved there")
        self._put(moved, before)
        self._set(source, moved.node.id, through=False)

    def _attributes(self, path: str, was: dict[str, Any]) -> None:
        """Set a directory's attributes back that were changed in place."""
        directory = directories.resolve(self.view, path)
        directories.own(self.view, directory)
        row = (was["mode"], was["mtime_ns"], was["xattrs"], directory.id)
        self.session.execute(_SET_ATTRIBUTES, row)
        self._touched.discard(directory.id)

    def _set_links(self, area: int | None) -> None:
        """Set the area of hard links back."""
        root = directories.root(self.view)
        there = directories.lookup(self.session, root, LINKS_NAME)
        directories.forget_below(self.view, LINKS_PATH)
        self._put(Place(root, LINKS_NAME, there), area)


def _time_of(session: Session, seq: int) -> int:
    row = session.execute(_TIME_OF, {"seq": seq}).fetchone()
    return row[0] if row else _volume_ns(session)
