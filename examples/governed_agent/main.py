"""A LangGraph agent of your own under FMOS, in one file: contract, tools, approval, fork, audit.

Run it with `python examples/governed_agent/main.py`; it needs no model and no network, asserts what
it shows, and leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.types import Command

from agentfs import AgentFS
from fmos.audit.record import verify
from fmos.client import connect
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal, Step
from fmos_langgraph import FmosMiddleware, FmosSaver
from fmos_trust.approvals import Approvals

CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: clerk
class: { latency: DT }
capabilities: ["fs.read", "fs.write", "fs.remove"]
security:
  consent_for: ["fs.remove"]
  paths: { write: ["/work/**"] }
budgets: { tokens: 50k }
"""

DESCRIPTORS = (
    ToolDescriptor(
        name="write_file", capability="fs.write", effect="write", roles={"path": "path"}
    ),
    ToolDescriptor(name="read_file", capability="fs.read", effect="read", roles={"path": "path"}),
    ToolDescriptor(
        name="remove_file", capability="fs.remove", effect="write", roles={"path": "path"}
    ),
)


class PlayedModel(GenericFakeChatModel):
    """Plays the messages it was given, one for each call."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> PlayedModel:
        """Return the model itself: the messages name the tools."""
        return self


def main() -> None:
    """Run the agent, deny it something, approve something, fork it, and check the journal."""
    steps: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="fmos-example-") as home, Kernel.open(home) as kernel:
        kernel.contracts.save(CONTRACT)
        who = Principal(agent="clerk", session="monday")
        files = kernel.agent_files(who)
        files.mkdir("/work")
        files.write("/work/old.txt", "of no use\n")
        client = connect(who, transport="inprocess", kernel=kernel)
        graph = create_agent(
            PlayedModel(messages=plays()),
            file_tools(files),
            middleware=[
                FmosMiddleware(
                    client, DESCRIPTORS, on_step=steps.append, decide=Approvals(kernel).decide
                )
            ],
            checkpointer=FmosSaver.from_fs(kernel.agent_fs(who)),
        )
        config: Any = {"configurable": {"thread_id": "monday"}}
        task: Any = {"messages": [("user", "Tidy up.")]}
        state = graph.invoke(task, config)

        # The write outside the contract's scope was refused, with the reason for the model.
        refused = next(m.text for m in state["messages"] if isinstance(m, ToolMessage))
        assert "/etc/motd" in refused, refused
        assert not files.exists("/etc/motd")
        # Removing needs consent: the run stopped, and nothing has happened yet.
        question = state["__interrupt__"][0].value
        assert question["tool"] == "remove_file", question
        assert files.exists("/work/old.txt")
        # A person says yes; the run goes on where it stopped.
        graph.invoke(Command(resume={"approved": True, "approver": "you"}), config)
        assert not files.exists("/work/old.txt")

        client.call("memory_write", {"text": "The clerk tidied up on Monday."})
        twin = kernel.fork_agent(who, "clerk-twin")
        kernel.agent_files(twin).write("/work/new.txt", "only in the fork\n")
        hits = connect(twin, transport="inprocess", kernel=kernel).call(
            "memory_search", {"query": "tidied"}
        )["hits"]
        assert [hit["text"] for hit in hits] == ["The clerk tidied up on Monday."]
        changes = [change.path for change in files.diff("clerk", "clerk-twin")]
        assert "/work/new.txt" in changes, changes
        assert not files.exists("/work/new.txt")

        found = verify(kernel, who.tenant)
        assert found["ok"], found
        verdicts = [f"{step.operation}: {step.verdict}" for step in steps]
        assert "tool.call write_file: deny" in verdicts, verdicts
        assert "tool.call remove_file: ask" in verdicts, verdicts
    print(*verdicts, f"journal: {found['rows']} rows, unbroken", sep="\n")


def plays() -> Iterator[AIMessage]:
    """Yield what the model says: two calls, then an answer."""
    yield call("write_file", path="/etc/motd", text="hello\n")
    yield call("remove_file", path="/work/old.txt")
    yield AIMessage("Tidied up.")


def call(name: str, **arguments: str) -> AIMessage:
    """Return a message that calls one tool."""
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call-{name}"}])


def file_tools(files: AgentFS) -> list[BaseTool]:
    """Return tools on the agent's branch of the volume."""

    @tool
    def write_file(path: str, text: str) -> str:
        """Write a file."""
        files.write(path, text)
        return f"wrote {path}"

    @tool
    def read_file(path: str) -> str:
        """Read a file."""
        return files.read_text(path)

    @tool
    def remove_file(path: str) -> str:
        """Remove a file."""
        files.remove(path)
        return f"removed {path}"

    return [write_file, read_file, remove_file]


if __name__ == "__main__":
    main()
