"""`import_checkpoints`: brings the threads of another checkpointer into a `FmosSaver`.

Owns the order and the repeating of an import; what a source has is read in sources.py. A batch of
checkpoints with their writes is one transaction, so an import that was stopped is repeated and
goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, DeltaChannelHistory

from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.codec import Codec
from fmos_langgraph.places import Place
from fmos_langgraph.shelf import ByteCache, Shelf, Write
from fmos_langgraph.sources import Address, Kept, KeptWrite, Source, open_source

# How many checkpoints are in memory, and in one transaction.
_BATCH = 32
_COUNTERS = "counters_since_delta_snapshot"

Progress = Callable[[int, int], None]


class Imported(NamedTuple):
    """What an import did: the source's threads, what was new, and checkpoints already there."""

    threads: int
    checkpoints: int
    writes: int
    skipped: int


class _Found(NamedTuple):
    """What a source has for one address; without a checkpoint when that is stored already."""

    at: Address
    kept: Kept | None
    writes: Sequence[KeptWrite]
    history: Mapping[str, DeltaChannelHistory]


def import_checkpoints(
    source: str | os.PathLike[str] | BaseCheckpointSaver[Any],
    saver: FmosSaver,
    progress: Progress | None = None,
) -> Imported:
    """Copy all threads of a source into a saver, oldest checkpoint first, and return the counts.

    `source` is the file of a SqliteSaver, the `postgresql://` address of a PostgresSaver, or a
    checkpointer; it is only read. A checkpoint that the saver has is left as it is, except that
    writes which came to it since are added. `progress` is called with how many checkpoints are
    done, and of how many.

    Raises:
        NotFoundError: there is no such file.
        FormatError: the source is not what it should be, or cannot be reached.
        MissingExtraError: Postgres needs packages that are not installed.
        ArgumentError: the source is encrypted, and the saver's serializer does not decrypt it.
    """
    with open_source(source, saver.serde) as opened:
        addresses = opened.addresses()
        work = _Import(opened, saver, frozenset(addresses))
        counts = (0, 0, 0)
        for start in range(0, len(addresses), _BATCH):
            done = work.copy(addresses[start : start + _BATCH])
            counts = tuple(map(sum, zip(counts, done, strict=True)))
            if progress is not None:
                progress(min(start + _BATCH, len(addresses)), len(addresses))
    return Imported(len({at.thread for at in addresses}), *counts)


class _Import:
    """Copies checkpoints from one source to one saver."""

    def __init__(self, source: Source, saver: FmosSaver, known: Collection[Address]) -> None:
        self._source = source
        self._saver = saver
        self._known = known
        self._codec = Codec(saver.serde)
        self._cache = ByteCache()

    def copy(self, addresses: Sequence[Address]) -> tuple[int, int, int]:
        """Copy some checkpoints; return how many, how many writes, and how many were there."""
        batch = [self._read(at) for at in addresses]
        with self._saver.fs.transaction():
            writes = sum(self._store(found) for found in batch)
        new = sum(found.kept is not None for found in batch)
        return new, writes, len(batch) - new

    def _read(self, at: Address) -> _Found:
        """Read from the source, before the saver's volume is locked."""
        path = Place.of(at.thread, at.namespace).checkpoint(at.id)
        kept = None if self._saver.fs.exists(path) else self._source.checkpoint(at)
        history = self._history(at, kept) if kept else {}
        return _Found(at, kept, self._source.writes(at), history)

    def _history(self, at: Address, kept: Kept) -> Mapping[str, DeltaChannelHistory]:
        """Return what a removed parent would have told about channels that are kept as deltas."""
        counted = kept.metadata.get(_COUNTERS, {}).keys()
        deltas = counted - kept.checkpoint["channel_values"].keys()
        removed = kept.parent and at._replace(id=kept.parent) not in self._known
        return self._source.history(at, deltas) if removed and deltas else {}

    def _store(self, found: _Found) -> int:
        """Store a checkpoint unless it is there, and its new writes; return how many those are."""
        place = Place.of(found.at.thread, found.at.namespace)
        shelf = Shelf(self._saver.fs, place, self._codec, self._cache)
        if found.kept is not None:
            self._put(found.at, found.kept)
            self._fold(shelf, found)
        there = {(each.task_id, each[2]) for each in shelf.writes(found.at.id)}
        new = [each for each in found.writes if (each.task_id, each.position) not in there]
        if new:
            shelf.add_writes(found.at.id, (self._packed(each) for each in new))
        return len(new)

    def _put(self, at: Address, kept: Kept) -> None:
        asked = {"thread_id": at.thread, "checkpoint_ns": at.namespace}
        parent = {"checkpoint_id": kept.parent} if kept.parent else {}
        config: RunnableConfig = {"configurable": asked | parent}
        # A value of the version that its parent has is the same one; without a version it is new.
        versions = kept.checkpoint["channel_versions"]
        unversioned: Any = dict.fromkeys(kept.checkpoint["channel_values"].keys() - versions.keys())
        self._saver.put(config, kept.checkpoint, kept.metadata, unversioned)

    def _fold(self, shelf: Shelf, found: _Found) -> None:
        record = shelf.find(found.at.id) if found.history else None
        if record is not None:
            record.folded = {name: self._codec.dump(each) for name, each in found.history.items()}
            shelf.rewrite(record)

    def _packed(self, write: KeptWrite) -> Write:
        return Write(*write[:4], self._codec.dump(write.value))
