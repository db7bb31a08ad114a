"""One namespace of one thread in the volume: its checkpoints, channel values and waiting writes.

A checkpoint's file holds small values itself. A large value is a file that is written once, when
it changed, and that later checkpoints name. Waiting writes are appended to one file for each
checkpoint. Where parents were pruned, a checkpoint holds what they would have told about the
channels that are kept as deltas ("folded").
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    CheckpointMetadata,
    writes_sort_key,
)

from agentfs import AgentFS
from fmos_langgraph.codec import Codec
from fmos_langgraph.places import Place, file_name, value_name

# A value of at most so many bytes is part of the checkpoint's own file.
_INLINE_BYTES = 512
_CACHED_BYTES = 32 * 2**20
_FRAME = struct.Struct(">I")


class Write(NamedTuple):
    """One waiting write, its value still as bytes."""

    task_path: str
    task_id: str
    position: int
    channel: str
    data: bytes


@dataclass(slots=True)
class Record:
    """What a checkpoint's file says.

    `checkpoint` is without its values; `values` has the bytes of small ones and the file names of
    large ones; `folded` has bytes of `(writes, seed or nothing)` for each channel.
    """

    namespace: str
    parent: str | None
    metadata: CheckpointMetadata
    checkpoint: dict[str, Any]
    values: dict[str, bytes | str] = field(default_factory=dict)
    folded: dict[str, bytes] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The checkpoint's id."""
        return self.checkpoint["id"]

    def version(self, channel: str) -> str | int | float | None:
        """Return the version that a channel had."""
        return self.checkpoint["channel_versions"].get(channel)


class ByteCache:
    """The bytes of file versions, which never change, by node; safe between threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._found: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, node: int) -> bytes | None:
        """Return the bytes of a version, if they are still here."""
        with self._lock:
            data = self._found.get(node)
            if data is not None:
                self._found.move_to_end(node)
            return data

    def keep(self, node: int, data: bytes) -> None:
        """Keep the bytes of a version, and let go of those used longest ago."""
        with self._lock:
            self._size += len(data) - len(self._found.pop(node, b""))
            self._found[node] = data
            while self._size > _CACHED_BYTES:
                self._size -= len(self._found.popitem(last=False)[1])


class Shelf:
    """The files of one thread and namespace, read and written in the caller's transaction."""

    def __init__(self, fs: AgentFS, place: Place, codec: Codec, cache: ByteCache) -> None:
        """Take a handle with access to the system area."""
        self._fs = fs
        self._place = place
        self._codec = codec
        self._cache = cache

    def newest_ns(self) -> int:
        """Return when the last checkpoint was written, in nanoseconds; 0 where there is none."""
        names = self.names(limit=1)
        return self._fs.stat(f"{self._place.checkpoints}/{names[0]}").mtime_ns if names else 0

    # -- checkpoints ------------------------------------------------------------------------

    def names(self, before: str | None = None, limit: int | None = None) -> list[str]:
        """Return the file names of checkpoints, newest first; `before` is a checkpoint id."""
        stop = None if before is None else file_name(before)
        try:
            return self._fs.last_names(self._place.checkpoints, limit, before=stop)
        except FileNotFoundError:
            return []

    def record(self, name: str) -> Record | None:
        """Return what the file of a checkpoint says, or None where there is none."""
        data = self._bytes(f"{self._place.checkpoints}/{name}")
        if data is None:
            return None
        namespace, parent, told, values, folded = self._codec.load(data)
        metadata, checkpoint = self._codec.load(told)
        return Record(namespace, parent, metadata, checkpoint, values, folded)

    def find(self, checkpoint_id: str) -> Record | None:
        """Return what the file of the checkpoint with this id says."""
        return self.record(file_name(checkpoint_id))

    def write(
        self, record: Record, values: Mapping[str, Any], changed: Mapping[str, bytes]
    ) -> None:
        """Write a checkpoint, and those of its large values that its parent does not have.

        `changed` has the bytes of the values that are new since the parent.
        """
        parent = self.find(record.parent) if record.parent else None
        for channel, value in values.items():
            before = parent.values.get(channel) if parent else None
            same = parent is not None and parent.version(channel) == record.version(channel)
            if before is not None and same and channel not in changed:
                record.values[channel] = before
                continue
            data = changed[channel] if channel in changed else self._codec.dump(value)
            if len(data) <= _INLINE_BYTES:
                record.values[channel] = data
            else:
                name = record.values[channel] = value_name(channel, record.id)
                self._store(name, data, before)
        self.rewrite(record)

    def rewrite(self, record: Record) -> None:
        """Write the file of a checkpoint."""
        told = self._codec.dump((record.metadata, record.checkpoint), pack=False)
        data = self._codec.dump_fields(
            record.namespace, record.parent, told, record.values, record.folded
        )
        self._save(self._place.checkpoint(record.id), self._codec.encrypt(data))

    def remove(self, names: Iterable[str]) -> None:
        """Remove checkpoints with their waiting writes, and the values that none names then."""
        for name in names:
            for folder in (self._place.checkpoints, self._place.pending):
                if self._fs.exists(f"{folder}/{name}"):
                    self._fs.remove(f"{folder}/{name}")
        if not self._fs.exists(self._place.values):
            return
        left = (self.record(name) for name in self.names())
        named = {value for record in left if record for value in record.values.values()}
        for name in self._fs.listdir(self._place.values):
            if name not in named:
                self._fs.remove(self._place.value(name))

    # -- values -----------------------------------------------------------------------------

    def value(self, record: Record, channel: str) -> Any:
        """Return what a checkpoint has for a channel, a new object each time."""
        return self._codec.load(self.value_bytes(record, channel))

    def value_bytes(self, record: Record, channel: str) -> bytes:
        """Return the bytes of what a checkpoint has for a channel.

        Raises:
            FileNotFoundError: the checkpoint was removed since it was read.
        """
        stored = record.values[channel]
        if isinstance(stored, bytes):
            return stored
        path = self._place.value(stored)
        data = self._bytes(path)
        if data is None:
            raise FileNotFoundError(path)
        return data

    def _store(self, name: str, data: bytes, before: bytes | str | None) -> None:
        """Write a large value; where values are encrypted, with the pieces the last one had."""
        last = None
        if self._codec.encrypts and isinstance(before, str):
            last = self._fs.read(self._place.value(before))
        self._save(self._place.value(name), self._codec.encrypt(data, last))

    # -- waiting writes ---------------------------------------------------------------------

    def add_writes(self, checkpoint_id: str, writes: Iterable[Write]) -> None:
        """Append waiting writes of a checkpoint; `writes` says which of them count."""
        frames: list[bytes] = []
        for write in writes:
            frame = self._codec.encrypt(self._codec.dump_fields(*write))
            frames += (_FRAME.pack(len(frame)), frame)
        path = self._place.writes(checkpoint_id)
        self._in_folder(self._fs.append, path, b"".join(frames))

    def writes(self, checkpoint_id: str) -> list[Write]:
        """Return the waiting writes of a checkpoint in the order in which tasks are applied.

        Of writes of one task at one position the first counts, and of errors, interrupts and
        resumes the last.
        """
        data = self._bytes(self._place.writes(checkpoint_id)) or b""
        found: dict[tuple[str, int], Write] = {}
        start = 0
        while start < len(data):
            (length,) = _FRAME.unpack_from(data, start)
            start += _FRAME.size + length
            write = Write(*self._codec.load(self._codec.decrypt(data[start - length : start])))
            key = (write.task_id, write.position)
            if write.position < 0 or key not in found:
                found[key] = write
        return sorted(found.values(), key=lambda write: writes_sort_key(*write[:3]))

    def to_write(self, channel: str, value: Any, task: tuple[str, str], position: int) -> Write:
        """Return a waiting write; `task` is its path and id."""
        place = WRITES_IDX_MAP.get(channel, position)
        return Write(*task, place, channel, self._codec.dump(value))

    # -- files ------------------------------------------------------------------------------

    def _bytes(self, path: str) -> bytes | None:
        """Return the bytes of a file, not encrypted, or None where there is no such file."""
        try:
            node = self._fs.stat(path).node
        except FileNotFoundError:
            return None
        data = self._cache.get(node)
        if data is None:
            data = self._codec.decrypt(self._fs.read(path))
            self._cache.keep(node, data)
        return data

    def _save(self, path: str, data: bytes) -> None:
        self._in_folder(self._fs.write, path, data)

    def _in_folder(self, write: Any, path: str, data: bytes) -> None:
        """Write to a file, with the folders above it when they are not there yet."""
        try:
            write(path, data)
        except FileNotFoundError:
            self._fs.mkdir(path.rsplit("/", 1)[0], parents=True, exist_ok=True)
            write(path, data)
