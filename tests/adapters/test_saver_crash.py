"""SIGKILL at random moments of a run: nothing torn, and the run goes on where it was.

LangGraph promises, with `durability="sync"`: each task's writes become state exactly once, and a
task does not run again once a later step has begun. A task that was killed before its writes were
stored does run again.
"""

import operator
import os
import random
import select
import signal
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph")
pytest.importorskip("langgraph.channels.delta")

from langgraph.channels import delta
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from fmos_langgraph import FmosSaver
from fmos_langgraph.codec import Codec
from fmos_langgraph.places import Place, file_name
from fmos_langgraph.shelf import ByteCache, Shelf

KILLS = 80 if os.environ.get("AGENTFS_SOAK") else 12
SEEDS = range(4) if os.environ.get("AGENTFS_SOAK") else range(1)
ENDLESS = 10_000
THREAD: Any = {"configurable": {"thread_id": "t"}}
WORDS = 3


def extend(state: list[str], writes: Any) -> list[str]:
    """Return a list with what was written at its end."""
    return state + [item for write in writes for item in write]


class State(TypedDict, total=False):
    turn: int
    said: Annotated[list[str], operator.add]
    items: Annotated[list[str], delta.DeltaChannel(extend, snapshot_frequency=4)]


def build(saver: Any, pipe: int | None = None) -> Any:
    """Return a graph of three steps, the middle one of parallel tasks, that tells what it does."""

    def effect(step: int, text: str) -> None:
        if pipe is not None:
            os.write(pipe, f"{step} {text}\n".encode())

    def begin(state: Any) -> Any:
        turn = state.get("turn", 0) + 1
        effect(turn * 3, "begin")
        return {"turn": turn, "said": [f"begin {turn}"]}

    def work(state: Any) -> Any:
        effect(state["turn"] * 3 + 1, f"work {state['word']}")
        text = f"work {state['turn']}.{state['word']} " * 40
        return {"said": [text], "items": [text]}

    def end(state: Any) -> Any:
        effect(state["turn"] * 3 + 2, "end")
        return {"said": [f"end {state['turn']}"]}

    def spread(state: Any) -> list[Send]:
        return [Send("work", {"turn": state["turn"], "word": word}) for word in range(WORDS)]

    graph: Any = StateGraph(State)
    graph.add_node("begin", begin)
    graph.add_node("work", work)
    graph.add_node("end", end)
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", spread, ["work"])
    graph.add_edge("work", "end")
    return graph.compile(checkpointer=saver)


def go_on(graph: Any, until: int) -> None:
    """Finish the turn that was begun, and begin turns until there are enough."""
    # `next` leaves out tasks whose writes are stored and not yet part of a checkpoint.
    while (state := graph.get_state(THREAD)).tasks or state.values.get("turn", 0) < until:
        asked = None if state.tasks else {"said": [f"user {state.values.get('turn', 0)}"]}
        graph.invoke(asked, THREAD, durability="sync")


def child(volume: Path, pipe: int) -> None:
    """Run turns until killed."""
    try:
        with FmosSaver.from_path(volume) as saver:
            go_on(build(saver, pipe), ENDLESS)
    finally:
        os._exit(1)


def killed(volume: Path, chance: random.Random) -> list[str]:
    """Run a child, kill it, and return the effects that it had."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        child(volume, theirs)
    os.close(theirs)
    wanted, seen = chance.randint(0, 18), b""
    # Some kills fall while the volume is being opened, the rest a random while after an effect.
    while seen.count(b"\n") < wanted and (more := os.read(ours, 4096)):
        seen += more
    select.select([], [], [], chance.random() * 0.012)
    os.kill(process, signal.SIGKILL)
    while more := os.read(ours, 4096):
        seen += more
    os.close(ours)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), "the child failed by itself"
    return seen.decode().splitlines()


def key(state: Any) -> tuple[Any, ...]:
    """Return what a checkpoint says, in a form that can be looked up."""
    values = state.values
    said, items = tuple(values.get("said", ())), tuple(values.get("items", ()))
    return (values.get("turn"), said, items, tuple(sorted(state.next)))


def uninterrupted(turns: int) -> tuple[dict[str, Any], set[tuple[Any, ...]]]:
    """Return the state after some turns that nobody killed, and all states on the way."""
    graph = build(InMemorySaver())
    go_on(graph, turns)
    return graph.get_state(THREAD).values, {key(e) for e in graph.get_state_history(THREAD)}


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_runs_go_on_without_a_loss(tmp_path: Path, seed: int, record_property: Any) -> None:
    """However often a run is killed, its state is that of a run that was not."""
    volume, chance = tmp_path / "c.afs", random.Random(seed)
    effects: list[list[str]] = []
    for _ in range(KILLS):
        effects.append(killed(volume, chance))
        with FmosSaver.from_path(volume) as saver:
            assert not saver.fs.fsck()
            check_files(saver)
    with FmosSaver.from_path(volume) as saver:
        graph = build(saver)
        turns = graph.get_state(THREAD).values.get("turn", 0) + 1
        go_on(graph, turns)
        expected, on_the_way = uninterrupted(turns)
        assert graph.get_state(THREAD).values == expected
        history = list(graph.get_state_history(THREAD))
        assert {key(state) for state in history} == on_the_way
        assert len(history) == len(on_the_way)
    repeated = check_effects(effects)
    record_property("kills", f"{KILLS}, {turns} turns, {repeated} tasks ran again")


def check_files(saver: FmosSaver) -> None:
    """Assert that checkpoints and the files of their values are there together or not at all."""
    place = Place.of("t", "")
    shelf = Shelf(saver.fs, place, Codec(saver.serde), ByteCache())
    records = [record for name in shelf.names() if (record := shelf.record(name))]
    named = {name for each in records for name in each.values.values() if isinstance(name, str)}
    stored = saver.fs.listdir(place.values) if saver.fs.exists(place.values) else []
    assert set(stored) == named
    waiting = saver.fs.listdir(place.pending) if saver.fs.exists(place.pending) else []
    assert set(waiting) <= {file_name(record.id) for record in records}
    list(saver.list(THREAD, limit=20))


def check_effects(effects: list[list[str]]) -> int:
    """Assert that no task ran again after a later step began; return how many ran twice."""
    reached, everything = 0, set()
    repeated = 0
    for lines in effects:
        assert len(lines) == len(set(lines)), "a task ran twice without a kill"
        for line in lines:
            step = int(line.split()[0])
            assert step >= reached, f"{line!r} ran again after step {reached} had begun"
            assert step <= reached + 1 or not reached, f"step {reached + 1} never ran"
            reached = step
            repeated += line in everything
            everything.add(line)
    assert everything, "no child had any effect"
    # Every task of each step that was passed did run.
    for step in range(3, reached):
        count = sum(line.startswith(f"{step} ") for line in everything)
        assert count == (WORDS if step % 3 == 1 else 1), step
    return repeated


@pytest.mark.parametrize("moment", ["prune", "copy", "delete"])
def test_killed_upkeep_is_done_or_not_done(tmp_path: Path, moment: str) -> None:
    """A kill during prune, copy or delete leaves the thread as it was or as it should be."""
    volume, chance = tmp_path / "c.afs", random.Random(moment)
    with FmosSaver.from_path(volume) as saver:
        go_on(build(saver), 4)
    expected, _ = uninterrupted(4)
    for _ in range(KILLS // 4):
        _kill_during(volume, moment, chance)
        with FmosSaver.from_path(volume) as saver:
            assert not saver.fs.fsck()
            graph = build(saver)
            for thread in saver.threads():
                config: Any = {"configurable": {"thread_id": thread}}
                assert graph.get_state(config).values == expected
                left = len(list(saver.list(config)))
                assert left in ({1, 20} if moment == "prune" else {20})
            saver.delete_thread("t")
            saver.delete_thread("copy")
            go_on(graph, 4)


def _kill_during(volume: Path, moment: str, chance: random.Random) -> None:
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        try:
            with FmosSaver.from_path(volume) as saver:
                os.write(theirs, b"x")
                if moment == "prune":
                    saver.prune(["t"])
                elif moment == "copy":
                    saver.copy_thread("t", "copy")
                else:
                    saver.delete_thread("t")
        finally:
            signal.pause()
    os.close(theirs)
    os.read(ours, 1)
    select.select([], [], [], chance.random() * 0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(ours)
