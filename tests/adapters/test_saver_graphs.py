"""LangGraph's tutorial shapes on `FmosSaver`: each outcome is that of `InMemorySaver`."""

# LangGraph declares as optional what every stored checkpoint has.
# pyright: reportTypedDictNotRequiredAccess=false

import asyncio
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

pytest.importorskip("langgraph")

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt
from tests.adapters.scripted import ScriptedModel, call, calls, in_turn

from agentfs import AgentFS
from fmos_langgraph import FmosSaver

THREAD: Any = {"configurable": {"thread_id": "t"}}
Scene = Callable[[Any], Any]


@tool
def add(one: int, other: int) -> int:
    """Add two numbers."""
    return one + other


def user(text: str) -> dict[str, Any]:
    """Return the input of one turn."""
    return {"messages": [HumanMessage(text)]}


def plain(value: Any) -> Any:
    """Return a value without what differs from run to run: ids of messages."""
    if isinstance(value, BaseMessage):
        wanted = getattr(value, "tool_calls", None) or []
        return (value.type, value.content, [(each["name"], each["args"]) for each in wanted])
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def history(graph: Any, thread: Any = THREAD) -> list[Any]:
    """Return what each checkpoint of a thread says, newest first."""
    return [
        (plain(each.values), each.next, each.metadata["step"], each.metadata["source"])
        for each in graph.get_state_history(thread)
    ]


# -- scenes: what a graph does on a saver, in plain data ------------------------------------


def chat_with_agent(saver: Any) -> Any:
    """An agent of `create_agent` that calls a tool and remembers the turn before."""
    script = in_turn(call("add", one=2, other=3), AIMessage("five"), AIMessage("as I said, five"))
    agent: Any = create_agent(ScriptedModel(answer=script), [add], checkpointer=saver)
    agent.invoke(user("2 + 3?"), THREAD)
    result = agent.invoke(user("again?"), THREAD)
    return plain(result), history(agent)


def chat_with_tool_node(saver: Any) -> Any:
    """The hand-made loop of a model and a `ToolNode`, with two calls at once and streaming."""
    both = calls(("add", "c1", {"one": 1, "other": 1}), ("add", "c2", {"one": 2, "other": 2}))
    model = ScriptedModel(answer=in_turn(both, AIMessage("2 and 4")))
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "model").add_conditional_edges("model", tools_condition)
    chat = graph.add_edge("tools", "model").compile(checkpointer=saver)
    streamed = [plain(each) for each in chat.stream(user("sums?"), THREAD, stream_mode="updates")]
    return streamed, history(chat)


class Story(TypedDict, total=False):
    text: str
    said: Annotated[list[str], operator.add]


def human_in_the_loop(saver: Any) -> Any:
    """Two questions in one node, an approval that sends the run elsewhere, and a correction."""

    def ask(state: Any) -> Any:
        first = interrupt({"question": "name?"})
        second = interrupt({"question": f"really {first}?"})
        return {"said": [first, second]}

    def approve(state: Any) -> Command[Literal["publish", "drop"]]:
        return Command(goto="publish" if interrupt("publish?") else "drop")

    graph: Any = StateGraph(Story)
    graph.add_node("ask", ask).add_node("approve", approve)
    graph.add_node("publish", lambda state: {"text": f"published {state['said']}"})
    graph.add_node("drop", lambda state: {"text": "dropped"})
    graph.add_edge(START, "ask").add_edge("ask", "approve")
    flow = graph.compile(checkpointer=saver)
    seen = []
    for asked in ({"said": ["hello"]}, "Ada", "yes"):
        value = asked if isinstance(asked, dict) else Command(resume=asked)
        result = flow.invoke(value, THREAD)
        state = flow.get_state(THREAD)
        waiting = [each.value for found in state.tasks for each in found.interrupts]
        seen.append(([each.value for each in result["__interrupt__"]], state.next, waiting))
    flow.update_state(THREAD, {"said": ["corrected by hand"]})
    seen.append(flow.invoke(Command(resume=True), THREAD))
    return seen, history(flow)


def static_breakpoints(saver: Any) -> Any:
    """A graph that stops before and after nodes, and goes on with `None`."""
    graph: Any = StateGraph(Story)
    for name in ("one", "two", "three"):
        graph.add_node(name, lambda state, name=name: {"said": [name]})
    graph.add_edge(START, "one").add_edge("one", "two").add_edge("two", "three")
    flow = graph.compile(checkpointer=saver, interrupt_before=["two"], interrupt_after=["two"])
    seen = []
    for asked in ({"said": ["go"]}, None, None):
        said = flow.invoke(asked, THREAD)["said"]
        seen.append((said, flow.get_state(THREAD).next))
    return seen, history(flow)


def map_reduce(saver: Any) -> Any:
    """A fan-out with `Send` to many tasks, two of which ask, and the reduction."""

    def joke(state: Any) -> Any:
        word = state["word"]
        return {"said": [f"{word}: {interrupt(word) if word in 'bd' else 'no question'}"]}

    graph: Any = StateGraph(Story)
    graph.add_node("joke", joke)
    graph.add_node("best", lambda state: {"text": max(state["said"])})
    graph.add_conditional_edges(
        START, lambda state: [Send("joke", {"word": word}) for word in state["text"]], ["joke"]
    )
    flow = graph.add_edge("joke", "best").compile(checkpointer=saver)
    result = flow.invoke({"text": "abcdef"}, THREAD)
    waiting = {each.id: each.value for each in result["__interrupt__"]}
    answers = {key: f"answer to {value}" for key, value in waiting.items()}
    return sorted(waiting.values()), flow.invoke(Command(resume=answers), THREAD), history(flow)


class Inner(TypedDict, total=False):
    text: str
    inner: Annotated[list[str], operator.add]


def subgraphs(saver: Any) -> Any:
    """A subgraph that asks in the middle, and one with a memory of its own between turns."""

    def inner(checkpointer: Any, question: str) -> Any:
        graph: Any = StateGraph(Inner)
        graph.add_node("note", lambda state: {"inner": [state["text"]]})
        graph.add_node("ask", lambda state: {"text": f"{state['text']} {interrupt(question)}"})
        graph.add_node("count", lambda state: {"text": f"{state['text']} {len(state['inner'])}"})
        graph.add_edge(START, "note").add_edge("note", "ask").add_edge("ask", "count")
        return graph.compile(checkpointer=checkpointer)

    graph: Any = StateGraph(Story)
    graph.add_node("first", inner(None, "first?"))
    graph.add_node("memory", inner(True, "memory?"))
    flow = graph.add_edge(START, "first").add_edge("first", "memory").compile(checkpointer=saver)
    seen = []
    for turn in range(2):
        flow.invoke({"text": f"turn {turn}"}, THREAD)
        state = flow.get_state(THREAD, subgraphs=True)
        seen.append((state.next, [plain(each.state.values) for each in state.tasks]))
        flow.invoke(Command(resume="A"), THREAD)
        seen.append(flow.invoke(Command(resume="B"), THREAD)["text"])
    namespaces = {each.config["configurable"]["checkpoint_ns"] for each in saver.list(THREAD)}
    return seen, sorted(each.split(":")[0] for each in namespaces), history(flow)


def supervisor(saver: Any) -> Any:
    """A supervisor that sends workers off with `Command(goto)`, each an agent with its own tool."""
    plan: list[Literal["adder", "writer", "__end__"]] = ["adder", "writer", "__end__"]

    def decide(state: Any) -> Command[Literal["adder", "writer", "__end__"]]:
        done = sum(message.name in ("adder", "writer") for message in state["messages"])
        return Command(goto=plan[done % 3], update={"messages": [("ai", f"to {plan[done % 3]}")]})

    def worker(name: str, script: Any) -> Any:
        agent = create_agent(ScriptedModel(answer=script), [add])

        def run(state: Any) -> Command[Literal["decide"]]:
            last = agent.invoke({"messages": state["messages"][:1]})["messages"][-1].content
            return Command(goto="decide", update={"messages": [HumanMessage(last, name=name)]})

        return run

    graph: Any = StateGraph(MessagesState).add_node("decide", decide)
    graph.add_node("adder", worker("adder", in_turn(call("add", one=4, other=5), AIMessage("9"))))
    graph.add_node("writer", worker("writer", in_turn(AIMessage("It is nine."))))
    flow = graph.add_edge(START, "decide").compile(checkpointer=saver)
    return plain(flow.invoke(user("4 + 5, in words"), THREAD)), history(flow)


def functional(saver: Any) -> Any:
    """The functional interface: tasks that do not run again, and what was returned before."""
    ran: list[int] = []

    @task
    def square(number: int) -> int:
        ran.append(number)
        return number * number

    @entrypoint(checkpointer=saver)
    def flow(numbers: list[int], *, previous: Any = None) -> Any:
        squares = [each.result() for each in [square(number) for number in numbers]]
        sure = interrupt(f"sure of {squares}?")
        return entrypoint.final(value=f"{sure} after {previous}", save=squares)

    seen = []
    for numbers in ([1, 2], [3]):
        flow.invoke(numbers, THREAD)
        seen.append(flow.invoke(Command(resume="yes"), THREAD))
    return seen, sorted(ran)


def failure_and_retry(saver: Any) -> Any:
    """A step of which one task fails: its siblings do not run again when it is repeated."""
    ran: list[str] = []

    def good(state: Any) -> Any:
        ran.append("good")
        return {"said": ["good"]}

    def bad(state: Any) -> Any:
        ran.append("bad")
        if ran.count("bad") < 3:
            raise RuntimeError("not yet")
        return {"said": ["bad"]}

    graph: Any = StateGraph(Story).add_node("good", good).add_node("bad", bad)
    flow = graph.add_edge(START, "good").add_edge(START, "bad").compile(checkpointer=saver)
    # One after the other: LangGraph may drop what a task wrote after its sibling's failure.
    one_by_one = THREAD | {"max_concurrency": 1}
    for asked in ({"said": ["go"]}, None):
        with pytest.raises(RuntimeError, match="not yet"):
            flow.invoke(asked, one_by_one)
    errors = [found.error is not None for found in flow.get_state(THREAD).tasks]
    return sorted(flow.invoke(None, one_by_one)["said"]), sorted(ran), errors


SCENES = [
    chat_with_agent, chat_with_tool_node, human_in_the_loop, static_breakpoints, map_reduce,
    subgraphs, supervisor, functional, failure_and_retry,
]  # fmt: skip


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[FmosSaver]:
    """A saver on a fresh volume."""
    with FmosSaver.from_path(tmp_path / "c.afs") as opened:
        yield opened


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_tutorial_shape_ends_as_in_memory(saver: FmosSaver, scene: Scene) -> None:
    """Results, interrupts, checkpoints and what ran again are the same on both savers."""
    assert scene(saver) == scene(InMemorySaver())


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_async_runs_end_as_in_memory(saver: FmosSaver, durability: Any) -> None:
    """An asynchronous run with a question ends alike in every mode of durability."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph: Any = StateGraph(Story)
        graph.add_node("ask", lambda state: {"said": [interrupt("sure?")]})
        graph.add_node("end", lambda state: {"text": "done"})
        flow = graph.add_edge(START, "ask").add_edge("ask", "end").compile(checkpointer=each)

        async def run(flow: Any = flow) -> Any:
            await flow.ainvoke({"said": ["go"]}, THREAD, durability=durability)
            await flow.ainvoke(Command(resume="yes"), THREAD, durability=durability)
            states = [state async for state in flow.aget_state_history(THREAD)]
            return [(state.values, state.next) for state in states]

        ends.append(asyncio.run(run()))
    assert ends[0] == ends[1]
    assert ends[0][0] == ({"said": ["go", "yes"], "text": "done"}, ())


# -- time travel ----------------------------------------------------------------------------


def steps(saver: Any) -> Any:
    """Return a graph of three steps that tell how much was said before them."""
    graph: Any = StateGraph(Story)
    names = ["one", "two", "three"]
    for name in names:
        graph.add_node(name, lambda state, name=name: {"said": [f"{name}{len(state['said'])}"]})
    graph.add_edge(START, "one").add_edge("one", "two").add_edge("two", "three")
    return graph.compile(checkpointer=saver)


@pytest.mark.parametrize("back", range(10))
def test_replay_from_any_checkpoint(saver: FmosSaver, back: int) -> None:
    """A run from any old checkpoint goes on from its state, and the old line stays."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph = steps(each)
        for turn in range(2):
            graph.invoke({"said": [f"user{turn}"]}, THREAD)
        states = list(graph.get_state_history(THREAD))
        past = states[back]
        graph.invoke(None, past.config)
        after = list(graph.get_state_history(THREAD))
        old = {state.config["configurable"]["checkpoint_id"]: state.values for state in states}
        kept = {state.config["configurable"]["checkpoint_id"]: state.values for state in after}
        assert kept == kept | old
        ends.append((plain(graph.get_state(THREAD).values), history(graph)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("back", range(10))
def test_fork_of_any_checkpoint_by_update_state(saver: FmosSaver, back: int) -> None:
    """`update_state` on an old checkpoint makes a line of its own that runs to its end."""
    ends = []
    for each in (saver, InMemorySaver()):
        graph = steps(each)
        for turn in range(2):
            graph.invoke({"said": [f"user{turn}"]}, THREAD)
        newest = graph.get_state(THREAD).config
        past = list(graph.get_state_history(THREAD))[back]
        forked = graph.update_state(past.config, {"said": ["by hand"]}, as_node="one")
        result = graph.invoke(None, forked)
        assert graph.get_state(newest).values["said"][-1] == "three7"
        ends.append((result, history(graph)))
    assert ends[0] == ends[1]
    assert ends[0][0]["said"][-2].startswith("two")


def test_history_is_filtered_and_limited(saver: FmosSaver) -> None:
    """`before`, `limit` and `filter` of the history choose what they choose in memory."""
    told = []
    for each in (saver, InMemorySaver()):
        graph = steps(each)
        graph.invoke({"said": ["user"]}, THREAD)
        states = list(graph.get_state_history(THREAD))
        chosen = [
            graph.get_state_history(THREAD, before=states[1].config, limit=2),
            graph.get_state_history(THREAD, filter={"source": "input"}),
            graph.get_state_history(THREAD, limit=0),
            graph.get_state_history(states[2].config),
        ]
        told.append([[state.metadata["step"] for state in found] for found in chosen])
    assert told[0] == told[1]


@pytest.mark.parametrize("waiting", [False, True], ids=["finished", "waiting"])
def test_branch_fork_and_restore_take_a_run_along(tmp_path: Path, waiting: bool) -> None:
    """Both branches go on by themselves, also from a question that waits; restore goes back."""

    def build(fs: AgentFS) -> Any:
        graph: Any = StateGraph(Story)
        graph.add_node("ask", lambda state: {"said": [interrupt("?") if waiting else "answered"]})
        graph.add_edge(START, "ask")
        return graph.compile(checkpointer=FmosSaver.from_fs(fs))

    def turn(flow: Any, text: str) -> list[str]:
        asked = Command(resume=text) if waiting else {"said": [text]}
        return flow.invoke(asked, THREAD)["said"]

    tail = [] if waiting else ["answered"]
    start = ["go", *tail]
    with AgentFS.open(tmp_path / "c.afs") as fs:
        main = build(fs)
        main.invoke({"said": ["go"]}, THREAD)
        fs.snapshot("before")
        fork = build(fs.fork("other"))
        assert turn(main, "in main") == [*start, "in main", *tail]
        assert turn(fork, "in the fork") == [*start, "in the fork", *tail]
        assert main.get_state(THREAD).values["said"] == [*start, "in main", *tail]
        before = len(list(fork.get_state_history(THREAD)))
        fs.restore("before")
        again = build(fs)
        assert again.get_state(THREAD).values["said"] == start
        assert turn(again, "anew") == [*start, "anew", *tail]
        # A saver from before the restore is on the same branch, not on what the branch was.
        assert main.get_state(THREAD).values == again.get_state(THREAD).values
        assert len(list(fork.get_state_history(THREAD))) == before
        assert fork.get_state(THREAD).values["said"] == [*start, "in the fork", *tail]
