"""The agent that the adapter tests run: its contract, its tools, and how it is put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from tests.adapters.scripted import Answer, ScriptedModel

from agentfs import AgentFS
from fmos.client import connect
from fmos.runtime.kernel import Kernel
from fmos.traps.manifest import ToolDescriptor
from fmos.types import Principal, Step
from fmos_langgraph import FmosMiddleware, FmosSaver
from fmos_trust.approvals import Approvals

CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: worker
class: { latency: SRT, slo: { onset_ms: 300, turn_ms: 1200, jitter_p95_pct: 20 } }
capabilities: ["fs.read", "fs.write", "fs.delete", "broken", "big"]
modelPolicy: { allow: ["*"], max_context_tokens: 16000 }
security:
  consent_for: ["fs.delete"]
  paths: { read: ["/work/**"], write: ["/work/**"] }
budgets: { tokens: 50k }
"""

DESCRIPTORS = (
    ToolDescriptor(name="read_file", capability="fs.read", effect="read", roles={"path": "path"}),
    ToolDescriptor(
        name="write_file", capability="fs.write", effect="write",
        roles={"path": "path", "content": "body"},
    ),
    ToolDescriptor(
        name="delete_file", capability="fs.delete", effect="write", roles={"path": "path"}
    ),
    ToolDescriptor(name="broken", effect="read"),
    ToolDescriptor(name="big", effect="read"),
)  # fmt: skip

BIG = "".join(f"line {number}: {number * 37}\n" for number in range(4000))


class Desk:
    """One agent's session: its files, its tools, its steps, and the graph over a model."""

    def __init__(self, kernel: Kernel, session: str = "s1", agent: str = "worker") -> None:
        self.kernel = kernel
        self.principal = Principal(agent=agent, session=session)
        self.client = connect(self.principal, kernel=kernel)
        self.files = kernel.agent_files(self.principal)
        self.files.mkdir("/work", exist_ok=True)
        self.saver = FmosSaver.from_fs(kernel.agent_fs(self.principal))
        self.approvals = Approvals(kernel)
        self.steps: list[Step] = []
        self.ran: list[str] = []
        self.model = ScriptedModel(answer=lambda messages: messages[-1])  # type: ignore[arg-type]

    def tools(self) -> list[BaseTool]:
        """Return the agent's tools; each notes that it ran."""
        functions = (self.read_file, self.write_file, self.delete_file, self.broken, self.big)
        return [StructuredTool.from_function(function) for function in functions]

    def read_file(self, path: str) -> str:
        """Read a file."""
        self.ran.append(f"read {path}")
        return self.files.read_text(path)

    def write_file(self, path: str, content: str) -> str:
        """Write a file."""
        self.ran.append(f"write {path}")
        self.files.write(path, content)
        return f"wrote {path}"

    def delete_file(self, path: str) -> str:
        """Delete a file."""
        self.ran.append(f"delete {path}")
        self.files.remove(path)
        return f"deleted {path}"

    def broken(self) -> str:
        """Fail."""
        raise ZeroDivisionError("as always")

    def big(self) -> str:
        """Print a lot."""
        self.ran.append("big")
        return BIG

    def on_fork(self, files: AgentFS) -> list[BaseTool]:
        """Return the tools that work on nothing but files, over those of a fork."""

        def delete_file(path: str) -> str:
            """Delete a file."""
            self.ran.append(f"delete {path} on {'a fork' if '~' in files.branch else 'itself'}")
            files.remove(path)
            return f"deleted {path}"

        return [StructuredTool.from_function(delete_file)]

    def agent(self, answer: Answer, **settings: Any) -> Any:
        """Return the governed agent over a model that answers by `answer`."""
        self.model = ScriptedModel(answer=answer)
        self.middleware = FmosMiddleware(
            self.client, DESCRIPTORS, on_step=self.steps.append, **settings
        )
        return create_agent(
            self.model,
            self.tools(),
            system_prompt="You are a test.",
            middleware=[self.middleware],
            checkpointer=self.saver,
        )

    @property
    def paths(self) -> list[tuple[str, str, str]]:
        """What the steps say: operation, path and verdict."""
        return [(step.operation, step.path, step.verdict.value) for step in self.steps]


def asked(text: str) -> dict[str, Sequence[HumanMessage]]:
    """Return the input of a run: one message of a user."""
    return {"messages": [HumanMessage(text)]}


def thread(name: str = "t") -> dict[str, Any]:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": name}}
