"""`FmosSaver`: LangGraph's own conformance suite, and what only a branch can do."""

# LangGraph declares as optional what every stored checkpoint has.
# pyright: reportTypedDictNotRequiredAccess=false

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from agentfs import AgentFS

pytest.importorskip("langgraph")

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from fmos_langgraph import FmosSaver
from fmos_langgraph.places import Place, file_name, to_identifier, value_name


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def config(thread: str, namespace: str = "", checkpoint_id: str | None = None) -> Any:
    """Return the config that names a thread, namespace and checkpoint."""
    asked = {"thread_id": thread, "checkpoint_ns": namespace}
    return {"configurable": asked | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def talker(saver: FmosSaver) -> Any:
    """Return a graph that answers each message with how many there are."""
    graph: Any = StateGraph(Talk)
    graph.add_node("answer", lambda state: {"messages": [("ai", str(len(state["messages"])))]})
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=saver)


def said(graph: Any, thread: str) -> list[str]:
    """Return the texts of a thread's messages."""
    state = graph.get_state({"configurable": {"thread_id": thread}})
    return [message.content for message in state.values["messages"]]


def test_sync_and_async_halves_see_the_same_threads(tmp_path: Path) -> None:
    """What `invoke` stored, `ainvoke` goes on with."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        graph = talker(saver)
        thread: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({"messages": [HumanMessage("one")]}, thread)
        asyncio.run(graph.ainvoke({"messages": [HumanMessage("two")]}, thread))
        assert said(graph, "t") == ["one", "1", "two", "3"]
        assert len(list(saver.list(thread, limit=2))) == 2


def test_channel_value_is_stored_once_per_version(tmp_path: Path) -> None:
    """A value that does not change is not written again with the next checkpoint."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        first = empty_checkpoint()
        first["channel_values"] = {"big": "x" * 10_000}
        first["channel_versions"] = {"big": "1"}
        stored = saver.put(config("t"), first, {"step": 0}, {"big": "1"})
        values = Place.of("t", "").values
        assert saver.fs.listdir(values) == [value_name("big", first["id"])]
        second = {**empty_checkpoint(), "channel_values": dict(first["channel_values"])}
        second["channel_versions"] = {"big": "1"}
        saver.put(stored, second, {"step": 1}, {})  # type: ignore[arg-type]
        assert saver.fs.listdir(values) == [value_name("big", first["id"])]
        latest = saver.get_tuple(config("t"))
        assert latest is not None
        assert latest.checkpoint["channel_values"] == first["channel_values"]
        assert latest.parent_config == stored


def test_writes_come_back_in_the_order_tasks_are_applied(tmp_path: Path) -> None:
    """Pending writes are ordered by task path, task id and position, not by arrival."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        stored = saver.put(config("t"), empty_checkpoint(), {"step": 0}, {})
        saver.put_writes(stored, [("a", 1), ("a", 2)], "task-a", "2")
        saver.put_writes(stored, [("a", 3)], "task-b", "1")
        saver.put_writes(stored, [("a", 9)], "task-b", "1")
        saver.put_writes(stored, [("__interrupt__", "old")], "task-b", "1")
        saver.put_writes(stored, [("__interrupt__", "new")], "task-b", "1")
        found = saver.get_tuple(stored)
        assert found is not None
        assert found.pending_writes == [
            ("task-b", "__interrupt__", "new"),
            ("task-b", "a", 3),
            ("task-a", "a", 1),
            ("task-a", "a", 2),
        ]


@pytest.mark.parametrize(
    "thread", ["", ".", "..", "a/b", "%", "ü/../x", "x" * 5000, "a\0b", "/.fmos", "-rf *"]
)
def test_any_text_is_a_thread_id(tmp_path: Path, thread: str) -> None:
    """A thread id reaches neither another thread's files nor the world outside the folder."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        saver.put(config("other"), empty_checkpoint(), {"step": 5}, {})
        saver.put(config(thread, "ns|1"), empty_checkpoint(), {"step": 1}, {})
        found = saver.get_tuple(config(thread, "ns|1"))
        assert found is not None
        assert found.config["configurable"]["thread_id"] == thread
        saver.delete_thread(thread)
        assert saver.get_tuple(config(thread, "ns|1")) is None
        assert saver.get_tuple(config("other")) is not None


def test_file_names_keep_ids_apart() -> None:
    """Ids that look alike after encoding still get names of their own."""
    ids = ["", ".", "..", "%", "%2E", "%%", "a/b", "a%2Fb", "x" * 300, "x" * 301]
    assert len({file_name(each) for each in ids}) == len(ids)
    assert [to_identifier(file_name(each)) for each in ids] == [*ids[:8], None, None]


def test_failed_put_leaves_nothing(tmp_path: Path) -> None:
    """A value that cannot be serialized undoes the whole checkpoint, earlier values included."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        broken = empty_checkpoint()
        broken["channel_values"] = {"a": 1, "b": threading.Lock()}
        broken["channel_versions"] = {"a": "1", "b": "1"}
        with pytest.raises(TypeError):
            saver.put(config("t"), broken, {"step": 0}, {"a": "1", "b": "1"})
        assert not saver.fs.exists(Place.of("t", "").path)


def test_fork_of_the_branch_is_an_independent_thread(tmp_path: Path) -> None:
    """A forked agent has the thread as it was; from then on neither sees the other's turns."""
    with AgentFS.open(tmp_path / "c.afs") as fs:
        graph = talker(FmosSaver.from_fs(fs))
        thread: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({"messages": [HumanMessage("one")]}, thread)
        fork = talker(FmosSaver.from_fs(fs.fork("other")))
        fork.invoke({"messages": [HumanMessage("in the fork")]}, thread)
        graph.invoke({"messages": [HumanMessage("in main")]}, thread)
        assert said(fork, "t") == ["one", "1", "in the fork", "3"]
        assert said(graph, "t") == ["one", "1", "in main", "3"]


def test_restore_takes_the_thread_back(tmp_path: Path) -> None:
    """Restoring a snapshot of the branch restores its threads as well."""
    with AgentFS.open(tmp_path / "c.afs") as fs:
        graph = talker(FmosSaver.from_fs(fs))
        thread: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({"messages": [HumanMessage("one")]}, thread)
        fs.snapshot("before")
        graph.invoke({"messages": [HumanMessage("two")]}, thread)
        fs.restore("before")
        assert said(graph, "t") == ["one", "1"]


def test_time_travel_keeps_both_lines(tmp_path: Path) -> None:
    """A run from an older checkpoint does not overwrite the values of the abandoned line."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        graph = talker(saver)
        thread: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({"messages": [HumanMessage("one")]}, thread)
        older = graph.get_state(thread).config
        graph.invoke({"messages": [HumanMessage("two")]}, thread)
        abandoned = graph.get_state(thread).config
        graph.invoke({"messages": [HumanMessage("other")]}, older)
        assert said(graph, "t") == ["one", "1", "other", "3"]
        kept = graph.get_state(abandoned).values["messages"]
        assert [message.content for message in kept] == ["one", "1", "two", "3"]


_RESUMER = """
import sys
from tests_graph import asker
from fmos_langgraph import FmosSaver
from langgraph.types import Command
with FmosSaver.from_path(sys.argv[1]) as saver:
    graph = asker(saver)
    print(graph.invoke(Command(resume="yes"), {"configurable": {"thread_id": "t"}})["said"])
"""


def test_interrupted_run_resumes_in_a_new_process(tmp_path: Path) -> None:
    """A run that waits for an answer goes on in another process from its checkpoint."""
    (tmp_path / "tests_graph.py").write_text(
        "from typing import TypedDict\n"
        "from langgraph.graph import START, StateGraph\n"
        "from langgraph.types import interrupt\n"
        "class Said(TypedDict):\n"
        "    said: str\n"
        "def asker(saver):\n"
        "    graph: Any = StateGraph(Said)\n"
        "    graph.add_node('ask', lambda state: {'said': state['said'] + interrupt('sure?')})\n"
        "    graph.add_edge(START, 'ask')\n"
        "    return graph.compile(checkpointer=saver)\n",
        encoding="utf-8",
    )
    starter = _RESUMER.replace('Command(resume="yes")', '{"said": "well, "}').replace(
        '["said"]', '["__interrupt__"][0].value'
    )
    volume = str(tmp_path / "c.afs")
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, volume],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
        ).stdout.strip()
        for code in (starter, _RESUMER)
    ]  # fmt: skip
    assert outputs == ["sure?", "well, yes"]


def test_interrupt_survives_reopening(tmp_path: Path) -> None:
    """The waiting interrupt is in the volume, not in the saver."""
    graph: Any = StateGraph(Talk)
    graph.add_node("ask", lambda state: {"messages": [("ai", interrupt("name?"))]})
    graph.add_edge(START, "ask")
    thread: Any = {"configurable": {"thread_id": "t"}}
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        result = graph.compile(checkpointer=saver).invoke({"messages": []}, thread)
        assert result["__interrupt__"][0].value == "name?"
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        result = graph.compile(checkpointer=saver).invoke(Command(resume="Ada"), thread)
        assert [message.content for message in result["messages"]] == ["Ada"]


def test_threads_put_at_once_without_loss(tmp_path: Path) -> None:
    """Eight threads of this process, each with a thread of its own, lose no checkpoint."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        graph = talker(saver)
        start = threading.Barrier(8)

        def run(name: str) -> None:
            start.wait(5)
            for _ in range(3):
                graph.invoke(
                    {"messages": [HumanMessage("x")]}, {"configurable": {"thread_id": name}}
                )

        workers = [threading.Thread(target=run, args=(f"t{i}",)) for i in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert all(len(said(graph, f"t{i}")) == 6 for i in range(8))
        assert len({found.config["configurable"]["thread_id"] for found in saver.list(None)}) == 8
