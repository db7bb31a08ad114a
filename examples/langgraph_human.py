"""A person approves, and the process is killed twice: the thread goes on, and nothing runs twice.

Run it with `python examples/langgraph_human.py`; it starts itself as the processes that are killed.
It needs no model and no network, asserts what it shows, and leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from fmos_langgraph import FmosSaver

CONFIG: Any = {"configurable": {"thread_id": "letter"}}


class Letter(TypedDict):
    """A letter on its way."""

    text: str
    approved_by: str
    archived: bool


def build(saver: FmosSaver, *, fragile: bool) -> Any:
    """Return the graph; a fragile one loses its power while it archives."""

    def write(state: Letter) -> dict[str, Any]:
        return {"text": "Dear Ada, ..."}

    def approve(state: Letter) -> dict[str, Any]:
        return {"approved_by": interrupt({"question": "Send it?", "text": state["text"]})}

    def send(state: Letter) -> dict[str, Any]:
        # What must happen once: a line in the outbox, a file beside the thread.
        saver.fs.append("/outbox.txt", f"{state['text']} (approved by {state['approved_by']})\n")
        return {}

    def archive(state: Letter) -> dict[str, Any]:
        if fragile:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"archived": True}

    graph = StateGraph(Letter)
    graph.add_sequence([write, approve, send, archive])
    graph.add_edge(START, "write")
    graph.add_edge("archive", END)
    return graph.compile(checkpointer=saver)


def work(volume: str, doing: str) -> None:
    """Do one process's part: `ask`, `answer` or `finish`."""
    with FmosSaver.from_path(volume) as saver:
        graph = build(saver, fragile=doing == "answer")
        if doing == "ask":
            graph.invoke({}, CONFIG, durability="sync")
            os.kill(os.getpid(), signal.SIGKILL)  # nobody shuts anything down
        asked = Command(resume="grace") if doing == "answer" else None
        # "sync" has each step in the file before the next one begins.
        graph.invoke(asked, CONFIG, durability="sync")


def main() -> None:
    """Run the three processes, and look at the file after each."""
    with tempfile.TemporaryDirectory(prefix="fmos-example-") as folder:
        volume = str(Path(folder) / "agent.afs")

        def run(doing: str) -> int:
            return subprocess.run([sys.executable, __file__, volume, doing], check=False).returncode

        assert run("ask") == -signal.SIGKILL
        with FmosSaver.from_path(volume) as saver:
            state = build(saver, fragile=False).get_state(CONFIG)
            question = state.interrupts[0].value["question"]
            assert state.next == ("approve",), state
        assert run("answer") == -signal.SIGKILL
        with FmosSaver.from_path(volume) as saver:
            assert build(saver, fragile=False).get_state(CONFIG).next == ("archive",)
        assert run("finish") == 0
        with FmosSaver.from_path(volume) as saver:
            state = build(saver, fragile=False).get_state(CONFIG)
            assert state.values["archived"], state
            outbox = saver.fs.read_text("/outbox.txt")
            assert outbox.count("\n") == 1, outbox
    print(f"{question} Killed twice; sent once: {outbox}", end="")


if __name__ == "__main__":
    work(*sys.argv[1:]) if len(sys.argv) > 1 else main()
