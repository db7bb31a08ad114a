"""`FmosSaver`: LangGraph's checkpoints as files on the agent's branch.

Owns how a checkpoint is cut into files (places.py says where they are). Because they are ordinary
files of the branch, snapshot, fork, restore and merge of the agent take its threads along.
"""

from __future__ import annotations

import asyncio
import posixpath
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from agentfs import AgentFS
from fmos_langgraph.places import ROOT, Shelf, sort_key, thread_folder


class _Place(NamedTuple):
    """One stored checkpoint: its folder and its file name there."""

    shelf: Shelf
    name: str


class FmosSaver(BaseCheckpointSaver[str]):
    """A LangGraph checkpointer over an agent's branch of an agentfs volume.

    Safe to share between threads and event loops; each method of the async half runs its
    synchronous twin on a worker thread. Every `put`, `put_writes` and `delete_thread` is one
    transaction, journalled by agentfs.
    """

    def __init__(
        self, fs: AgentFS, *, serde: SerializerProtocol | None = None, owns_fs: bool = False
    ) -> None:
        """Keep checkpoints through `fs`, a handle opened with `system=True`."""
        super().__init__(serde=serde)
        self._fs = fs
        self._owns_fs = owns_fs

    @classmethod
    def from_path(
        cls, path: str | Path, branch: str = "main", *, serde: SerializerProtocol | None = None
    ) -> FmosSaver:
        """Open (or create) a volume and keep checkpoints on one of its branches."""
        return cls(AgentFS.open(path, branch=branch, system=True), serde=serde, owns_fs=True)

    @classmethod
    def from_fs(cls, fs: AgentFS, *, serde: SerializerProtocol | None = None) -> FmosSaver:
        """Keep checkpoints on the branch of an open handle, which stays the caller's to close."""
        return cls(fs.on(fs.branch, system=True), serde=serde)

    def close(self) -> None:
        """Close the volume, if this saver opened it."""
        if self._owns_fs:
            self._fs.close()

    def __enter__(self) -> FmosSaver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> FmosSaver:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, or its thread's newest one."""
        thread, namespace = _ids(config)
        shelf = Shelf.of(thread, namespace)
        if checkpoint_id := get_checkpoint_id(config):
            return self._load(_Place(shelf, posixpath.basename(shelf.checkpoint(checkpoint_id))))
        names = sorted(self._names(shelf.checkpoints), key=sort_key)
        return self._load(_Place(shelf, names[-1])) if names else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield matching checkpoints, newest first; no lock is held between two of them."""
        left = limit
        for place in self._places(config, before):
            if left is not None and left <= 0:
                return
            if found := self._load(place, filter):
                left = None if left is None else left - 1
                yield found

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; a channel's value is stored once per version of it."""
        thread, namespace = _ids(config)
        shelf = Shelf.of(thread, namespace)
        versions = checkpoint["channel_versions"]
        values = checkpoint["channel_values"]
        record = {
            "thread_id": thread,
            "checkpoint_ns": namespace,
            "parent": get_checkpoint_id(config),
            "metadata": get_checkpoint_metadata(config, metadata),
            "checkpoint": {k: v for k, v in checkpoint.items() if k != "channel_values"},
            "unversioned": {k: v for k, v in values.items() if k not in versions},
        }
        blobs = {shelf.blob(k, versions[k]): (k, v) for k, v in values.items() if k in versions}
        with self._fs.transaction():
            for path, (channel, value) in blobs.items():
                if channel in new_versions or not self._fs.exists(path):
                    self._write(path, value)
            self._write(shelf.checkpoint(checkpoint["id"]), record)
        return _config(_asked(config)["thread_id"], namespace, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote after a checkpoint; errors, interrupts and resumes replace."""
        thread, namespace = _ids(config)
        shelf = Shelf.of(thread, namespace)
        checkpoint_id = _asked(config)["checkpoint_id"]
        with self._fs.transaction():
            for position, (channel, value) in enumerate(writes):
                index = WRITES_IDX_MAP.get(channel, position)
                path = shelf.write(checkpoint_id, task_id, index)
                if index >= 0 and self._fs.exists(path):
                    continue
                self._write(path, [task_path, task_id, index, channel, value])

    def delete_thread(self, thread_id: str) -> None:
        """Remove every checkpoint, value and write of a thread from this branch."""
        folder = thread_folder(str(thread_id))
        with self._fs.transaction():
            if self._fs.exists(folder):
                self._fs.remove(folder, recursive=True)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return what `get_tuple` does, without blocking the event loop."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield what `list` does, without blocking the event loop."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (item := await asyncio.to_thread(next, found, None)) is not None:
            yield item

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what `put` does, without blocking the event loop."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do what `put_writes` does, without blocking the event loop."""
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what `delete_thread` does, without blocking the event loop."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    def get_next_version(self, current: str | int | float | None, channel: None) -> str:
        """Return a version that sorts after `current` and that no other line of time has.

        The random part keeps two runs from one checkpoint (time travel) from sharing a version,
        and with it a stored value.
        """
        number = int(str(current).split(".", 1)[0]) if current is not None else 0
        return f"{number + 1:032}.{random.random():016}"

    def _places(
        self, config: RunnableConfig | None, before: RunnableConfig | None
    ) -> Sequence[_Place]:
        """Return where the checkpoints are that `config` and `before` admit, newest first."""
        wanted = get_checkpoint_id(config) if config else None
        end = get_checkpoint_id(before) if before else None
        places = [
            _Place(shelf, name)
            for shelf in self._shelves(config)
            for name in self._names(shelf.checkpoints)
            if (wanted is None or name == posixpath.basename(shelf.checkpoint(wanted)))
            and (end is None or sort_key(name) < end)
        ]
        return sorted(places, key=lambda place: sort_key(place.name), reverse=True)

    def _shelves(self, config: RunnableConfig | None) -> Iterator[Shelf]:
        """Yield the folders that `config` admits: one, a thread's, or all."""
        asked = _asked(config) if config else {}
        thread, namespace = asked.get("thread_id"), asked.get("checkpoint_ns")
        if thread is not None and namespace is not None:
            yield Shelf.of(str(thread), namespace)
            return
        folders = (
            [f"{ROOT}/{name}" for name in self._names(ROOT)]
            if thread is None
            else [thread_folder(str(thread))]
        )
        only = None if namespace is None else Shelf.of("", namespace).path.rsplit("/", 1)[1]
        for folder in folders:
            for name in self._names(folder):
                if only is None or name == only:
                    yield Shelf(f"{folder}/{name}")

    def _load(self, place: _Place, filter: dict[str, Any] | None = None) -> CheckpointTuple | None:
        """Return a stored checkpoint, or None where it is gone or its metadata do not match."""
        record = self._read(f"{place.shelf.checkpoints}/{place.name}")
        if record is None or not _matches(record["metadata"], filter):
            return None
        checkpoint: Checkpoint = record["checkpoint"]
        values = checkpoint["channel_values"] = dict(record["unversioned"])
        for channel, version in checkpoint["channel_versions"].items():
            if (data := self._bytes(place.shelf.blob(channel, version))) is not None:
                values[channel] = self._loads(data)
        thread, namespace, parent = record["thread_id"], record["checkpoint_ns"], record["parent"]
        return CheckpointTuple(
            config=_config(thread, namespace, checkpoint["id"]),
            checkpoint=checkpoint,
            metadata=record["metadata"],
            parent_config=_config(thread, namespace, parent) if parent else None,
            pending_writes=[*self._pending(place.shelf, checkpoint["id"])],
        )

    def _pending(self, shelf: Shelf, checkpoint_id: str) -> Sequence[PendingWrite]:
        """Return the writes that wait on a checkpoint, in the order tasks are applied."""
        folder = shelf.writes(checkpoint_id)
        rows = [self._read(f"{folder}/{name}") for name in self._names(folder)]
        present = [row for row in rows if row is not None]
        present.sort(key=lambda row: writes_sort_key(*row[:3]))
        return [(task, channel, value) for _, task, _, channel, value in present]

    def _names(self, folder: str) -> Sequence[str]:
        """Return the names in a folder; one that does not exist has none."""
        try:
            return self._fs.listdir(folder)
        except FileNotFoundError:
            return []

    def _bytes(self, path: str) -> bytes | None:
        """Return a file's bytes, or None where there is no such file."""
        try:
            return self._fs.read(path)
        except FileNotFoundError:
            return None

    def _read(self, path: str) -> Any:
        """Return the value of a file, or None where there is no such file."""
        data = self._bytes(path)
        return None if data is None else self._loads(data)

    def _loads(self, data: bytes) -> Any:
        """Return the value that `_write` stored: the serializer's type name, NUL, its bytes."""
        kind, _, body = data.partition(b"\0")
        return self.serde.loads_typed((kind.decode(), body))

    def _write(self, path: str, value: Any) -> None:
        """Store a value as a file, with the folders above it."""
        kind, body = self.serde.dumps_typed(value)
        self._fs.mkdir(posixpath.dirname(path), parents=True, exist_ok=True)
        self._fs.write(path, kind.encode() + b"\0" + body)


def _asked(config: RunnableConfig) -> dict[str, Any]:
    """Return what a config says about threads and checkpoints."""
    return config.get("configurable", {})


def _ids(config: RunnableConfig) -> tuple[str, str]:
    """Return the thread and namespace that a config names."""
    asked = _asked(config)
    return str(asked["thread_id"]), asked.get("checkpoint_ns", "")


def _config(thread: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    """Return the config that names one checkpoint."""
    return {
        "configurable": {
            "thread_id": thread,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


def _matches(metadata: CheckpointMetadata, filter: dict[str, Any] | None) -> bool:
    """Return whether metadata have every asked value."""
    return all(metadata.get(key) == value for key, value in (filter or {}).items())
