"""A gate over a fresh home with one contract, and a way to call tools by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal, Verdict
from fmos_trust.tools import TrustTools

CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: writer
capabilities: ["fs.read", "fs.write", "process.run", "message.send", "web.fetch"]
security:
  consent_for: ["destructive", "web.fetch"]
  paths: { read: ["/src/**", "/out/**"], write: ["/out/**"] }
  recipients: ["*@example.com"]
"""

TOOLS: list[dict[str, Any]] = [
    {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
    {
        "name": "write_file",
        "capability": "fs.write",
        "effect": "write",
        "roles": {"path": "path", "text": "body"},
    },
    {
        "name": "run",
        "capability": "process.run",
        "effect": "execute",
        "roles": {"command": "command"},
    },
    {
        "name": "send",
        "capability": "message.send",
        "effect": "send",
        "roles": {"to": "recipient", "text": "body"},
    },
]

Check = Callable[..., Verdict]


@pytest.fixture
def tools(kernel: Kernel) -> TrustTools:
    """The gate's tools, started for the agent `writer`, with four tools registered."""
    kernel.contracts.save(CONTRACT)
    toolset = TrustTools(kernel, Principal(agent="writer", session="s1"))
    toolset.call("trust_register_tools", {"tools": TOOLS})
    return toolset


@pytest.fixture
def check(tools: TrustTools) -> Check:
    """Check a call of a tool with these arguments."""

    def call(name: str, approval: str = "", settled: Any = (), **arguments: Any) -> Verdict:
        operation = Operation(kind="tool.call", name=name, arguments=arguments)  # type: ignore[arg-type]
        given = {
            "operation": operation.model_dump(mode="json"),
            "approval": approval,
            "settled": list(settled),
        }
        return Verdict.model_validate(tools.call("trust_check", given))

    return call
