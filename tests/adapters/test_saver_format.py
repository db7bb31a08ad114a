"""What a saver stores and hands out: other serializers, imported threads, and the tuple itself."""

# LangGraph declares as optional what every stored checkpoint has.
# pyright: reportTypedDictNotRequiredAccess=false

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph

from fmos_langgraph import FmosSaver
from fmos_langgraph.tuples import StoredTuple

BIG = {"text": "long " * 3000}
THREAD: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


class JsonSerde:
    """A serializer that knows JSON and nothing else."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return JSON."""
        return "json", json.dumps(obj).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Take JSON, and nothing else."""
        assert data[0] == "json"
        return json.loads(data[1])


class Untyped:
    """A serializer of the oldest interface: bytes without a type."""

    def dumps(self, obj: Any) -> bytes:
        """Return a pickle."""
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        """Take a pickle."""
        return pickle.loads(data)


@dataclass
class Own:
    """A class of the application's own."""

    name: str


class Odd:
    """An object that msgpack cannot hold."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    def __hash__(self) -> int:
        return 1


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[FmosSaver]:
    """A saver on a fresh volume."""
    with FmosSaver.from_path(tmp_path / "c.afs") as opened:
        yield opened


def put(saver: Any, values: dict[str, Any], config: Any = THREAD, step: int = 0) -> Any:
    """Store a checkpoint with these values, all new, and one waiting write."""
    checkpoint = empty_checkpoint()
    versions: Any = dict.fromkeys(values, f"{step + 1:032}.5")
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = versions
    stored = saver.put(config, checkpoint, {"source": "loop", "step": step}, versions)
    saver.put_writes(stored, list(values.items()), "task")
    return stored


def check(saver: Any, values: dict[str, Any]) -> None:
    """Assert that values come back through every reading method."""
    one = saver.get_tuple(THREAD)
    (other,) = saver.list(THREAD)
    for found in (one, other):
        assert found.checkpoint["channel_values"] == values
        assert {channel: value for _, channel, value in found.pending_writes} == values


@pytest.mark.parametrize("serde", [JsonSerde(), Untyped(), JsonPlusSerializer()])
def test_any_serializer_will_do(tmp_path: Path, serde: Any) -> None:
    """Values, metadata and writes come back whatever the serializer makes of them."""
    values = {"small": [1, "two"], "big": BIG, "list": ["x" * 50] * 500, "none": None}
    with FmosSaver.from_path(tmp_path / "c.afs", serde=serde) as saver:
        put(saver, values)
        check(saver, values)
        saver.copy_thread("t", "copy")
        saver.prune(["t"])
        check(saver, values)


def test_values_that_only_pickle_can_hold(tmp_path: Path) -> None:
    """With `pickle_fallback` what msgpack cannot hold is pickled, next to what it can."""
    serde = JsonPlusSerializer(pickle_fallback=True)
    values = {"odd": Odd(), "many": [Odd(), *["y" * 30] * 900], "plain": [1]}
    with FmosSaver.from_path(tmp_path / "c.afs", serde=serde) as saver:
        put(saver, values)
        check(saver, values)


def test_a_thread_of_an_older_serializer_is_read_by_the_new_one(tmp_path: Path) -> None:
    """A volume written as JSON is read by the default serializer, and goes on."""
    with FmosSaver.from_path(tmp_path / "c.afs", serde=JsonSerde()) as saver:  # type: ignore[arg-type]
        stored = put(saver, {"small": [1], "big": BIG})
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        check(saver, {"small": [1], "big": BIG})
        put(saver, {"small": [2], "big": {"text": "new"}}, stored, 1)
        values = [each.checkpoint["channel_values"] for each in saver.list(THREAD)]
    assert values == [{"small": [2], "big": {"text": "new"}}, {"small": [1], "big": BIG}]


def test_allowlist_is_for_the_clone_only(saver: FmosSaver) -> None:
    """`with_allowlist` gives a saver on the same volume that may load the application's class."""
    saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    own = (Own.__module__, Own.__qualname__)
    allowed = saver.with_allowlist([own])
    assert isinstance(allowed, FmosSaver)
    assert allowed is not saver
    values = {"own": Own("Ada"), "many": [Own(str(number)) for number in range(400)]}
    put(saver, values)
    check(allowed, values)
    strict = saver.get_tuple(THREAD)
    assert strict is not None
    assert not isinstance(strict.checkpoint["channel_values"]["own"], Own)


def test_versions_that_are_text_stay_text(saver: FmosSaver) -> None:
    """A thread imported from another saver counts on in its own kind of version."""
    put(saver, {"messages": [HumanMessage("imported", id="1")]})
    graph: Any = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [AIMessage("here", id="2")]})
    graph.add_edge(START, "answer")
    graph.compile(checkpointer=saver).invoke(
        {"messages": [HumanMessage("next", id="3")]}, {"configurable": {"thread_id": "t"}}
    )
    found = saver.get_tuple(THREAD)
    assert found is not None
    texts = [message.content for message in found.checkpoint["channel_values"]["messages"]]
    assert texts == ["imported", "next", "here"]
    versions = [*found.checkpoint["channel_versions"].values()]
    assert "messages" in found.checkpoint["channel_versions"]
    assert all(isinstance(version, str) for version in versions), versions
    assert saver.get_next_version(None, None) == 1
    assert saver.get_next_version(7, None) == 8
    following = saver.get_next_version("00000000000000000000000000000009.5", None)
    assert str(following).startswith("0" * 30 + "10.")


def listed(saver: FmosSaver) -> CheckpointTuple:
    """Return what `list` yields for the only checkpoint."""
    (found,) = saver.list(THREAD)
    assert isinstance(found, StoredTuple)
    return found


def test_listed_tuple_is_a_checkpoint_tuple(saver: FmosSaver) -> None:
    """Unpacking, indexing, equality, length, repr and pickle are those of the plain tuple."""
    put(saver, {"small": [1, 2], "big": BIG})
    plain = saver.get_tuple(THREAD)
    assert plain is not None
    config, checkpoint, metadata, parent, writes = listed(saver)
    assert (config, checkpoint, metadata, parent, writes) == tuple(plain)
    found = listed(saver)
    assert [found[index] for index in range(-5, 5)] == [*plain, *plain]
    assert found[1:3] == plain[1:3]
    assert len(found) == 5
    assert isinstance(found, CheckpointTuple)
    assert listed(saver) == plain
    assert plain == listed(saver)
    assert listed(saver) == listed(saver)
    assert not (listed(saver) != plain)  # noqa: SIM202 - this is the operator under test
    assert listed(saver) != plain._replace(parent_config=THREAD)
    assert repr(listed(saver)) == repr(plain)
    assert pickle.loads(pickle.dumps(listed(saver))) == plain
    assert found._asdict() == plain._asdict()
    changed = listed(saver)._replace(parent_config=THREAD)
    assert changed == plain._replace(parent_config=THREAD)


def test_order_of_tuples_and_membership_see_the_values(saver: FmosSaver) -> None:
    """`in`, `count` and `index` look at the checkpoint, not at the place it is not yet in."""
    put(saver, {"small": [1, 2]})
    plain = saver.get_tuple(THREAD)
    assert plain is not None
    assert plain.checkpoint in listed(saver)
    assert listed(saver).count(plain.checkpoint) == 1
    assert listed(saver).index(plain.checkpoint) == 1
    assert None in listed(saver)
    assert listed(saver).count(None) == 1


def test_a_reader_cannot_change_what_the_next_one_reads(saver: FmosSaver) -> None:
    """Objects that were handed out are the reader's own: values, metadata, versions and writes."""
    put(saver, {"small": [1, 2], "big": dict(BIG)})
    before = repr(saver.get_tuple(THREAD))
    for found in (saver.get_tuple(THREAD), listed(saver)):
        assert found is not None
        found.checkpoint["channel_values"]["small"].append(3)
        found.checkpoint["channel_values"]["big"]["text"] = "spoilt"
        found.checkpoint["channel_versions"]["small"] = "999"
        found.checkpoint["versions_seen"]["x"] = {}
        found.metadata["step"] = 99
        found.config["configurable"]["thread_id"] = "spoilt"
        assert found.pending_writes is not None
        found.pending_writes[0][2].append(4)
        found.pending_writes.clear()
        assert repr(saver.get_tuple(THREAD)) == before
        assert repr(listed(saver)) == before


def test_a_writer_may_go_on_changing_what_it_stored(saver: FmosSaver) -> None:
    """What is changed after `put` is not part of the checkpoint, nor does `put` change it."""
    values: dict[str, Any] = {"small": [1], "big": dict(BIG)}
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = {"small": 1, "big": 1}
    whole = repr(checkpoint)
    saver.put(THREAD, checkpoint, {"step": 0}, {"small": 1, "big": 1})
    assert repr(checkpoint) == whole
    values["small"].append(2)
    values["big"]["text"] = "other"
    found = saver.get_tuple(THREAD)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"small": [1], "big": BIG}


def test_a_listed_tuple_is_whole_after_its_checkpoint_went(saver: FmosSaver) -> None:
    """What `list` has yielded can be read although the thread was deleted since."""
    put(saver, {"small": [1], "big": BIG})
    found = listed(saver)
    saver.delete_thread("t")
    assert found.checkpoint["channel_values"] == {"small": [1], "big": BIG}


@pytest.mark.parametrize("length", [0, 1, 15, 16, 500, 65535, 65536])
def test_lists_of_any_length_come_back(saver: FmosSaver, length: int) -> None:
    """The turned header of a list is one, three or five bytes long."""
    values = {"list": [number % 7 for number in range(length)], "pairs": [["x" * 300, 1]] * 15}
    put(saver, values)
    check(saver, values)
