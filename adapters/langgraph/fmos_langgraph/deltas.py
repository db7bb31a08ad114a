"""Channels that LangGraph keeps as deltas: their history, and what pruning must leave of it.

Such a channel has no value in most checkpoints. Its state is the nearest value further up the
line of parents (the seed) and all writes since; so a parent may only go when those checkpoints
that stay hold what it would have told.
"""

from __future__ import annotations

from collections.abc import Collection

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from fmos_langgraph.codec import Codec
from fmos_langgraph.shelf import Record, Shelf

# LangGraph's metadata say which channels are deltas that have changed since their last value.
_COUNTERS = "counters_since_delta_snapshot"


class Line:
    """The line of parents of a checkpoint, walked up once for several channels."""

    def __init__(self, shelf: Shelf, codec: Codec, channels: Collection[str]) -> None:
        """Take the channels whose history is wanted."""
        self._shelf = shelf
        self._codec = codec
        self._left = set(channels)
        self._newest_first: dict[str, list[PendingWrite]] = {name: [] for name in channels}
        self._seeds: dict[str, object] = {}

    def walk(self, start: Record) -> dict[str, DeltaChannelHistory]:
        """Return for each channel the writes before a checkpoint, oldest first, and the seed."""
        record: Record | None = start
        while record is not None and self._left:
            for channel in self._left & record.folded.keys():
                self._take_folded(record, channel)
            record = self._shelf.find(record.parent) if self._left and record.parent else None
            if record is not None:
                self._take(record)
        return {name: self._history(name) for name in self._newest_first}

    def _take(self, record: Record) -> None:
        """Take the writes that wait on a parent, and its values."""
        for write in reversed(self._shelf.writes(record.id)):
            if write.channel in self._left:
                value = self._codec.load(write.data)
                self._newest_first[write.channel].append((write.task_id, write.channel, value))
        for channel in self._left & record.values.keys():
            self._seeds[channel] = self._shelf.value(record, channel)
            self._left.discard(channel)

    def _take_folded(self, record: Record, channel: str) -> None:
        """Take what the pruned parents of a checkpoint would have told."""
        history: DeltaChannelHistory = self._codec.load(record.folded[channel])
        writes = [(task, channel, value) for task, channel, value in history["writes"]]
        self._newest_first[channel] += reversed(writes)
        if "seed" in history:
            self._seeds[channel] = history["seed"]
        self._left.discard(channel)

    def _history(self, channel: str) -> DeltaChannelHistory:
        found: DeltaChannelHistory = {"writes": self._newest_first[channel][::-1]}
        if channel in self._seeds:
            found["seed"] = self._seeds[channel]
        return found


def fold(shelf: Shelf, codec: Codec, record: Record) -> None:
    """Let a checkpoint hold what its parents tell about deltas, so that they can go."""
    deltas = record.metadata.get(_COUNTERS, {}).keys() - record.values.keys()
    if not deltas - record.folded.keys():
        return
    for channel, history in Line(shelf, codec, deltas).walk(record).items():
        record.folded[channel] = codec.dump(history)
    shelf.rewrite(record)
