"""Import of checkpoints from SqliteSaver, PostgresSaver and any other saver."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph.checkpoint.sqlite", reason="extra `dev`")

from langchain_core.messages import AnyMessage
from langgraph.channels import delta
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt
from tests.adapters import postgres_server
from typer.testing import CliRunner

from fmos.errors import ArgumentError, FormatError, NotFoundError
from fmos_langgraph import FmosSaver, Imported, import_checkpoints
from fmos_langgraph.__main__ import app
from fmos_langgraph.codec import Codec
from fmos_langgraph.places import Place
from fmos_langgraph.shelf import ByteCache, Shelf

THREADS = ("first", "second/with a slash")


def extend(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    """Add what was written, in the order of the writes."""
    return [*state, *(each for write in writes for each in write)]


class Work(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], delta.DeltaChannel(extend, snapshot_frequency=4)]


class Part(TypedDict):
    log: Annotated[list[str], delta.DeltaChannel(extend, snapshot_frequency=4)]


def graph_with(saver: BaseCheckpointSaver[Any]) -> Any:
    """Return a graph with a subgraph, a delta channel, and a question at every second message."""

    def answer(state: Work) -> dict[str, Any]:
        said = len(state["messages"])
        if said % 4 == 3:
            return {"messages": [("ai", f"{said}: {interrupt('sure?')}")]}
        return {"messages": [("ai", str(said))], "log": [f"answered {said}"]}

    part = StateGraph(Part)
    part.add_node("note", lambda state: {"log": ["noted"]})
    part.add_edge(START, "note")
    graph = StateGraph(Work)
    graph.add_node("answer", answer)
    graph.add_node("b_part", part.compile(checkpointer=True))
    graph.add_node("a_side", lambda state: {"log": ["aside"]})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", "b_part")
    graph.add_edge("answer", "a_side")
    graph.add_edge("b_part", END)
    return graph.compile(checkpointer=saver)


def thread(name: str) -> Any:
    """Return the config that names a thread."""
    return {"configurable": {"thread_id": name}}


def root(name: str) -> Any:
    """Return the config that names a thread's root graph."""
    return {"configurable": {"thread_id": name, "checkpoint_ns": ""}}


def work(saver: BaseCheckpointSaver[Any]) -> None:
    """Run two threads; each ends with an open question."""
    graph = graph_with(saver)
    for name in THREADS:
        graph.invoke({"messages": [("user", "hi")]}, thread(name))
        graph.invoke({"messages": [("user", "remove it")]}, thread(name))
        graph.invoke(Command(resume="yes"), thread(name))
        for _ in range(2):
            graph.invoke({"messages": [("user", "and on")]}, thread(name))


def all_of(saver: BaseCheckpointSaver[Any]) -> dict[Any, Any]:
    """Return every checkpoint with everything about it."""
    found: dict[Any, Any] = {}
    for each in saver.list(None):
        asked = each.config.get("configurable", {})
        found[asked["thread_id"], asked["checkpoint_ns"], asked["checkpoint_id"]] = tuple(each)
    return found


def states(saver: BaseCheckpointSaver[Any]) -> list[Any]:
    """Return the state at every checkpoint of the root graph, delta channels included."""
    graph = graph_with(saver)
    return [
        (snapshot.values, snapshot.next, snapshot.interrupts)
        for name in THREADS
        for snapshot in graph.get_state_history(thread(name))
    ]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database file of a SqliteSaver in which two threads have worked."""
    path = tmp_path / "checkpoints.sqlite"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        work(saver)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[FmosSaver]:
    """An empty saver."""
    with FmosSaver.from_path(tmp_path / "agent.afs") as saver:
        yield saver


def test_a_sqlite_database_arrives_whole(database: Path, target: FmosSaver) -> None:
    """Ids, values, versions, metadata, parents and waiting writes are what they were."""
    done = import_checkpoints(database, target)
    with SqliteSaver.from_conn_string(str(database)) as source:
        expected, expected_states = all_of(source), states(source)
        writes = source.conn.execute("SELECT count(*) FROM writes").fetchone()[0]
    assert done == Imported(2, len(expected), writes, 0)
    assert all_of(target) == expected
    assert states(target) == expected_states
    assert len({len(values["log"]) for values, _, _ in expected_states if "log" in values}) > 4


def test_an_imported_thread_goes_on_where_it_stopped(database: Path, target: FmosSaver) -> None:
    """An open question is answered in the new saver, and versions stay text that grows."""
    import_checkpoints(database, target)
    graph, config = graph_with(target), thread(THREADS[0])
    before = target.get_tuple(config)
    assert graph.get_state(config).interrupts[0].value == "sure?"
    state = graph.invoke(Command(resume="of course"), config)
    assert state["messages"][-1].content.endswith("of course")
    after = target.get_tuple(config)
    assert before is not None
    assert after is not None
    old, new = (each.checkpoint["channel_versions"]["messages"] for each in (before, after))
    assert isinstance(new, str)
    assert new > str(old)


def test_the_source_is_not_touched(database: Path, target: FmosSaver) -> None:
    """The file has the same bytes after the import."""
    before = database.read_bytes()
    import_checkpoints(database, target)
    assert database.read_bytes() == before


def test_a_stopped_import_is_repeated(database: Path, target: FmosSaver) -> None:
    """What a stopped import stored is skipped, and the rest comes; a third run does nothing."""

    def stop(done: int, total: int) -> None:
        assert 0 < done < total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_checkpoints(database, target, stop)
    stored = len(all_of(target))
    calls: list[tuple[int, int]] = []
    done = import_checkpoints(database, target, lambda *call: calls.append(call))
    assert done.skipped == stored > 0
    assert calls[-1] == (stored + done.checkpoints,) * 2
    with SqliteSaver.from_conn_string(str(database)) as source:
        assert all_of(target) == all_of(source)
    again = import_checkpoints(database, target)
    assert again == Imported(2, 0, 0, stored + done.checkpoints)


def test_what_came_since_is_fetched_by_a_second_import(database: Path, target: FmosSaver) -> None:
    """New checkpoints come, and new writes of a checkpoint that was there already."""
    import_checkpoints(database, target)
    with SqliteSaver.from_conn_string(str(database)) as source:
        graph_with(source).invoke(Command(resume="yes"), thread(THREADS[1]))
        done = import_checkpoints(source, target)
        assert done.checkpoints > 0
        assert all_of(target) == all_of(source)
        assert states(target) == states(source)


def test_waiting_writes_keep_the_order_of_their_tasks(tmp_path: Path, target: FmosSaver) -> None:
    """The path of a task decides before its id, and the place in its writes last."""
    path = tmp_path / "c.sqlite"
    with SqliteSaver.from_conn_string(str(path)) as source:
        config = source.put(root("t"), empty_checkpoint(), {}, {})
        source.put_writes(config, [("x", 3), ("x", 4)], "a", "~2")
        source.put_writes(config, [("x", 1), ("x", 2)], "z", "~1")
    import_checkpoints(path, target)
    found = target.get_tuple(thread("t"))
    assert found is not None
    assert [value for _, _, value in found.pending_writes or []] == [1, 2, 3, 4]
    # A task that runs again does not write twice.
    target.put_writes(found.config, [("x", 8), ("x", 9)], "z", "~1")
    assert target.get_tuple(thread("t")) == found


def test_a_database_from_before_task_paths_is_read(database: Path, target: FmosSaver) -> None:
    """Without the column writes come in the order of the tasks' ids, as they did then."""
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE writes DROP COLUMN task_path")
    connection.close()
    done = import_checkpoints(database, target)
    assert done.writes > 0
    with SqliteSaver.from_conn_string(str(database)) as source:  # adds the column
        assert all_of(target) == all_of(source)


def test_classes_need_not_be_importable(
    tmp_path: Path, target: FmosSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of an application's class arrives where that application is not installed."""
    code = "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    number: int\n"
    (tmp_path / "an_application.py").write_text(code)
    path = tmp_path / "c.sqlite"
    with monkeypatch.context() as installed:
        installed.syspath_prepend(tmp_path)
        order = importlib.import_module("an_application").Order(7)
        values = {"order": order, "many": {"orders": [order] * 100, (1, 2): {3}}, "none": None}
        checkpoint: Any = empty_checkpoint() | {"channel_values": values}
        with SqliteSaver.from_conn_string(str(path)) as source:
            config = source.put(root("t"), checkpoint, {}, {})
            source.put_writes(config, [("order", order)], "a")
        installed.delitem(sys.modules, "an_application")
        sys.path.remove(str(tmp_path))
        with pytest.raises(ImportError):
            importlib.import_module("an_application")
        import_checkpoints(path, target)
        installed.syspath_prepend(tmp_path)
        allowed = JsonPlusSerializer(allowed_msgpack_modules=[("an_application", "Order")])
        found = FmosSaver.from_fs(target.fs, serde=allowed).get_tuple(root("t"))
    assert found is not None
    assert repr(found.checkpoint["channel_values"]) == repr(values)
    assert repr(found.pending_writes) == repr([("a", "order", order)])


def test_values_are_stored_as_if_they_were_put(tmp_path: Path, target: FmosSaver) -> None:
    """Copied packed or as objects, every value has the same bytes, so that both are shared."""
    objects, database = InMemorySaver(), tmp_path / "c.sqlite"
    work(objects)
    with SqliteSaver.from_conn_string(str(database)) as copy:
        for each in reversed(list(objects.list(None))):
            asked = each.config.get("configurable", {})
            parent = (each.parent_config or {}).get("configurable", {})
            config: Any = {"configurable": asked | {"checkpoint_id": parent.get("checkpoint_id")}}
            config = copy.put(config, each.checkpoint, each.metadata, {})
            for number, (task, channel, value) in enumerate(each.pending_writes or []):
                copy.put_writes(config, [(channel, value)], task, f"{number:03}")
    import_checkpoints(objects, target)
    with FmosSaver.from_path(tmp_path / "packed.afs") as packed:
        import_checkpoints(database, packed)
        assert stored(packed) == stored(target) != {}


def stored(saver: FmosSaver) -> dict[Any, bytes]:
    """Return the bytes of every value."""
    found: dict[Any, bytes] = {}
    for thread_id, namespace, checkpoint_id in all_of(saver):
        place = Place.of(thread_id, namespace)
        shelf = Shelf(saver.fs, place, Codec(saver.serde), ByteCache())
        record = shelf.find(checkpoint_id)
        assert record is not None
        for channel in record.values:
            found[checkpoint_id, channel] = shelf.value_bytes(record, channel)
    return found


class Rot(CipherProtocol):
    """A cipher that anyone can read, and that never gives the same bytes twice."""

    def __init__(self) -> None:
        self.used = 0

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Turn the bytes by a number that comes first."""
        self.used = (self.used + 1) % 256
        return "rot", bytes([self.used]) + bytes((byte + self.used) % 256 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Turn the bytes back."""
        assert ciphername == "rot"
        return bytes((byte - ciphertext[0]) % 256 for byte in ciphertext[1:])


def test_an_encrypted_database_needs_its_serializer(tmp_path: Path, target: FmosSaver) -> None:
    """With it the threads arrive, encrypted; without it the message says what to do."""
    serde = EncryptedSerializer(Rot())
    with SqliteSaver.from_conn_string(str(tmp_path / "c.sqlite")) as source:
        source.serde = serde
        work(source)
        expected = all_of(source)
    with pytest.raises(ArgumentError, match="EncryptedSerializer"):
        import_checkpoints(tmp_path / "c.sqlite", target)
    secret = FmosSaver.from_fs(target.fs, serde=serde)
    import_checkpoints(tmp_path / "c.sqlite", secret)
    assert all_of(secret) == expected
    with pytest.raises(ValueError, match="encrypted"):
        target.get_tuple(thread(THREADS[0]))


def test_a_saver_in_memory_is_imported(target: FmosSaver) -> None:
    """Any checkpointer will do; the order of waiting writes is kept."""
    source = InMemorySaver()
    work(source)
    done = import_checkpoints(source, target)
    assert (done.threads, done.skipped) == (2, 0)
    assert all_of(target) == all_of(source)
    assert states(target) == states(source)


def test_a_pruned_saver_keeps_what_its_delta_channels_say(
    tmp_path: Path, target: FmosSaver
) -> None:
    """From one volume to another, state that only removed parents had comes along."""
    with FmosSaver.from_path(tmp_path / "old.afs") as source:
        work(source)
        expected = graph_with(source).get_state(thread(THREADS[0])).values
        source.prune(THREADS)
        import_checkpoints(source, target)
    assert len(expected["log"]) > 4
    assert graph_with(target).get_state(thread(THREADS[0])).values == expected


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, target: FmosSaver) -> None:
    """A missing file, another file, and another database are told apart."""
    with pytest.raises(NotFoundError, match="nothing"):
        import_checkpoints(tmp_path / "nothing.sqlite", target)
    (tmp_path / "text").write_text("not a database, but long enough to look like one\n" * 50)
    with pytest.raises(FormatError, match="text"):
        import_checkpoints(tmp_path / "text", target)
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    with pytest.raises(FormatError, match="no such table"):
        import_checkpoints(tmp_path / "empty.sqlite", target)


# -- the command ----------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def test_the_command_imports_into_a_branch(database: Path, tmp_path: Path) -> None:
    """It says what it did, and its JSON has the same counts."""
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        saver.fs.fork("twin")
    told = run(database, tmp_path / "a.afs", "--branch", "twin", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["threads"] == 2
    with FmosSaver.from_path(tmp_path / "a.afs", branch="twin") as saver:
        assert len(all_of(saver)) == document["checkpoints"]
    with FmosSaver.from_path(tmp_path / "a.afs") as saver:
        assert all_of(saver) == {}
    again = run(database, tmp_path / "a.afs", "--branch", "twin")
    assert f"{document['checkpoints']} were there already" in again.stdout


def test_the_command_fails_in_one_sentence(tmp_path: Path) -> None:
    """Without the source no volume is made."""
    told = run(tmp_path / "nothing", tmp_path / "a.afs")
    assert told.exit_code == NotFoundError.exit_code
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "a.afs").exists()


def test_the_packages_for_postgres_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are missing, the message has the command that installs them."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    told = run("postgresql:///x", tmp_path / "a.afs")
    assert told.exit_code != 0
    assert "pip install langgraph-checkpoint-postgres" in told.stderr


# -- Postgres -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a Postgres database."""
    pytest.importorskip("langgraph.checkpoint.postgres", reason="extra `dev`")
    if postgres_server.programs() is None:
        pytest.skip("Postgres is not installed (Debian package postgresql)")
    with postgres_server.serve() as url:
        yield url


def test_a_postgres_database_arrives_whole(server: str, target: FmosSaver) -> None:
    """By its address and as an object; the paths of tasks and all else are what they were."""
    from langgraph.checkpoint.postgres import PostgresSaver

    with pytest.raises(FormatError, match="checkpoints"):
        import_checkpoints(server, target)
    with PostgresSaver.from_conn_string(server) as source:
        source.setup()
        work(source)
        done = import_checkpoints(server, target)
        assert (done.threads, done.skipped) == (2, 0)
        assert all_of(target) == all_of(source)
        assert states(target) == states(source)
        assert import_checkpoints(source, target) == done._replace(
            checkpoints=0, writes=0, skipped=done.checkpoints
        )
    state = graph_with(target).invoke(Command(resume="yes"), thread(THREADS[0]))
    assert state["messages"][-1].content.endswith("yes")


def test_a_postgres_server_that_is_not_there_is_named(tmp_path: Path, target: FmosSaver) -> None:
    """The message says what the server's library said."""
    pytest.importorskip("langgraph.checkpoint.postgres", reason="extra `dev`")
    with pytest.raises(FormatError, match="cannot be read"):
        import_checkpoints(f"postgresql:///x?host={tmp_path}", target)
