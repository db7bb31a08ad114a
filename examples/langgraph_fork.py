"""Fork an agent in the middle of a thread: state and files together; run both, keep the better one.

Run it with `python examples/langgraph_fork.py`; it needs no model and no network, asserts what it
shows, and leaves nothing behind.
"""

from __future__ import annotations

import operator
import tempfile
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from agentfs import AgentFS
from fmos_langgraph import FmosSaver

CONFIG: Any = {"configurable": {"thread_id": "cleanup"}}


class Work(TypedDict):
    """What the agent knows; its files are on the branch."""

    task: str
    log: Annotated[list[str], operator.add]


def build(fs: AgentFS, style: str) -> Any:
    """Return an agent on a branch; `style` stands in for what a model would decide."""

    def survey(state: Work) -> dict[str, Any]:
        files = fs.listdir("/notes")
        return {"log": [f"found {', '.join(sorted(files))}"]}

    def act(state: Work) -> dict[str, Any]:
        if style == "bold":
            text = "".join(fs.read_text(f"/notes/{name}") for name in sorted(fs.listdir("/notes")))
            fs.remove("/notes", recursive=True)
            fs.write("/notes.md", text)
            return {"log": ["made one file of all notes"]}
        fs.write("/notes/README", "Three notes.\n")
        return {"log": ["wrote a README"]}

    graph = StateGraph(Work)
    graph.add_node("survey", survey)
    graph.add_node("act", act)
    graph.add_edge(START, "survey")
    graph.add_edge("survey", "act")
    graph.add_edge("act", END)
    # It stops before it acts: the middle of the thread.
    return graph.compile(checkpointer=FmosSaver.from_fs(fs), interrupt_before=["act"])


def main() -> None:
    """Stop in the middle, fork, run both, compare them, and merge one."""
    with (
        tempfile.TemporaryDirectory(prefix="fmos-example-") as folder,
        AgentFS.open(Path(folder) / "agent.afs") as fs,
    ):
        fs.mkdir("/notes")
        for name in ("a", "b", "c"):
            fs.write(f"/notes/{name}.txt", f"note {name}\n")
        careful = build(fs, "careful")
        state = careful.invoke({"task": "Tidy the notes.", "log": []}, CONFIG)
        assert careful.get_state(CONFIG).next == ("act",), state

        # One call forks files and threads; `agentfs fork bold` does the same.
        twin = fs.fork("bold")
        bold = build(twin, "bold")
        assert bold.get_state(CONFIG).values == careful.get_state(CONFIG).values

        # Both go on from the same checkpoint, and neither sees the other.
        logs = {
            "careful": careful.invoke(None, CONFIG)["log"],
            "bold": bold.invoke(None, CONFIG)["log"],
        }
        assert logs["careful"][0] == logs["bold"][0], logs
        assert fs.exists("/notes/README")
        assert not fs.exists("/notes.md")
        assert twin.read_text("/notes.md") == "note a\nnote b\nnote c\n"

        # The bold one is better: the agent takes its whole state, files and thread.
        fs.snapshot("before-bold")
        fs.restore("bold")
        assert fs.read_text("/notes.md") == "note a\nnote b\nnote c\n"
        assert careful.get_state(CONFIG).values["log"] == logs["bold"]
    print(*(f"{name}: {'; '.join(log)}" for name, log in logs.items()), "kept: bold", sep="\n")


if __name__ == "__main__":
    main()
