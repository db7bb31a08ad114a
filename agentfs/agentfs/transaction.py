"""Transactions: per-thread sessions, BEGIN IMMEDIATE, savepoints, id leases and what they cache.

A `Volume` is shared by all handles on one file; a `Session` is one thread's connection with the
state that stays true while nobody else commits (`PRAGMA data_version`).
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Any

import apsw

from . import acl, encryption
from .connection import Execute, connect, translate
from .damage import retold
from .errors import BranchNotFound, Corrupt, VolumeBusy, VolumeClosed, VolumeDenied
from .paths import to_stored
from .types import Durability

if TYPE_CHECKING:
    from .directories import Directory
    from .hostfiles import Identity
    from .nodes import Node

_HASH_KEY = "SELECT value FROM meta WHERE key = 'name_hash_key'"
_LEASE = 1000
_CACHED_HASHES = 10_000
# SQLite looks whether somebody else committed when a statement begins to read.
_ANY_READ = "SELECT 1 FROM branch LIMIT 1"
_CACHED_DIRECTORIES = 20_000
_BRANCH = (
    "SELECT root, generation, EXISTS (SELECT 1 FROM access_rule),"
    " EXISTS (SELECT 1 FROM quota WHERE branch = name) FROM branch WHERE name = ?"
)
_SNAPSHOT = "SELECT root, 0, EXISTS (SELECT 1 FROM access_rule), 0 FROM snapshot WHERE name = ?"
_PAST = "SELECT root, 0, EXISTS (SELECT 1 FROM access_rule), 0 FROM past WHERE name = ?"
# Stands between a branch and a journal row in the name of a past state; no branch can have it.
PAST_MARK = "\x1f"
NOTE = "INSERT OR REPLACE INTO overlay_file(overlay, path, identity, hash) VALUES (?, ?, ?, ?)"
_TAKE = "UPDATE meta SET value = value + ? WHERE key = ? RETURNING value"
# What other processes' sessions must not inherit through os.fork: closing them would touch locks.
_INHERITED: list[Session] = []


def _why_missing(name: str) -> tuple[str, str]:
    if PAST_MARK not in name:
        return name, ""
    return name.replace(PAST_MARK, ""), "gc let this past state go; ask for it again with `at`"


class RefState:
    """A branch or snapshot as this session knows it; `generation` 0 means nothing is owned."""

    __slots__ = ("directories", "generation", "name", "replaced", "root", "rules")

    def __init__(self, name: str, root: int, generation: int) -> None:
        """Begin with no resolved directories."""
        self.name = name
        self.root = root
        self.generation = generation
        self.directories: dict[str, Directory] = {}
        self.rules: acl.Rules | None = None
        # Nodes that names led to before and after, while the branch has a quota; see quota.
        self.replaced: list[tuple[int | None, int | None]] | None = None


Notes = dict[tuple[int, str], "tuple[Identity, bytes]"]
"""For an overlay and a path in its host directory: the identity and hash of the content."""


class Unseen:
    """Rows that are in the volume, but not in the state that the open read sees."""

    __slots__ = ("names", "nodes")

    def __init__(self) -> None:
        """Begin with none."""
        self.names: dict[int, dict[str, Node]] = {}
        self.nodes: dict[int, tuple[Node, bytes | None]] = {}

    def clear(self) -> None:
        """Forget them: a new read sees them itself."""
        self.names.clear()
        self.nodes.clear()


class Session:
    """One thread's connection and what it may remember between calls."""

    def __init__(self, connection: apsw.Connection, name_hash_key: bytes, verify: bool) -> None:
        """Take over an open connection."""
        self.connection = connection
        self.execute: Execute = connection.execute
        self.name_hash_key = name_hash_key
        self.verify = verify
        self.depth = 0
        self.head: tuple[int, bytes] | None = None
        # How many commits of this process there were when this session's last one ended.
        self.commits = -1
        # What another connection of this thread wrote beside a read that is open here; see listing.
        self.unseen = Unseen()
        self.aside: Callable[[], AbstractContextManager[Session]] | None = None
        # Hashes of host files that reads have learned; see copyup.
        self.notes: Notes = {}
        self.path = ""
        self._refs: dict[str, RefState] = {}
        self._leases: dict[str, list[int]] = {}
        self._fresh_lease = False
        self._data_version = -1
        self.name_hash = lru_cache(maxsize=_CACHED_HASHES)(self._name_hash)

    def refresh(self) -> None:
        """Forget what another connection may have changed; call first in a transaction."""
        version = self.connection.data_version()
        if version != self._data_version:
            self._data_version = version
            self.forget()

    def forget(self) -> None:
        """Drop everything that was read from the volume."""
        self._refs.clear()
        self.head = None
        self.unseen.clear()

    def forget_ref(self, name: str) -> None:
        """Drop what is known about one branch or snapshot."""
        self._refs.pop(name, None)

    def write_notes(self, notes: Notes | None = None) -> None:
        """Write what reads have learned of host files; those of this session go at the commit."""
        waiting = self.notes if notes is None else notes
        if waiting:
            rows = [
                (overlay, to_stored(path), json.dumps(identity), digest)
                for (overlay, path), (identity, digest) in waiting.items()
            ]
            self.connection.executemany(NOTE, rows)

    def rolled_back(self) -> None:
        """Drop what the undone part may have brought in."""
        self.forget()
        if self._fresh_lease:
            self._leases.clear()
            self._fresh_lease = False

    def committed(self) -> None:
        """Keep the leases: their counters are stored now; own commits change no cache."""
        self._fresh_lease = False
        self.notes.clear()
        self._data_version = self.connection.data_version()

    def remembered(self, name: str) -> RefState | None:
        """Return what is known about a branch or snapshot, outside of transactions.

        Whoever uses it without a transaction asks `unchanged` after the last statement.
        """
        return None if self.depth else self._refs.get(name)

    def unchanged(self) -> bool:
        """Say whether the last statement saw the state that everything remembered comes from."""
        return self.connection.data_version() == self._data_version

    def ref(self, name: str) -> RefState:
        """Return a branch, or else a snapshot, as it is now.

        Raises:
            BranchNotFound: neither has this name.
        """
        state = self._refs.get(name)
        if state is None:
            state = self._refs[name] = self._load_ref(name)
        elif len(state.directories) > _CACHED_DIRECTORIES:
            state.directories.clear()
        return state

    def branch(self, name: str) -> RefState:
        """Return a branch as it is now; a snapshot does not count."""
        state = self.ref(name)
        if not state.generation:
            raise BranchNotFound(name, "it is a snapshot, and a branch is needed")
        return state

    def _load_ref(self, name: str) -> RefState:
        row = self.execute(_BRANCH, (name,)).fetchone()
        if row is None:
            row = self.execute(_PAST if PAST_MARK in name else _SNAPSHOT, (name,)).fetchone()
        if row is None:
            raise BranchNotFound(*_why_missing(name))
        root, generation, has_rules, has_quota = row
        state = RefState(name, root, generation)
        state.rules = acl.load(self.execute) if has_rules else None
        state.replaced = [] if has_quota else None
        return state

    def new_id(self, counter: str) -> int:
        """Return an id that no row ever had, from a block leased in a write transaction."""
        lease = self._leases.get(counter)
        if lease is None or lease[0] == lease[1]:
            end = self.take(counter, _LEASE)
            lease = self._leases[counter] = [end - _LEASE, end]
            self._fresh_lease = True
        lease[0] += 1
        return lease[0] - 1

    def take(self, counter: str, count: int) -> int:
        """Advance a stored counter and return its new value."""
        row = self.execute(_TAKE, (count, counter)).fetchone()
        if row is None:
            raise Corrupt(f"meta.{counter}", "the counter is missing")
        return row[0]

    def new_generation(self) -> int:
        """Return a generation that no branch ever had."""
        return self.take("next_generation", 1) - 1

    def _name_hash(self, name: str) -> int:
        """Return the keyed hash that places a name in a directory; called through a cache."""
        raw = name.encode("utf-8", "surrogateescape")
        return int.from_bytes(
            blake2b(raw, digest_size=8, key=self.name_hash_key).digest(), "little"
        )


class Volume:
    """One file, shared by its handles: a session per thread and one writer at a time."""

    def __init__(
        self, path: str, durability: Durability, create: bool, busy_s: float, verify: bool,
        key: encryption.Key | None = None, *, read_only: bool = False,
    ) -> None:  # fmt: skip
        """Open the file once, so that a wrong one is refused at once."""
        self.path = os.path.abspath(path)
        self.durability: Durability = durability
        self.busy_s = busy_s
        self.verify = verify
        self.read_only = read_only
        self.closed = False
        self._key = encryption.check_key(self.path, key)
        self._create = create and not read_only
        self._reset()
        self.session()
        self._create = False

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._local = threading.local()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._guard = threading.Lock()
        self.lock = threading.RLock()
        # Handles on past states, which gc keeps while they are open here.
        self.views: weakref.WeakSet[Any] = weakref.WeakSet()
        self.committed = threading.Condition()
        self.commits = 0
        self.watchers = 0

    def session(self) -> Session:
        """Return this thread's session, reopened when the process was forked."""
        if self._pid != os.getpid():
            _INHERITED.extend(self._sessions)
            self._reset()
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._open_session()
        return session

    def _open_session(self) -> Session:
        if self.closed:
            raise VolumeClosed(self.path)
        connection = connect(
            self.path, self.durability, self._create, self.busy_s, self._key,
            read_only=self.read_only,
        )  # fmt: skip
        try:
            row = connection.execute(_HASH_KEY).fetchone()
        except apsw.Error as error:
            connection.close()
            raise translate(error, self.path) from error
        if row is None:
            connection.close()
            raise Corrupt(self.path, "the setting name_hash_key is missing")
        session = Session(connection, row[0], self.verify)
        session.aside, session.path = self.aside, self.path
        self._local.session = session
        with self._guard:
            self._sessions.add(session)
        return session

    @contextmanager
    def aside(self) -> Iterator[Session]:
        """Open a write transaction on a second connection, beside a read of this thread."""
        local = self._local
        first: Session = local.session
        second: Session | None = getattr(local, "second", None)
        try:
            local.session = local.second = second or self._open_session()
            with WriteScope(self) as session:
                yield session
        finally:
            local.session = first

    def close(self) -> None:
        """Close the connections of all threads; later calls on any handle fail."""
        self.closed = True
        self._close_sessions()

    def _close_sessions(self) -> None:
        with self._guard:
            sessions = list(self._sessions)
            self._sessions.clear()
        if self._pid != os.getpid():
            _INHERITED.extend(sessions)
        else:
            for session in sessions:
                session.connection.close()
        self._local = threading.local()

    @property
    def is_encrypted(self) -> bool:
        """Say whether the file is encrypted."""
        return self._key is not None

    def change_key(self, key: encryption.Key | None) -> None:
        """Encrypt the file anew, or write it as plain bytes; nobody else may have it open.

        Raises:
            VolumeBusy: another process, or a transaction, has the volume open.
            EncryptionMissing, InvalidArgument.
        """
        new = encryption.check_key(self.path, key)
        self.acquire()
        try:
            if self.session().depth:
                raise VolumeBusy(self.path, "a transaction is open")
            self._close_sessions()
            connection = connect(self.path, "full", False, self.busy_s, self._key)
            try:
                encryption.change_key(connection, new)
            except apsw.Error as error:
                raise translate(error, self.path) from error
            finally:
                connection.close()
            self._key = new
        finally:
            self.lock.release()

    def note_commit(self, session: Session) -> None:
        """Note whose commit was this process's last, and tell those who wait for one."""
        self.commits += 1
        session.commits = self.commits
        if self.watchers:
            self.wake()

    def wake(self) -> None:
        """Tell those of this process who wait for a commit."""
        with self.committed:
            self.committed.notify_all()

    def acquire(self) -> None:
        """Wait for this process's other writers."""
        if not self.lock.acquire(timeout=self.busy_s):
            raise VolumeBusy(self.path, "another thread did not finish in time")


class WriteScope:
    """A write transaction: BEGIN IMMEDIATE, or a savepoint inside another one."""

    __slots__ = ("_session", "_volume")

    def __init__(self, volume: Volume) -> None:
        """Begin nothing yet."""
        self._volume = volume

    def __enter__(self) -> Session:
        """Take the writer's place and see the newest state."""
        volume = self._volume
        if volume.closed:
            raise VolumeClosed(volume.path)
        if volume.read_only:
            raise VolumeDenied(volume.path, "it was opened for reading only")
        session = volume.session()
        volume.acquire()
        try:
            if session.depth:
                session.execute(f"SAVEPOINT level_{session.depth}")
            else:
                session.execute("BEGIN IMMEDIATE")
                session.refresh()
                session.write_notes()
        except BaseException as error:
            self._give_up(session)
            if isinstance(error, apsw.Error):
                raise translate(error, volume.path) from error
            raise
        session.depth += 1
        self._session = session
        return session

    def _give_up(self, session: Session) -> None:
        if not session.depth and session.connection.in_transaction:
            session.execute("ROLLBACK")
        self._volume.lock.release()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or undo all of it when the body failed."""
        session = self._session
        session.depth -= 1
        try:
            if kind is None:
                self._commit(session)
            else:
                self._roll_back(session)
        finally:
            self._volume.lock.release()
        if error is None:
            return
        told = retold(error, self._volume.path, self._session.connection)
        if told is not None:
            raise told from error

    def _commit(self, session: Session) -> None:
        try:
            if session.depth:
                session.execute(f"RELEASE level_{session.depth}")
            else:
                session.execute("COMMIT")
                session.committed()
                self._volume.note_commit(session)
        except BaseException as error:
            self._roll_back(session)
            if isinstance(error, apsw.Error):
                raise translate(error, self._volume.path) from error
            raise

    def _roll_back(self, session: Session) -> None:
        session.rolled_back()
        # A full disk may already have undone everything.
        if not session.connection.in_transaction:
            return
        if session.depth:
            session.execute(f"ROLLBACK TO level_{session.depth}")
            session.execute(f"RELEASE level_{session.depth}")
        else:
            session.execute("ROLLBACK")


class ReadScope:
    """A consistent view for one call, without a lock; inside a transaction, its own state."""

    __slots__ = ("_nested", "_session", "_volume")

    def __init__(self, volume: Volume) -> None:
        """Begin nothing yet."""
        self._volume = volume

    def __enter__(self) -> Session:
        """See one state of the volume until the end of the call."""
        if self._volume.closed:
            raise VolumeClosed(self._volume.path)
        session = self._session = self._volume.session()
        self._nested = session.connection.in_transaction
        if not self._nested:
            session.execute("BEGIN")
            try:
                session.execute(_ANY_READ).get  # noqa: B018 - the property runs it
                session.refresh()
            except BaseException as error:
                session.execute("ROLLBACK")
                if isinstance(error, apsw.Error):
                    raise translate(error, self._volume.path) from error
                raise
        return session

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the view go."""
        if not self._nested and self._session.connection.in_transaction:
            try:
                self._session.execute("COMMIT")
            except apsw.Error as failed:  # a damaged page can be met as late as here
                error = error or failed
                if self._session.connection.in_transaction:
                    self._session.execute("ROLLBACK")
        if error is None:
            return
        told = retold(error, self._volume.path, self._session.connection)
        if told is not None:
            raise told from error
