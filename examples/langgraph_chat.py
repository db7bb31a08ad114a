"""A chat with a tool whose threads live in one file: stop, go on, look back, branch off, prune.

Run it with `python examples/langgraph_chat.py`; it needs no model and no network, asserts what it
shows, and leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from fmos_langgraph import FmosSaver

STOCK = {"bolts": 120, "nuts": 80}


@tool
def count_of(part: str) -> str:
    """Say how many of a part are in stock."""
    return f"{STOCK[part]} {part}"


def answer(messages: Sequence[BaseMessage]) -> AIMessage:
    """Stand in for a chat model: look a part up, then say what was found."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return AIMessage(f"There are {last.text}.")
    part = next((each for each in STOCK if each in last.text), None)
    if part is None:
        asked = sum(message.type == "human" for message in messages)
        return AIMessage(f"You have asked me {asked} things.")
    call = {"name": "count_of", "args": {"part": part}, "id": f"call-{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def reply(state: MessagesState) -> dict[str, Any]:
    """Call the model."""
    return {"messages": [answer(state["messages"])]}


def build(saver: FmosSaver) -> Any:
    """Return the graph; the checkpointer is the only line about FMOS."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", reply)
    graph.add_node("tools", ToolNode([count_of]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, ["tools", END])
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver)


def ask(graph: Any, config: Any, text: str) -> str:
    """Say something in a thread and return the reply."""
    return graph.invoke({"messages": [("user", text)]}, config)["messages"][-1].text


def main() -> None:
    """Chat, stop, go on, look back, and prune."""
    config: Any = {"configurable": {"thread_id": "stock"}}
    with tempfile.TemporaryDirectory(prefix="fmos-example-") as folder:
        volume = Path(folder) / "agent.afs"
        with FmosSaver.from_path(volume) as saver:
            graph = build(saver)
            print(ask(graph, config, "How many bolts?"))
            print(ask(graph, config, "And nuts?"))

        # Another process would open the file just so; the thread goes on.
        with FmosSaver.from_path(volume) as saver:
            graph = build(saver)
            said = ask(graph, config, "What did I ask?")
            assert said == "You have asked me 3 things.", said

            # Time travel: the same question again, from before the nuts.
            history = list(graph.get_state_history(config))
            before = next(
                each for each in history if not each.next and len(each.values["messages"]) == 4
            )
            other = ask(graph, before.config, "What did I ask?")
            assert other == "You have asked me 2 things.", other

            # A copy of a thread shares all bytes; the original is pruned and the copy is not.
            saver.copy_thread("stock", "copy")
            gone = saver.keep_last("stock", 1)
            assert ask(graph, config, "What did I ask?") == "You have asked me 3 things."
            copied = len(list(saver.list({"configurable": {"thread_id": "copy"}})))
            assert copied == gone + 1, (copied, gone)
        print(said, other, f"{gone} checkpoints pruned, {copied} in the copy", sep="\n")


if __name__ == "__main__":
    main()
