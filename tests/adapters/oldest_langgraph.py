"""Runs under the oldest langgraph 1.x, in another environment: a graph on a volume.

Takes the volume. Prints one JSON object.
"""

import json
import operator
import sys
from importlib.metadata import version
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from fmos_langgraph import FmosSaver


class State(TypedDict):
    """What the graph knows."""

    said: Annotated[list[str], operator.add]


def build(saver: FmosSaver):
    """Return a graph that fans out, asks, and ends."""
    graph: Any = StateGraph(State)
    graph.add_node("word", lambda state: {"said": [state["word"].upper()]})
    graph.add_node("ask", lambda state: {"said": [interrupt("sure?")]})
    graph.add_conditional_edges(
        START, lambda state: [Send("word", {"word": each}) for each in state["said"]], ["word"]
    )
    graph.add_edge("word", "ask")
    return graph.compile(checkpointer=saver)


def main(volume: str) -> None:
    """Print what the graph did before and after its volume was opened again."""
    config: Any = {"configurable": {"thread_id": "t"}}
    with FmosSaver.from_path(volume) as saver:
        asked = build(saver).invoke({"said": ["a", "b"]}, config)["__interrupt__"][0].value
    with FmosSaver.from_path(volume) as saver:
        graph = build(saver)
        said = graph.invoke(Command(resume="yes"), config)["said"]
        history = list(graph.get_state_history(config))
        saver.copy_thread("t", "copy")
        saver.prune(["t"])
        copied = graph.get_state({"configurable": {"thread_id": "copy"}}).values["said"]
        kept = graph.get_state(config).values["said"]
        left = len(list(saver.list(config)))
    seen = {
        "langgraph": version("langgraph"), "checkpoint": version("langgraph-checkpoint"),
        "asked": asked, "said": said, "steps": len(history), "copied": copied, "kept": kept,
        "left": left,
    }  # fmt: skip
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
