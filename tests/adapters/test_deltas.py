"""Channels kept as deltas: whatever is pruned, copied or forked, their state is what it was.

Each scene runs on `FmosSaver` and on LangGraph's `InMemorySaver`, which never removes anything.
"""

# LangGraph declares as optional what every stored checkpoint has.
# pyright: reportTypedDictNotRequiredAccess=false

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph")
pytest.importorskip("langgraph.channels.delta")

from langgraph.channels import delta
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Overwrite, Send, interrupt

from fmos_langgraph import FmosSaver

TURNS = 6
FREQUENCIES = pytest.mark.parametrize("frequency", [2, 1000])


def extend(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    """Return a list with what was written at its end."""
    return state + [item for write in writes for item in write]


def union(state: dict[str, int], writes: Sequence[dict[str, int]]) -> dict[str, int]:
    """Return a dictionary with what was written over it."""
    return {key: value for each in (state, *writes) for key, value in each.items()}


def build(saver: Any, frequency: int) -> Any:
    """Return a graph with two channels of deltas, written by several tasks of one step."""

    class State(TypedDict, total=False):
        items: Annotated[list[Any], delta.DeltaChannel(extend, snapshot_frequency=frequency)]
        marks: Annotated[dict[str, int], delta.DeltaChannel(union, snapshot_frequency=frequency)]
        turn: int

    def begin(state: Any) -> Any:
        return {"turn": state.get("turn", 0) + 1, "marks": {f"m{len(state['items'])}": 1}}

    def spread(state: Any) -> list[Send]:
        return [Send("work", {"word": f"w{state['turn']}.{each}"}) for each in range(3)]

    graph: Any = StateGraph(State)
    graph.add_node("begin", begin)
    graph.add_node("work", lambda state: {"items": [state["word"]], "marks": {state["word"]: 2}})
    graph.add_node("end", lambda state: {"items": [f"{len(state['items'])} so far"]})
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", spread, ["work"])
    graph.add_edge("work", "end")
    graph.add_edge("end", END)
    return graph.compile(checkpointer=saver)


def on(thread: str, run: str | None = None) -> Any:
    """Return the config of a thread, and of one run of it."""
    return {"configurable": {"thread_id": thread}} | ({"metadata": {"run_id": run}} if run else {})


def talk(graph: Any, turns: range, thread: str = "t") -> None:
    """Run some turns; each is a run of its own."""
    for turn in turns:
        graph.invoke({"items": [f"user {turn}"]}, on(thread, f"run-{turn}"))


def values(graph: Any, config: Any) -> dict[str, Any]:
    """Return the state at a checkpoint."""
    return dict(graph.get_state(config).values)


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[FmosSaver]:
    """A saver on a fresh volume."""
    with FmosSaver.from_path(tmp_path / "c.afs") as opened:
        yield opened


def expected(frequency: int, turns: int = TURNS) -> Any:
    """Return the graph that a saver which forgets nothing ran for some turns."""
    graph = build(InMemorySaver(), frequency)
    talk(graph, range(turns))
    return graph


def keep_latest(saver: FmosSaver) -> None:
    """Prune as LangGraph has it."""
    saver.prune(["t"], strategy="keep_latest")


def keep_four(saver: FmosSaver) -> None:
    """Keep the last four."""
    assert saver.keep_last("t", 4) > 0


def remove_old_runs(saver: FmosSaver) -> None:
    """Remove all runs but the last."""
    saver.delete_for_runs([f"run-{turn}" for turn in range(TURNS - 1)])


def remove_a_run_in_the_middle(saver: FmosSaver) -> None:
    """Remove two runs that later ones are built on."""
    saver.delete_for_runs(["run-2", "run-4"])


def prune_twice(saver: FmosSaver) -> None:
    """Keep fewer than what was kept before."""
    saver.keep_last("t", 9)
    saver.keep_last("t", 2)


@FREQUENCIES
@pytest.mark.parametrize(
    "forget",
    [keep_latest, keep_four, remove_old_runs, remove_a_run_in_the_middle, prune_twice],
)
def test_forgetting_keeps_the_state_and_what_is_built_on_it(
    saver: FmosSaver, frequency: int, forget: Callable[[FmosSaver], None]
) -> None:
    """After old checkpoints went, state is what it was, and the next turns go on from it."""
    graph = build(saver, frequency)
    talk(graph, range(TURNS))
    count = len(list(saver.list(on("t"))))
    forget(saver)
    assert len(list(saver.list(on("t")))) < count
    model = expected(frequency)
    assert values(graph, on("t")) == values(model, on("t"))
    talk(graph, range(TURNS, TURNS + 2))
    talk(model, range(TURNS, TURNS + 2))
    assert values(graph, on("t")) == values(model, on("t"))
    forget(saver)
    assert values(graph, on("t")) == values(model, on("t"))


@FREQUENCIES
def test_every_checkpoint_that_stays_keeps_its_own_state(saver: FmosSaver, frequency: int) -> None:
    """`keep_last(n)` changes no state of the n, and each of them can be gone on from."""
    graph = build(saver, frequency)
    talk(graph, range(TURNS))
    before = {
        each.config["configurable"]["checkpoint_id"]: dict(each.values)
        for each in graph.get_state_history(on("t"))
    }
    saver.keep_last("t", 6)
    left = list(graph.get_state_history(on("t")))
    assert len(left) == 6
    for each in left:
        assert each.values == before[each.config["configurable"]["checkpoint_id"]]
    for each in left:
        if not each.next:
            graph.invoke({"items": ["again"]}, each.config)
            found = values(graph, on("t"))["items"]
            length = len(each.values["items"])
            assert found[: length + 1] == [*each.values["items"], "again"]


@FREQUENCIES
def test_copy_goes_its_own_way(saver: FmosSaver, frequency: int) -> None:
    """A copied thread has the deltas, also when its source is pruned or deleted afterwards."""
    graph = build(saver, frequency)
    talk(graph, range(TURNS))
    saver.copy_thread("t", "copy")
    saver.prune(["t"])
    talk(graph, range(TURNS, TURNS + 2))
    model = expected(frequency)
    assert values(graph, on("copy")) == values(model, on("t"))
    talk(model, range(TURNS, TURNS + 2))
    assert values(graph, on("t")) == values(model, on("t"))
    saver.delete_thread("t")
    talk(graph, range(TURNS, TURNS + 2), "copy")
    assert values(graph, on("copy")) == values(model, on("t"))


@FREQUENCIES
def test_copy_of_a_pruned_thread_has_its_state(saver: FmosSaver, frequency: int) -> None:
    """What pruning folded into the checkpoint that stayed is copied with it."""
    graph = build(saver, frequency)
    talk(graph, range(TURNS))
    saver.prune(["t"])
    saver.copy_thread("t", "copy")
    saver.delete_thread("t")
    talk(graph, range(TURNS, TURNS + 2), "copy")
    assert values(graph, on("copy")) == values(expected(frequency, TURNS + 2), on("t"))


@FREQUENCIES
def test_fork_of_an_old_checkpoint_has_no_writes_of_the_abandoned_line(
    saver: FmosSaver, frequency: int
) -> None:
    """A line from the past has its own deltas only, before and after pruning."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph = build(each, frequency)
        talk(graph, range(TURNS))
        past = [state for state in graph.get_state_history(on("t")) if not state.next][3]
        abandoned = graph.get_state(on("t")).config
        graph.invoke({"items": ["other"]}, past.config)
        moved = graph.update_state(past.config, {"items": ["by hand"]}, as_node="end")
        states = [values(graph, config) for config in (on("t"), moved, abandoned)]
        if each is saver:
            saver.keep_last("t", 3)
            assert values(graph, on("t")) == states[0]
        talk(graph, range(TURNS, TURNS + 2))
        ends.append((states, values(graph, on("t"))))
    assert ends[0] == ends[1]


@FREQUENCIES
def test_pending_writes_of_an_interrupted_step_survive_pruning(
    saver: FmosSaver, frequency: int
) -> None:
    """A step that waits for an answer keeps what its finished tasks wrote."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph = _asker(each, frequency)
        for turn in range(3):
            graph.invoke({"items": [turn]}, on("t"))
            if each is saver:
                saver.prune(["t"])
            graph.invoke(Command(resume=f"yes {turn}"), on("t"))
            if each is saver:
                saver.prune(["t"])
        ends.append(values(graph, on("t")))
    assert ends[0] == ends[1]
    assert ends[0]["items"][:3] == [0, "quick", "yes 0"]


def _asker(saver: Any, frequency: int) -> Any:
    class State(TypedDict):
        items: Annotated[list[Any], delta.DeltaChannel(extend, snapshot_frequency=frequency)]

    graph: Any = StateGraph(State)
    graph.add_node("quick", lambda state: {"items": ["quick"]})
    graph.add_node("slow", lambda state: {"items": [interrupt("sure?")]})
    graph.add_edge(START, "quick")
    graph.add_edge(START, "slow")
    return graph.compile(checkpointer=saver)


@FREQUENCIES
def test_overwrite_is_the_end_of_what_was_before(saver: FmosSaver, frequency: int) -> None:
    """A channel that was overwritten stays so, pruned or not."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph = build(each, frequency)
        talk(graph, range(3))
        graph.update_state(on("t"), {"items": Overwrite(["fresh"])}, as_node="end")
        if each is saver:
            saver.prune(["t"])
        talk(graph, range(3, 5))
        ends.append(values(graph, on("t")))
    assert ends[0] == ends[1]
    assert ends[0]["items"][0] == "fresh"


def test_history_is_that_of_the_parents(saver: FmosSaver) -> None:
    """`get_delta_channel_history` tells what InMemorySaver's tells, in both halves."""
    memory = InMemorySaver()
    told = []
    for each in (saver, memory):
        graph = build(each, 4)
        talk(graph, range(3))
        told.append(
            [
                {
                    name: ([value for _, _, value in found["writes"]], found.get("seed"))
                    for name, found in each.get_delta_channel_history(
                        config=state.config, channels=["items", "marks", "unknown"]
                    ).items()
                }
                for state in graph.get_state_history(on("t"))
            ]
        )
    assert told[0] == told[1]
    config = on("t")
    both = [
        saver.get_delta_channel_history(config=config, channels=["items"]),
        asyncio.run(saver.aget_delta_channel_history(config=config, channels=["items"])),
    ]
    assert both[0] == both[1]
    nothing = saver.get_delta_channel_history(config=on("nobody"), channels=["items"])
    assert nothing == {"items": {"writes": []}}


def test_an_ordinary_thread_goes_on_with_deltas(saver: FmosSaver) -> None:
    """A thread that began with a reducer goes on as deltas from the whole value it had."""
    ends = []
    for each in (saver, InMemorySaver()):
        _plain(each).invoke({"items": [1]}, on("t"))
        graph = build(each, 1000)
        talk(graph, range(2))
        if each is saver:
            saver.prune(["t"])
        ends.append(values(graph, on("t")))
    assert ends[0] == ends[1]
    assert ends[0]["items"][:2] == [1, "plain"]


@FREQUENCIES
def test_a_channel_that_is_seldom_written_survives_pruning(
    saver: FmosSaver, frequency: int
) -> None:
    """Steps that do not touch a channel lead back to its value, however it was stored."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph = build(each, frequency)
        graph.update_state(on("t"), {"items": ["once"]}, as_node="end")
        for turn in range(5):
            graph.update_state(on("t"), {"turn": turn}, as_node="end")
            if each is saver:
                saver.prune(["t"])
        ends.append(values(graph, on("t")))
    assert ends[0] == ends[1]
    assert ends[0]["items"] == ["once"]


def test_an_ordinary_value_that_no_delta_followed_survives_pruning(saver: FmosSaver) -> None:
    """A reducer's value of which LangGraph counts no deltas yet is not lost with its checkpoint."""
    ends = []
    for each in (saver, InMemorySaver()):
        _plain(each).invoke({"items": [1]}, on("t"))
        graph = build(each, 1000)
        graph.update_state(on("t"), {"turn": 5}, as_node="end")
        if each is saver:
            saver.prune(["t"])
        ends.append(values(graph, on("t")))
    assert ends[0] == ends[1]
    assert ends[0]["items"] == [1, "plain"]


def _plain(saver: Any) -> Any:
    class State(TypedDict):
        items: Annotated[list[Any], lambda old, new: old + new]

    graph: Any = StateGraph(State).add_node("end", lambda state: {"items": ["plain"]})
    return graph.add_edge(START, "end").compile(checkpointer=saver)
