"""What others change in the volume: seen in the journal, and told to the kernel."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from agentfs import journal
from agentfs.errors import AgentFSError
from agentfs.journal import Filter
from agentfs.paths import split
from agentfs.types import JournalRow

from . import protocol
from .inodes import Inode

if TYPE_CHECKING:
    from .server import Server

_MANY = 1000
_LEAST_S, _MOST_S, _END_S = 0.02, 1.0, 5.0
# Operations that leave everything but one node as it is.
_OF_ONE_NODE = frozenset({
    "write", "append", "truncate", "chmod", "chown", "utime", "setxattr", "removexattr",
})  # fmt: skip

Entry = tuple[int, str]


class Watcher:
    """A thread that lets nothing older than `cache_s` be seen through the mount.

    The kernel keeps names and attributes for long; it is told which of them are not true any more.
    Telling may wait for a program that waits for the server, so that it is never done there.
    """

    def __init__(self, server: Server, cache_s: float) -> None:
        """Watch from now on."""
        self._thread = threading.Thread(target=self._run, name="agentfs-watcher", daemon=True)
        self._server = server
        self._state = server.state
        self._every_s = min(max(cache_s / 2, _LEAST_S), _MOST_S)
        self._stopped = threading.Event()
        # How many moves of this mount there had been at the two last looks.
        self._moves = (0, 0)
        self._told: tuple[list[Inode], list[Entry]] = ([], [])
        with self._state.reading() as view:
            self._seq = journal.head(view.session)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.look()
            except AgentFSError:
                continue  # the volume is busy: the next look finds all that this one missed
            except Exception:  # who watches must go on
                traceback.print_exc(file=sys.stderr)

    def look(self) -> None:
        """Tell the kernel what others changed since the last look."""
        rows, newest = self._rows()
        with self._state.lock:
            moves, self._moves = self._moves[0], (self._moves[1], self._state.moves)
            if rows and moves != self._state.moves:
                inodes, entries = self._everything()
            else:
                inodes, entries = self._affected(rows)
            inodes += self._state.spoiled
            self._state.spoiled.clear()
        self._seq = newest
        # An answer that was on its way during the first telling may have come after it.
        before, self._told = self._told, (inodes, entries)
        self._tell([*inodes, *before[0]], [*entries, *before[1]])

    def _rows(self) -> tuple[list[JournalRow], int]:
        """Return the rows of the branch since the last look, at most a few more than many."""
        with self._state.reading() as view:
            newest = journal.head(view.session)
            with self._state.lock:  # whoever wrote the newest row has noted it when this is held
                own = self._take_own(newest)
            wanted = Filter(None, None, view.state.name, None, None)
            rows: list[JournalRow] = []
            after = self._seq
            # Only the gaps between this mount's own rows are read.
            for first, last in [*own, (newest + 1, newest + 1)]:
                if after + 1 < first and len(rows) <= _MANY:
                    until = wanted._replace(until=first - 1)
                    rows += journal.page(view.session, after, _MANY + 1, until)
                after = max(after, last)
        return rows, newest

    def _take_own(self, newest: int) -> list[tuple[int, int]]:
        """Return the rows that this mount wrote up to the newest, and forget their numbers."""
        own = self._state.own
        found = [each for each in own if each[0] <= newest]
        own[:] = [each for each in own if each[0] > newest]
        return found

    def _affected(self, rows: list[JournalRow]) -> tuple[list[Inode], list[Entry]]:
        """Mark what has to be looked up again; return inodes and names that the kernel keeps."""
        table = self._state.table
        if len(rows) > _MANY or any(each.path == "/" and each.operation not in _OF_ONE_NODE
                                    for each in rows):  # fmt: skip
            return self._everything()
        inodes: dict[Inode, None] = {}
        entries: dict[Entry, None] = {}
        for row in rows:
            for path in filter(None, (row.path, row.path2)):
                inode = table.by_path(path)
                if inode is not None:
                    deep = row.operation not in _OF_ONE_NODE
                    inodes |= dict.fromkeys(_below(inode) if deep else [inode])
                self._note_name(path, inodes, entries)
        if any(each.link for each in table.inodes.values()):
            inodes |= {each: None for each in table.inodes.values() if each.link}
        self._mark(inodes)
        return list(inodes), list(entries)

    def _note_name(self, path: str, inodes: dict[Inode, None], entries: dict[Entry, None]) -> None:
        """Note that a name, and the directory that it is in, may have changed."""
        above, name = split(path)
        parent = self._state.table.by_path(above)
        if parent is not None and name:
            inodes[parent] = None
            entries[parent.number, name] = None

    def _everything(self) -> tuple[list[Inode], list[Entry]]:
        inodes = list(self._state.table.inodes.values())
        self._mark(inodes)
        entries = [(parent.number, name) for each in inodes for parent, name in each.names]
        for each in inodes:
            entries += [(each.number, name) for name in each.missing]
            each.missing.clear()
        return inodes, entries

    def _mark(self, inodes: Iterable[Inode]) -> None:
        self._state.room_bytes = None
        for inode in inodes:
            self._state.stale(inode)
            inode.kept = 0

    def _tell(self, inodes: list[Inode], entries: list[Entry]) -> None:
        for number, name in entries:
            raw = os.fsencode(name)
            body = protocol.INVAL_ENTRY.pack(number, len(raw), 0) + raw + b"\0"
            self._notify(protocol.NOTIFY_INVAL_ENTRY, body)
        for inode in inodes:
            body = protocol.INVAL_INODE.pack(inode.number, 0, 0)
            self._notify(protocol.NOTIFY_INVAL_INODE, body)

    def _notify(self, code: int, body: bytes) -> None:
        head = protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), code, 0)
        with suppress(OSError):  # the kernel does not have it
            os.writev(self._server.connection, [head, body])


def _below(inode: Inode) -> list[Inode]:
    """Return an inode and all known ones below it."""
    found, waiting = [inode], [inode]
    while waiting:
        children = list(waiting.pop().children.values())
        found += children
        waiting += children
    return found
