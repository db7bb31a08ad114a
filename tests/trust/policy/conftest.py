"""A gate over a home into which a test writes trust policies."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmos.clock import FixedClock
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal, Verdict
from fmos_trust.tools import TrustTools

CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: clerk
role: office
capabilities: ["pay", "mail", "save", "look", "sh", "k8s.apply", "query", "fetch"]
"""
TOOLS: list[dict[str, Any]] = [
    {"name": "pay", "effect": "send"},
    {"name": "mail", "effect": "send"},
    {"name": "save", "effect": "write", "capability": "save"},
    {"name": "look", "effect": "read"},
    {"name": "sh", "effect": "execute", "roles": {"command": "command"}},
    {"name": "k8s.apply", "effect": "execute"},
    {"name": "query", "effect": "read"},
    {"name": "fetch", "effect": "read"},
]
HEAD = "apiVersion: agentos/v0.2\nkind: TrustPolicy\nname: {name}\n"

Write = Callable[..., None]
Ask = Callable[..., Verdict]


@pytest.fixture
def clock() -> FixedClock:
    """The kernel's clock, which a test moves."""
    return FixedClock()


@pytest.fixture
def kernel(tmp_path: Path, clock: FixedClock) -> Iterator[Kernel]:
    """A kernel over a fresh home."""
    with Kernel.open(tmp_path / "home", clock) as opened:
        yield opened


@pytest.fixture
def write(kernel: Kernel) -> Write:
    """Put a trust policy of a name into the home; its text stands below kind and name."""

    def put(text: str, name: str = "office") -> None:
        kernel.trust_policies.path.mkdir(parents=True, exist_ok=True)
        path = kernel.trust_policies.path / f"{name}.yaml"
        path.write_text(HEAD.format(name=name) + textwrap.dedent(text), encoding="utf-8")

    return put


@pytest.fixture
def tools(kernel: Kernel) -> TrustTools:
    """The gate's tools, started for the agent `clerk`, with its tools registered."""
    kernel.contracts.save(CONTRACT)
    toolset = TrustTools(kernel, Principal(agent="clerk", session="s1"))
    toolset.call("trust_register_tools", {"tools": TOOLS})
    return toolset


@pytest.fixture
def ask(tools: TrustTools) -> Ask:
    """Check a call of a tool with these arguments."""

    def call(tool: str, **arguments: Any) -> Verdict:
        operation = Operation(kind="tool.call", name=tool, arguments=arguments)  # type: ignore[arg-type]
        given = {"operation": operation.model_dump(mode="json")}
        return Verdict.model_validate(tools.call("trust_check", given))

    return call
