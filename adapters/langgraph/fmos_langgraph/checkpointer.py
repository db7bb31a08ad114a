"""`FmosSaver`: LangGraph's checkpoints as files on the agent's branch.

Owns how LangGraph's calls become work on shelves (shelf.py: the files of one thread and namespace;
places.py: where they are; codec.py: their bytes; deltas.py: channels kept as deltas). Because they
are ordinary files of the branch, snapshot, fork, restore and merge of the agent take its threads
along.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from agentfs import AgentFS
from fmos_langgraph import deltas
from fmos_langgraph.asynchronous import AsyncMethods
from fmos_langgraph.codec import Codec
from fmos_langgraph.opening import OnBranch, open_home, open_path, share
from fmos_langgraph.places import ID_FILE, ROOT, Place, file_name, thread_folder, to_identifier
from fmos_langgraph.retention import Retention
from fmos_langgraph.shelf import ByteCache, Record, Shelf
from fmos_langgraph.tuples import StoredTuple

_STRATEGIES = ("keep_latest", "delete")


class FmosSaver(OnBranch, AsyncMethods):
    """A LangGraph checkpointer over a branch of an agentfs volume.

    Safe to share between threads and event loops, and between processes that open the same file.
    Each method that changes something is one transaction, journalled by agentfs.
    """

    def __init__(
        self, fs: AgentFS, *, serde: SerializerProtocol | None = None,
        retention: Retention | None = None, owns_fs: bool = False,
    ) -> None:  # fmt: skip
        """Keep checkpoints through `fs`, a handle opened with `system=True`.

        Without `retention` all stays until `prune`, `keep_last`, `expire` or `delete_thread`.
        """
        super().__init__(serde=serde)
        self._fs = fs
        self._owns_fs = owns_fs
        self._retention = retention
        self._cache = ByteCache()

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], branch: str | None = None, *,
        serde: SerializerProtocol | None = None, retention: Retention | None = None, **options: Any,
    ) -> FmosSaver:  # fmt: skip
        """Open a volume, made when it is missing, and keep checkpoints on one of its branches.

        `options` are those of `AgentFS.open`, as `durability="full"`.
        """
        fs = open_path(path, branch, options)
        return cls(fs, serde=serde, retention=retention, owns_fs=True)

    @classmethod
    def from_home(
        cls, home: str | os.PathLike[str] | None = None, *,
        serde: SerializerProtocol | None = None, retention: Retention | None = None,
    ) -> FmosSaver:  # fmt: skip
        """Keep checkpoints in `langgraph.afs` of the FMOS home (`$FMOS_HOME`, else `~/.fmos`)."""
        return cls(open_home(home), serde=serde, retention=retention, owns_fs=True)

    @classmethod
    def from_fs(
        cls, fs: AgentFS, *, serde: SerializerProtocol | None = None,
        retention: Retention | None = None,
    ) -> FmosSaver:  # fmt: skip
        """Keep checkpoints on the branch of an open handle, which stays the caller's to close."""
        return cls(share(fs), serde=serde, retention=retention)

    # -- reading ----------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, or its thread's newest one."""
        thread, namespace = _ids(config)
        shelf = self._shelf(Place.of(thread, namespace))
        with self._fs.reading():
            record = _record(shelf, config)
            found = None if record is None else self._stored(thread, shelf, record)
        return None if found is None else found.whole()

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield matching checkpoints, newest first; no lock is held between two of them.

        The values of each become objects when its `checkpoint` is first looked at.
        """
        # A generator, as other savers' lists are: callers may close it early.
        yield from islice(self._matching(config, filter, before, limit), limit)

    def _matching(
        self, config: RunnableConfig | None, filter: dict[str, Any] | None,
        before: RunnableConfig | None, limit: int | None,
    ) -> Iterator[CheckpointTuple]:  # fmt: skip
        lines = [
            _line(_names(shelf, config, before, None if filter else limit), thread, shelf)
            for thread, shelf in self._shelves(config)
        ]
        for name, thread, shelf in merge(*lines, key=lambda each: each[0], reverse=True):
            with self._fs.reading():
                record = shelf.record(name)
                if record is None or not _matches(record.metadata, filter):
                    continue
                found = self._stored(thread, shelf, record)
            yield found

    def _stored(self, thread: str, shelf: Shelf, record: Record) -> StoredTuple:
        """Return a checkpoint of which all bytes are read."""
        values = {channel: shelf.value_bytes(record, channel) for channel in record.values}
        writes = shelf.writes(record.id)
        config = _config(thread, record.namespace, record.id)
        parent = _config(thread, record.namespace, record.parent) if record.parent else None
        codec = self._codec

        def load() -> CheckpointTuple:
            values_now = {channel: codec.load(data) for channel, data in values.items()}
            pending = [(each.task_id, each.channel, codec.load(each.data)) for each in writes]
            checkpoint: Any = record.checkpoint | {"channel_values": values_now}
            return CheckpointTuple(config, checkpoint, record.metadata, parent, pending)

        return StoredTuple(config, record.metadata, parent, load)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the writes to each channel before a checkpoint, and the value they start from.

        Reads only these channels of the parents, and what pruning left of those that are gone.
        """
        shelf = self._shelf(Place.of(*_ids(config)))
        with self._fs.reading():
            record = _record(shelf, config)
            if record is None:
                return {channel: {"writes": []} for channel in channels}
            return deltas.Line(shelf, self._codec, channels).walk(record)

    # -- writing ----------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; a large value is stored once per version of it."""
        thread, namespace = _ids(config)
        kept: dict[str, Any] = {k: v for k, v in checkpoint.items() if k != "channel_values"}
        values = checkpoint["channel_values"]
        known = get_checkpoint_metadata(config, metadata)
        record = Record(namespace, get_checkpoint_id(config), known, kept)
        changed = {name: self._codec.dump(values[name]) for name in new_versions if name in values}
        with self._fs.transaction():
            self._shelf(Place.of(thread, namespace)).write(record, values, changed)
            self._name_thread(thread)
        if self._retention is not None:
            self._retention.after_put(self, thread)
        return _config(_asked(config)["thread_id"], namespace, checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote after a checkpoint; errors, interrupts and resumes replace."""
        shelf = self._shelf(Place.of(*_ids(config)))
        waiting = [
            shelf.to_write(channel, value, (task_path, task_id), position)
            for position, (channel, value) in enumerate(writes)
        ]
        shelf.add_writes(_asked(config)["checkpoint_id"], waiting)

    def get_next_version(self, current: int | str | None, channel: None) -> int | str:
        """Return the version after `current`; text, as other savers have it, stays text."""
        if isinstance(current, str):
            return f"{int(current.split('.', 1)[0]) + 1:032}.{random.random():016}"
        return (current or 0) + 1

    # -- removing and copying ---------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Remove every checkpoint, value and write of a thread from this branch."""
        folder = thread_folder(str(thread_id))
        with self._fs.transaction():
            if self._fs.exists(folder):
                self._fs.remove(folder, recursive=True)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of some runs in all threads, with their values and writes.

        What stays keeps the state of channels that are kept as deltas.
        """
        runs = {str(each) for each in run_ids}
        if not runs:
            return
        with self._fs.transaction():
            for _, shelf in self._shelves(None):
                self._remove(shelf, lambda record: str(record.metadata.get("run_id")) in runs)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only the newest checkpoint of each namespace of some threads, or none.

        What stays keeps the state of channels that are kept as deltas.

        Raises:
            ValueError: the strategy is neither "keep_latest" nor "delete".
        """
        if strategy not in _STRATEGIES:
            raise ValueError(f"strategy is one of {', '.join(_STRATEGIES)}, not {strategy!r}")
        for thread in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread)
            else:
                self.keep_last(thread, 1)

    def keep_last(self, thread_id: str, count: int) -> int:
        """Keep only the newest checkpoints of each namespace of a thread; return how many went."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        gone = 0
        with self._fs.transaction():
            for _, shelf in self._shelves(config):
                newest = set(shelf.names(limit=count))
                gone += self._remove(
                    shelf, lambda each, stay=newest: file_name(each.id) not in stay
                )
        return gone

    def _remove(self, shelf: Shelf, unwanted: Callable[[Record], bool]) -> int:
        """Remove checkpoints of a shelf, and return how many."""
        records = [record for name in shelf.names() if (record := shelf.record(name))]
        gone = {record.id for record in records if unwanted(record)}
        for record in records if gone else ():
            if record.id not in gone and record.parent in gone:
                deltas.fold(shelf, self._codec, record)
        if gone:
            shelf.remove(file_name(each) for each in gone)
        return len(gone)

    def expire(self, age: timedelta) -> Sequence[str]:
        """Remove the threads whose last checkpoint is older than `age`; return their ids."""
        oldest = datetime.now(UTC) - age
        gone: list[str] = []
        with self._fs.transaction():
            for thread in self.threads():
                config: RunnableConfig = {"configurable": {"thread_id": thread}}
                newest = max((shelf.newest_ns() for _, shelf in self._shelves(config)), default=0)
                if newest < oldest.timestamp() * 1e9:
                    self.delete_thread(thread)
                    gone.append(thread)
        return gone

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, with all its checkpoints, values and writes, by sharing them.

        Into a thread that exists, what it does not have yet is copied.
        """
        source = thread_folder(str(source_thread_id))
        target = thread_folder(str(target_thread_id))
        with self._fs.transaction():
            if source == target or not self._fs.exists(source):
                return
            self._copy_missing(source, target)
            if self._fs.exists(f"{target}/{ID_FILE}"):
                self._fs.remove(f"{target}/{ID_FILE}")
            self._name_thread(str(target_thread_id))

    def _copy_missing(self, source: str, target: str) -> None:
        if not self._fs.exists(target):
            self._fs.copy(source, target)
            return
        if self._fs.is_dir(target):
            for name in self._fs.listdir(source):
                self._copy_missing(f"{source}/{name}", f"{target}/{name}")

    # -- threads ----------------------------------------------------------------------------

    def threads(self) -> Sequence[str]:
        """Return the ids of all threads, sorted."""
        try:
            names = self._fs.listdir(ROOT)
        except FileNotFoundError:
            return []
        return sorted(self._thread_id(name) for name in names)

    def _thread_id(self, name: str) -> str:
        known = to_identifier(name)
        return self._fs.read_text(f"{ROOT}/{name}/{ID_FILE}") if known is None else known

    def _name_thread(self, thread: str) -> None:
        """Write down an id that its folder's name does not tell."""
        path = f"{thread_folder(thread)}/{ID_FILE}"
        if to_identifier(file_name(thread)) is None and not self._fs.exists(path):
            self._fs.write(path, thread)

    def _shelves(self, config: RunnableConfig | None) -> Iterator[tuple[str, Shelf]]:
        """Yield thread ids and shelves that `config` admits: one, a thread's, or all."""
        asked = _asked(config) if config else {}
        thread, namespace = asked.get("thread_id"), asked.get("checkpoint_ns")
        for each in self.threads() if thread is None else [str(thread)]:
            folder = thread_folder(each)
            if namespace is not None:
                names = [file_name(namespace)]
            else:
                names = self._fs.listdir(folder) if self._fs.exists(folder) else []
            for name in names:
                if name != ID_FILE:
                    yield each, self._shelf(Place(f"{folder}/{name}"))

    def _shelf(self, place: Place) -> Shelf:
        return Shelf(self._fs, place, self._codec, self._cache)

    @property
    def _codec(self) -> Codec:
        # Not kept: `with_allowlist` copies a saver and changes its serializer.
        return Codec(self.serde)


def _record(shelf: Shelf, config: RunnableConfig) -> Record | None:
    """Return the checkpoint that a config names, or the newest one."""
    names = _names(shelf, config, None, 1)
    return shelf.record(names[0]) if names else None


def _names(
    shelf: Shelf, config: RunnableConfig | None, before: RunnableConfig | None, limit: int | None
) -> Sequence[str]:
    """Return the file names that two configs admit, newest first; a named one may not be there."""
    wanted = get_checkpoint_id(config) if config else None
    end = get_checkpoint_id(before) if before else None
    if not wanted:
        return shelf.names(end, limit)
    name = file_name(wanted)
    return [name] if end is None or name < file_name(end) else []


def _line(names: Sequence[str], thread: str, shelf: Shelf) -> Iterator[tuple[str, str, Shelf]]:
    return ((name, thread, shelf) for name in names)


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
