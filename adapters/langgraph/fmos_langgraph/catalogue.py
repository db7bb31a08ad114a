"""Which items a store has on its branch now, kept in memory and brought up to date.

Owns the way from the journal to what changed since the last look: most looks cost the rows that
are new. After a restore, a merge or anything else that the journal does not tell item by item, all
folders are listed again; only files of which the version changed are read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from agentfs import AgentFS
from agentfs.types import JournalRow, Stat
from fmos_langgraph.items import ROOT, ItemFiles, StoredItem, address_of, folder_of, is_item
from fmos_langgraph.ranking import TextIndex, text_of
from fmos_langgraph.shelf import ByteCache

# More new rows than this cost more to read than all folders of most stores.
_MOST_ROWS = 2000
_OF_ONE_PATH = ("write", "remove")
_OF_FOLDERS = ("mkdir", "rmdir")
_OF_BRANCHES = ("fork", "delete_branch")

Version = tuple[int, int]
"""A file's version: its node, and when that was made, as a transaction that was undone may leave
its nodes' ids to others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One item as the catalogue knows it; `row` is a number that no other version ever has."""

    row: int
    path: str
    version: Version
    namespace: tuple[str, ...]
    key: str
    updated_ns: int
    expires_ns: int | None

    def is_expired(self, now_ns: int) -> bool:
        """Return whether its time is over."""
        return self.expires_ns is not None and self.expires_ns <= now_ns


class Catalogue:
    """The items of a branch and the index of their texts; hold `lock` while using it."""

    def __init__(self, fs: AgentFS, files: ItemFiles, fields: Sequence[str]) -> None:
        """Know nothing yet; `fields` are the paths in values that a query looks at."""
        self.lock = threading.RLock()
        self._fs = fs
        self._files = files
        self._fields = fields
        self._entries: dict[str, Entry] = {}
        self._by_row: dict[int, Entry] = {}
        self._rows = count(1)
        self._bytes = ByteCache()
        self._index: TextIndex | None = None
        self._mark: JournalRow | None = None

    def entries(self, prefix: tuple[str, ...] = ()) -> Iterator[Entry]:
        """Yield the items of all namespaces that begin with a prefix, in no order."""
        below = f"{folder_of(prefix)}/"
        return (each for path, each in self._entries.items() if path.startswith(below))

    def newest(self, prefix: tuple[str, ...]) -> list[tuple[Entry, float | None]]:
        """Return the items below a prefix, those updated last first."""
        found = sorted(self.entries(prefix), key=lambda each: (-each.updated_ns, each.path))
        return [(each, None) for each in found]

    def ranked(self, prefix: tuple[str, ...], query: str) -> list[tuple[Entry, float | None]]:
        """Return the items below a prefix that have a word of a query, the best first."""
        if self._index is None:
            index = TextIndex()
            index.add((row, self._text(each)) for row, each in self._by_row.items())
            self._index = index
        below = f"{folder_of(prefix)}/"
        scores = self._index.scores(query)
        found = [(self._by_row[row], score) for row, score in scores.items()]
        found = [each for each in found if each[0].path.startswith(below)]
        found.sort(key=lambda each: (-each[1], -each[0].updated_ns, each[0].path))
        return [(entry, score) for entry, score in found]

    def item(self, entry: Entry) -> StoredItem:
        """Return an item."""
        data = self._bytes.get(entry.row)
        if data is None:
            data = self._fs.read(entry.path)
            self._bytes.keep(entry.row, data)
        return self._files.load(data)

    def _text(self, entry: Entry) -> str:
        item = self.item(entry)
        return text_of(self._files.value(item), item.index, self._fields)

    # -- following the branch ---------------------------------------------------------------

    def follow(self) -> None:
        """Know what the branch has now; call in a transaction or a reading."""
        rows = self._new_rows()
        changed = None if rows is None else self._changed(rows)
        if rows is None or changed is None:
            mark = self._late_row()
            self._look_everywhere()
        else:
            mark = rows[-1]
            for path in changed:
                self._look_at(path)
        self._mark = mark

    def _new_rows(self) -> list[JournalRow] | None:
        """Return the journal from the last look on, or None when that is not known."""
        mark = self._mark
        if mark is None:
            return None
        rows = list(self._fs.journal(since=mark.seq - 1, limit=_MOST_ROWS))
        # Another hash: the last look was into a transaction that was undone.
        is_whole = bool(rows) and rows[0].hash == mark.hash and len(rows) < _MOST_ROWS
        return rows if is_whole else None

    def _changed(self, rows: list[JournalRow]) -> set[str] | None:
        """Return the paths of items that rows after the first are about; None: they do not say."""
        found: set[str] = set()
        for row in rows[1:]:
            concerns = row.branch == self._fs.branch or row.operation in _OF_BRANCHES
            if concerns and not self._note(row, found):
                return None
        return found

    def _note(self, row: JournalRow, found: set[str]) -> bool:
        """Note which item a row is about; return False when that is not told."""
        if row.operation in _OF_BRANCHES:
            return row.path != self._fs.branch
        if row.operation == "fsck.repair":
            return False
        if not any(_touches(each) for each in (row.path, row.path2)):
            return True
        if row.operation in _OF_ONE_PATH and is_item(row.path):
            found.add(row.path)
            return True
        return row.operation in _OF_FOLDERS

    def _late_row(self) -> JournalRow | None:
        """Return a late row of the journal: the branch's last one, or else the last fork."""
        rows = self._fs.log(limit=1) or list(self._fs.journal(operation="fork"))[-1:]
        return rows[0] if rows else None

    def _look_everywhere(self) -> None:
        found = dict(self._walk(ROOT))
        for path in self._entries.keys() - found.keys():
            self._forget(path)
        for path, stat in found.items():
            self._know(path, stat)

    def _walk(self, folder: str) -> Iterator[tuple[str, Stat]]:
        try:
            below = self._fs.scandir(folder)
        except FileNotFoundError:
            return
        for each in below:
            if each.stat.is_dir:
                yield from self._walk(each.path)
            elif is_item(each.path):
                yield each.path, each.stat

    def _look_at(self, path: str) -> None:
        try:
            self._know(path, self._fs.stat(path))
        except FileNotFoundError:
            self._forget(path)

    def _know(self, path: str, stat: Stat) -> None:
        version = stat.node, stat.ctime_ns
        known = self._entries.get(path)
        if known is not None and known.version == version:
            return
        self._forget(path)
        row = next(self._rows)
        data = self._fs.read(path)
        item = self._files.load(data)
        names = address_of(path, item)
        entry = Entry(row, path, version, *names, item.updated_ns, item.expires_ns)
        self._bytes.keep(row, data)
        self._entries[path] = self._by_row[row] = entry
        if self._index is not None:
            self._index.add([(row, self._text(entry))])

    def _forget(self, path: str) -> None:
        entry = self._entries.pop(path, None)
        if entry is None:
            return
        del self._by_row[entry.row]
        if self._index is not None:
            self._index.remove(entry.row)


def _touches(path: str) -> bool:
    """Return whether a change of a path can change the store's items."""
    if not path:
        return False
    return f"{path}/".startswith(f"{ROOT}/") or ROOT.startswith(path.rstrip("/") + "/")
