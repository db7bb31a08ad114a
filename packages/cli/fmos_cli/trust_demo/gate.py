"""The scripted agent's way to the gate: each call is checked, run here, and settled."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from fmos.client import Client
from fmos.types import Operation, OperationKind, Verdict, new_id

#: The tools of the agent's application, as it registers them.
TOOLS: tuple[dict[str, Any], ...] = (
    {
        "name": "read_mail", "capability": "mail.read", "effect": "read",
        "description": "Read one e-mail of the inbox by its id.",
        "input_schema": {"type": "object", "properties": {"id": {"type": "string"}}},
    },
    {
        "name": "read_file", "capability": "fs.read", "effect": "read",
        "roles": {"path": "path"}, "description": "Read a file.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    },
    {
        "name": "send_mail", "capability": "message.send", "effect": "send",
        "roles": {"to": "recipient", "body": "body"}, "description": "Send an e-mail.",
        "input_schema": {
            "type": "object",
            "properties": {"to": {"type": "string"}, "body": {"type": "string"}},
        },
    },
    {
        "name": "tidy", "capability": "fs.write", "effect": "write",
        "roles": {"path": "path"}, "description": "Remove the drafts in a folder.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    },
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story: what happened in which layer, and what was said of it."""

    layer: str
    what: str
    verdict: str
    said: str = ""
    change: str = ""
    ms: float | None = None


@dataclass
class Agent:
    """A scripted agent: it does what its script says, also what a stranger's text told it to."""

    client: Client
    session: str
    lines: list[Line] = field(default_factory=list)

    def register(self, tools: tuple[dict[str, Any], ...] = TOOLS) -> None:
        """Tell the gate of the tools."""
        self.client.call("trust_register_tools", {"tools": list(tools)})

    def hear(self, source: str, text: str, operation: str = "") -> None:
        """Report what entered the session."""
        observation = {"source": source, "text": text, "operation": operation}
        self.client.call("trust_observe", {"settled": [{"observation": observation}]})

    def check(
        self, tool: str, *, id: str = "", approval: str = "", effect: str = "", **arguments: Any
    ) -> tuple[Verdict, float]:
        """Let the gate judge a call; return the verdict, and how long it took in milliseconds."""
        operation = Operation(
            id=id or new_id(), kind=OperationKind.TOOL_CALL, name=tool, arguments=arguments
        )
        given = {
            "operation": operation.model_dump(mode="json"), "approval": approval, "effect": effect,
        }  # fmt: skip
        start = time.perf_counter()
        answer = self.client.call("trust_check", given)
        return Verdict.from_answer(answer), (time.perf_counter() - start) * 1000

    def read(self, tool: str, output: str, **arguments: Any) -> Verdict:
        """Do a call that reads: checked, its output observed, settled."""
        verdict, _ = self.check(tool, **arguments)
        if verdict.allowed:
            outcome = {"operation": verdict.operation, "status": "ok"}
            observation = {"source": tool, "text": output, "operation": verdict.operation}
            self.client.call("trust_settle", {"outcome": outcome, "observation": observation})
        return verdict

    def tell(self, layer: str, what: str, verdict: Verdict, ms: float | None = None) -> Verdict:
        """Put a verdict on the timeline."""
        first = verdict.reasons[0] if verdict.reasons else None
        said, change = (first.message, first.change) if first else ("", "")
        self.lines.append(Line(layer, what, verdict.decision.value, said, change, ms))
        return verdict

    def note(self, layer: str, what: str, verdict: str, said: str = "") -> None:
        """Put something else on the timeline."""
        self.lines.append(Line(layer, what, verdict, said))
