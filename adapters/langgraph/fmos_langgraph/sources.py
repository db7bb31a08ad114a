"""Where checkpoints are imported from: a database of SqliteSaver or PostgresSaver, or any saver.

A source only reads. What LangGraph's serializer made of custom classes stays as it is (see
`Passing`), so that neither these classes nor an allow-list for them are needed here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from fmos.errors import ArgumentError, FormatError, MissingExtraError, NotFoundError

if TYPE_CHECKING:
    from langgraph.checkpoint.postgres import PostgresSaver

_SQLITE, _POSTGRES = "langgraph.checkpoint.sqlite", "langgraph.checkpoint.postgres"
_URLS = ("postgres://", "postgresql://")


class Address(NamedTuple):
    """Which checkpoint."""

    thread: str
    namespace: str
    id: str

    def config(self) -> RunnableConfig:
        """Return the config that names the checkpoint."""
        names = {"checkpoint_ns": self.namespace, "checkpoint_id": self.id}
        return {"configurable": {"thread_id": self.thread, **names}}


class Kept(NamedTuple):
    """What a source has for a checkpoint."""

    parent: str | None
    checkpoint: Checkpoint
    metadata: CheckpointMetadata


class KeptWrite(NamedTuple):
    """A waiting write; the position of an error, interrupt or resume is negative."""

    task_path: str
    task_id: str
    position: int
    channel: str
    value: Any


class Source(Protocol):
    """What the import asks of a store of checkpoints."""

    def addresses(self) -> Sequence[Address]:
        """Return all checkpoints, thread by thread, oldest first."""
        ...

    def checkpoint(self, at: Address) -> Kept | None:
        """Return a checkpoint, or None when it was removed meanwhile."""
        ...

    def writes(self, at: Address) -> Sequence[KeptWrite]:
        """Return the writes that wait on a checkpoint."""
        ...

    def history(
        self, at: Address, channels: Collection[str]
    ) -> Mapping[str, DeltaChannelHistory]:  # fmt: skip
        """Return what is known of delta channels of a checkpoint without a parent."""
        ...


class Passing(JsonPlusSerializer):
    """Reads what LangGraph's serializer wrote, but leaves objects of classes as packed bytes.

    Packed again they are what they were. Anything else is read as `serde` reads it.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        """Take the serializer of the saver that the values go to."""
        super().__init__()
        encrypted = isinstance(serde, EncryptedSerializer)
        self._plain: SerializerProtocol = serde.serde if encrypted else serde
        self._cipher = serde.cipher if encrypted else None

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return a value with its objects still packed.

        Raises:
            ArgumentError: it is encrypted, and `serde` does not decrypt.
        """
        kind, body = data
        if "+" in kind:
            kind, body = self._decrypted(kind, body)
        if kind == "msgpack" and isinstance(self._plain, JsonPlusSerializer):
            return ormsgpack.unpackb(
                body, ext_hook=_still_packed, option=ormsgpack.OPT_NON_STR_KEYS
            )
        return self._plain.loads_typed((kind, body))

    def _decrypted(self, kind: str, body: bytes) -> tuple[str, bytes]:
        if self._cipher is None:
            raise ArgumentError(
                "the source is encrypted",
                hint="call import_checkpoints with a FmosSaver whose serde is the"
                " EncryptedSerializer that wrote it",
            )
        kind, _, cipher = kind.partition("+")
        return kind, self._cipher.decrypt(cipher, body)


def _still_packed(code: int, data: bytes) -> Any:
    return ormsgpack.Ext(code, bytes(data))


# -- SQLite ---------------------------------------------------------------------------------


class SqliteSource:
    """The tables of a SqliteSaver or AsyncSqliteSaver, of any age since task_path or before."""

    _ADDRESSES = (
        "SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints"
        " ORDER BY thread_id, checkpoint_id, checkpoint_ns"
    )
    _AT = "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
    _CHECKPOINT = f"SELECT parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints {_AT}"
    _WRITES = f"SELECT {{path}}, task_id, idx, channel, type, value FROM writes {_AT}"

    def __init__(self, connection: sqlite3.Connection, serde: SerializerProtocol) -> None:
        """Take a connection, which stays the caller's to close, and what reads the values."""
        self._connection = connection
        self._serde = serde
        columns = [row[1] for row in connection.execute("PRAGMA table_info(writes)")]
        self._writes = self._WRITES.format(path="task_path" if "task_path" in columns else "''")

    def addresses(self) -> Sequence[Address]:
        """Return all checkpoints, thread by thread, oldest first."""
        return [Address(*row) for row in self._connection.execute(self._ADDRESSES)]

    def checkpoint(self, at: Address) -> Kept | None:
        """Return a checkpoint, or None when it was removed meanwhile."""
        row = self._connection.execute(self._CHECKPOINT, at).fetchone()
        if row is None:
            return None
        parent, kind, data, metadata = row
        known: Any = json.loads(metadata) if metadata is not None else {}
        return Kept(parent or None, self._serde.loads_typed((kind, data)), known)

    def writes(self, at: Address) -> Sequence[KeptWrite]:
        """Return the writes that wait on a checkpoint."""
        return [
            KeptWrite(path, task, position, channel, self._serde.loads_typed((kind, data)))
            for path, task, position, channel, kind, data in self._connection.execute(
                self._writes, at
            )
        ]

    def history(self, at: Address, channels: Collection[str]) -> Mapping[str, DeltaChannelHistory]:
        """Return nothing: these tables lose what a removed parent knew."""
        return {}


def require_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a database file.

    Raises:
        NotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise NotFoundError(f"there is no database file {str(path)!r}")
    return Path(path)


def is_url(source: str | os.PathLike[str]) -> bool:
    """Return whether a source is the address of a Postgres database."""
    return str(source).startswith(_URLS)


@contextmanager
def _sqlite_file(path: str | os.PathLike[str], serde: SerializerProtocol) -> Iterator[Source]:
    file = require_file(path)
    uri = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        try:
            yield SqliteSource(connection, Passing(serde))
        except sqlite3.DatabaseError as error:
            raise FormatError(
                f"{str(file)!r} cannot be read as the database of a SqliteSaver: {error}"
            ) from error


# -- Postgres -------------------------------------------------------------------------------


class PostgresSource:
    """The tables of a PostgresSaver or AsyncPostgresSaver."""

    _ADDRESSES = (
        "SELECT thread_id, checkpoint_ns, checkpoint_id FROM checkpoints"
        ' ORDER BY thread_id COLLATE "C", checkpoint_id COLLATE "C", checkpoint_ns COLLATE "C"'
    )
    _WRITES = (
        "SELECT task_path, task_id, idx, channel, type, blob FROM checkpoint_writes"
        " WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s"
    )

    def __init__(self, saver: PostgresSaver) -> None:
        """Read through a saver, whose serializer reads the values."""
        self._saver = saver

    def addresses(self) -> Sequence[Address]:
        """Return all checkpoints, thread by thread, oldest first."""
        return [Address(*row.values()) for row in self._rows(self._ADDRESSES)]

    def checkpoint(self, at: Address) -> Kept | None:
        """Return a checkpoint, or None when it was removed meanwhile."""
        return _kept(self._saver.get_tuple(at.config()))

    def writes(self, at: Address) -> Sequence[KeptWrite]:
        """Return the writes that wait on a checkpoint."""
        load = self._saver.serde.loads_typed
        rows = [tuple(row.values()) for row in self._rows(self._WRITES, at)]
        return [
            KeptWrite(path, task, position, channel, load((kind, bytes(data))))
            for path, task, position, channel, kind, data in rows
        ]

    def history(self, at: Address, channels: Collection[str]) -> Mapping[str, DeltaChannelHistory]:
        """Return nothing: these tables lose what a removed parent knew."""
        return {}

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> Sequence[dict[str, Any]]:
        # Its own connections come from here, be there one or a pool.
        with self._saver._cursor() as cursor:
            return cursor.execute(statement.encode(), values).fetchall()


@contextmanager
def _postgres_url(url: str, serde: SerializerProtocol) -> Iterator[Source]:
    try:
        import psycopg  # noqa: PLC0415 - optional
        from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingExtraError(
            "reading from Postgres needs two packages",
            hint="run `pip install langgraph-checkpoint-postgres 'psycopg[binary]'`",
        ) from error
    try:
        with PostgresSaver.from_conn_string(url) as saver:
            saver.serde = Passing(serde)
            yield PostgresSource(saver)
    except psycopg.errors.UndefinedColumn as error:
        raise FormatError(
            f"the tables are of an older PostgresSaver ({error})", hint="call its setup() once"
        ) from error
    except psycopg.Error as error:
        raise FormatError(f"the Postgres database cannot be read: {error}") from error


# -- any saver ------------------------------------------------------------------------------


class SaverSource:
    """Any checkpointer, read through what every one offers.

    That is less than a database tells: the paths of tasks are not known, only their order is.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        """Take a saver with synchronous methods."""
        self._saver = saver

    def addresses(self) -> Sequence[Address]:
        """Return all checkpoints, thread by thread, oldest first."""
        found = [_address(each.config) for each in self._saver.list(None)]
        return sorted(found, key=lambda at: (at.thread, at.id, at.namespace))

    def checkpoint(self, at: Address) -> Kept | None:
        """Return a checkpoint, or None when it was removed meanwhile."""
        return _kept(self._saver.get_tuple(at.config()))

    def writes(self, at: Address) -> Sequence[KeptWrite]:
        """Return the writes that wait on a checkpoint, with paths that keep their order."""
        found = self._saver.get_tuple(at.config())
        pending = (found.pending_writes if found else None) or []
        tasks = list(dict.fromkeys(task for task, _, _ in pending))
        paths = dict.fromkeys(tasks, "")
        if tasks != sorted(tasks):
            paths = {task: f"{number:06}" for number, task in enumerate(tasks)}
        counts = dict.fromkeys(tasks, -1)
        writes: list[KeptWrite] = []
        for task, channel, value in pending:
            counts[task] += channel not in WRITES_IDX_MAP
            index = WRITES_IDX_MAP.get(channel, counts[task])
            writes.append(KeptWrite(paths[task], task, index, channel, value))
        return writes

    def history(self, at: Address, channels: Collection[str]) -> Mapping[str, DeltaChannelHistory]:
        """Return what is known of delta channels of a checkpoint without a parent."""
        return self._saver.get_delta_channel_history(config=at.config(), channels=list(channels))


def _address(config: RunnableConfig) -> Address:
    asked = config.get("configurable", {})
    return Address(str(asked["thread_id"]), asked.get("checkpoint_ns", ""), asked["checkpoint_id"])


def _kept(found: CheckpointTuple | None) -> Kept | None:
    if found is None:
        return None
    parent = _address(found.parent_config).id if found.parent_config else None
    return Kept(parent, found.checkpoint, found.metadata)


@contextmanager
def open_source(
    source: str | os.PathLike[str] | BaseCheckpointSaver[Any], serde: SerializerProtocol
) -> Iterator[Source]:
    """Open a database file, a `postgresql://` address or a saver; values are read for `serde`.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is not what it should be, or cannot be reached.
        MissingExtraError: Postgres needs packages that are not installed.
    """
    if isinstance(source, BaseCheckpointSaver):
        yield _of_saver(source)
        return
    opened = _postgres_url if is_url(source) else _sqlite_file
    with opened(str(source), serde) as found:
        yield found


def _of_saver(saver: Any) -> Source:
    """Return the source that tells most; an object's class is imported already."""
    if (sqlite := sys.modules.get(_SQLITE)) and isinstance(saver, sqlite.SqliteSaver):
        saver.setup()
        return SqliteSource(saver.conn, saver.serde)
    if (postgres := sys.modules.get(_POSTGRES)) and isinstance(saver, postgres.PostgresSaver):
        return PostgresSource(saver)
    return SaverSource(saver)
