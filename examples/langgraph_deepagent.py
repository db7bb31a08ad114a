"""A deep agent whose files are a branch: try something, look at it, throw it away or take it over.

Run it with `python examples/langgraph_deepagent.py`, after `pip install "fmos[deepagents]"`. It
needs no model and no network, asserts what it shows, and leaves nothing behind.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

from agentfs import AgentFS
from fmos_langgraph import FmosSaver

try:
    from deepagents import create_deep_agent  # pyright: ignore[reportMissingImports] - an extra

    from fmos_langgraph.deepagents import FmosBackend
except ImportError:
    sys.exit('this example needs deepagents: run `pip install deepagents` (or "fmos[deepagents]")')


class ScriptedModel(GenericFakeChatModel):
    """A model that gives prepared answers; put your own chat model in its place."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> ScriptedModel:
        """Take the tools and go on as before."""
        return self


def use(tool: str, **arguments: str) -> AIMessage:
    """Return an answer that calls one tool."""
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": tool}])


PLAN = "# Plan\n- ship on friday\n"
ANSWERS = (
    use("write_file", file_path="/notes/plan.md", content=PLAN),
    use("edit_file", file_path="/notes/plan.md", old_string="friday", new_string="monday"),
    use("grep", pattern="monday", output_mode="content"),
    AIMessage("The plan says monday now."),
)


def run(volume: Path) -> None:
    """Let an agent work on a branch of its own, and show what it did there."""
    with AgentFS.open(volume) as fs:
        fs.mkdir("/project")
        fs.write("/project/readme.md", "hello\n")
        branch = fs.fork("try")  # costs nothing, however many files there are
        agent: Any = create_deep_agent(
            model=ScriptedModel(messages=iter(ANSWERS)),
            backend=FmosBackend(branch, root="/project"),
            checkpointer=FmosSaver.from_fs(branch),  # the thread forks and rewinds with the files
        )
        config: Any = {"configurable": {"thread_id": "plan"}}
        result = agent.invoke({"messages": [("user", "when do we ship?")]}, config)
        for message in result["messages"]:
            if isinstance(message, ToolMessage):
                print(f"{message.name}: {str(message.content).splitlines()[0]}")

        print("\nwhat it changed:")
        for change in fs.diff("main", "try", "/project"):
            print(f"  {change.kind:8} {change.path}")
        assert branch.read_text("/project/notes/plan.md") == PLAN.replace("friday", "monday")
        assert fs.listdir("/project") == ["readme.md"], "main is as it was"

        fs.merge("try")  # or fs.delete_branch("try")
        assert fs.listdir("/project") == ["notes", "readme.md"]
        print("\nmerged into main")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "agent.afs")
