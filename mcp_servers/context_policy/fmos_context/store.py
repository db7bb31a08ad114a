"""Keeps sessions as files on the agent's branch, so they follow snapshot, fork and restore.

Files of a session, under /.fmos/context/<session>/:
session.json (settings), next (ordinal of the next item), items/<n>.json (one item, never
changed), text/<n> (a paged-out text, byte for byte), dropped/<handle> (which items a composed
context left out).
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

from agentfs import AgentFS
from fmos_context.model import Item, Session

_FOLDER = "/.fmos/context"
_CACHED_ITEMS = 8_192


class ItemCache:
    """Parsed items by file version, which never changes; shared by all sessions of a service."""

    def __init__(self) -> None:
        self._items: OrderedDict[tuple[str, int], Item] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, volume: str, node: int, read: Callable[[], Item]) -> Item:
        """Return the item of the file version, reading it when it is not cached."""
        found = self.known(volume, (node,))[0]
        return self.read(volume, node, read) if found is None else found

    def known(self, volume: str, nodes: Iterable[int]) -> list[Item | None]:
        """Return the items of file versions, with None for each that is not cached."""
        found: list[Item | None] = []
        with self._lock:
            for node in nodes:
                item = self._items.get((volume, node))
                if item is not None:
                    self._items.move_to_end((volume, node))
                found.append(item)
        return found

    def read(self, volume: str, node: int, read: Callable[[], Item]) -> Item:
        """Read the item of a file version, and keep it."""
        item = read()
        with self._lock:
            self._items[volume, node] = item
            while len(self._items) > _CACHED_ITEMS:
                self._items.popitem(last=False)
        return item


class SessionStore:
    """One session on one branch."""

    def __init__(self, fs: AgentFS, volume: str, session: str, cache: ItemCache) -> None:
        self._fs = fs
        self._volume = volume
        self._folder = f"{_FOLDER}/{session}"
        self._cache = cache

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep other writers out while the block runs, and write all of it or nothing."""
        with self._fs.transaction():
            yield

    def save(self, session: Session) -> None:
        """Write the settings, making the session when it is new."""
        with self._fs.transaction():
            for name in ("items", "text", "dropped"):
                self._fs.mkdir(f"{self._folder}/{name}", parents=True, exist_ok=True)
            self._fs.write(f"{self._folder}/session.json", session.model_dump_json().encode())

    def load(self) -> Session | None:
        """Return the settings, or None where the branch has no such session."""
        data = self._optional(f"{self._folder}/session.json")
        return None if data is None else Session.model_validate_json(data)

    def count(self) -> int:
        """Return how many items the session has, which is the ordinal of the next."""
        data = self._optional(f"{self._folder}/next")
        return int(data) if data else 0

    def add(self, item: Item, paged_out: bytes | None) -> None:
        """Write an item, and its text in a file of its own when it is paged out."""
        with self._fs.transaction():
            if paged_out is not None:
                self._fs.write(f"{self._folder}/text/{item.ordinal}", paged_out)
            self._fs.write(self._item_path(item.ordinal), item.model_dump_json().encode())
            self._fs.write(f"{self._folder}/next", str(item.ordinal + 1).encode())

    def item(self, ordinal: int) -> Item | None:
        """Return one item, or None."""
        path = self._item_path(ordinal)
        try:
            return self._parsed(path, self._fs.stat(path).node)
        except FileNotFoundError:
            return None

    def all(self) -> list[Item]:
        """Return every item in order, from one listing of the folder."""
        entries = self._fs.scandir(f"{self._folder}/items")
        known = self._cache.known(self._volume, [entry.stat.node for entry in entries])
        items = [
            self._parsed(entry.path, entry.stat.node) if item is None else item
            for entry, item in zip(entries, known, strict=True)
        ]
        return sorted(items, key=attrgetter("ordinal"))

    def text(self, item: Item) -> str:
        """Return an item's exact text."""
        if item.text is not None:
            return item.text
        return self._fs.read(f"{self._folder}/text/{item.ordinal}").decode()

    def save_dropped(self, handle: str, ordinals: Sequence[int]) -> None:
        """Remember which items a handle stands for."""
        path = f"{self._folder}/dropped/{handle}"
        if not self._fs.exists(path):
            self._fs.write(path, json.dumps(_ranges(ordinals)).encode())

    def dropped(self, handle: str) -> list[int] | None:
        """Return the items that a handle stands for, or None."""
        data = self._optional(f"{self._folder}/dropped/{handle}")
        if data is None:
            return None
        return [ordinal for first, last in json.loads(data) for ordinal in range(first, last + 1)]

    def others(self) -> list[str]:
        """Return the other sessions of the branch."""
        own = self._folder.rpartition("/")[2]
        return [name for name in self._fs.listdir(_FOLDER) if name != own]

    def _parsed(self, path: str, node: int) -> Item:
        return self._cache.get(
            self._volume, node, lambda: Item.model_validate_json(self._fs.read(path))
        )

    def _item_path(self, ordinal: int) -> str:
        return f"{self._folder}/items/{ordinal}.json"

    def _optional(self, path: str) -> bytes | None:
        try:
            return self._fs.read(path)
        except FileNotFoundError:
            return None


def _ranges(ordinals: Sequence[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for ordinal in ordinals:
        if ranges and ranges[-1][1] == ordinal - 1:
            ranges[-1][1] = ordinal
        else:
            ranges.append([ordinal, ordinal])
    return ranges
