"""The four stdio commands, driven by the official client of this year and by one of mcp 1.x."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from mcp import Client, StdioServerParameters

from .conftest import launch

MCP1 = "mcp>=1.24,<2"
OLD_CLIENT = Path(__file__).with_name("mcp1_client.py")


class Server(NamedTuple):
    """One command: its module, its tools, and one call with what must come back."""

    module: str
    tools: set[str]
    tool: str
    arguments: dict[str, Any]
    field: str


SERVERS = (
    Server(
        "fmos_memory",
        {"memory_write", "memory_search", "memory_get"},
        "memory_write",
        {"text": "hello"},
        "id",
    ),
    Server(
        "fmos_context",
        {"context_open", "context_append", "context_compose", "context_read"},
        "context_open",
        {"system": "be brief"},
        "session",
    ),
    Server(
        "fmos_trust",
        {
            "trust_check",
            "trust_settle",
            "trust_observe",
            "trust_table",
            "trust_pending",
            "trust_register_tools",
            "trust_policy_dry_run",
            "trust_explain",
            "audit_query",
            "audit_verify",
        },
        "trust_check",
        {"operation": {"kind": "tool.call", "name": "fs.read", "arguments": {"path": "/a"}}},
        "decision",
    ),
    Server(
        "fmos_budget",
        {"set_reasoning_level", "budget_admit", "budget_settle", "budget_status"},
        "budget_status",
        {},
        "balances",
    ),
)

every_server = pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.module)


@every_server
def test_official_client(server, home):
    """mcp.Client 2.x lists typed, annotated tools and calls one; a wrong argument is one line."""

    async def talk() -> None:
        command = StdioServerParameters(
            command=sys.executable, args=["-m", server.module], env=launch(home)
        )
        async with Client(command) as client:
            assert client.protocol_version == "2026-07-28"
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == server.tools
            for tool in tools:
                _complete(tool.model_dump(mode="json", by_alias=True))
            result = await client.call_tool(server.tool, server.arguments)
            assert not result.is_error
            assert server.field in result.structured_content
            wrong = await client.call_tool(server.tool, {**server.arguments, "bogus": 1})
            assert wrong.is_error
            assert wrong.content[0].text == "there is no argument 'bogus'"

    anyio.run(talk)


@every_server
def test_old_client(server, home, mcp1_python):
    """A client on mcp 1.x, in an environment of its own, lists and calls the same tools."""
    command = [str(mcp1_python), str(OLD_CLIENT), server.tool, json.dumps(server.arguments)]
    # Its own packages must not be ours: the server's come back through the server's command line.
    environment = {**launch(home), "PYTHONPATH": ""}
    answer = subprocess.run(
        [*command, "env", f"PYTHONPATH={os.pathsep.join(sys.path)}", sys.executable, "-m",
         server.module],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert seen["protocol"] == "2025-11-25"
    assert {tool["name"] for tool in seen["tools"]} == server.tools
    for tool in seen["tools"]:
        _complete(tool)
    assert not seen["is_error"]
    assert server.field in seen["structured"]
    assert seen["wrong_is_error"]
    assert "\n" not in seen["wrong"]


@every_server
def test_help_and_version(server):
    """`--help` and `--version` answer without a home."""
    for option in ("--help", "--version"):
        command = [sys.executable, "-m", server.module, option]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "fmos-" in shown.stdout


def test_home_is_a_file(tmp_path):
    """A command whose home is a file ends with one sentence and exit code 3."""
    (tmp_path / "home").write_text("")
    ended = _run(tmp_path / "home")
    assert ended.returncode == 3
    assert len(ended.stderr.splitlines()) == 1
    assert "FMOS_HOME" in ended.stderr


def test_agent_that_is_no_id(tmp_path):
    """A launch id that no id can be is named with its variable."""
    ended = _run(tmp_path / "home", FMOS_AGENT="../ada")
    assert ended.returncode == 6
    assert ended.stderr.startswith("fmos-memory: FMOS_AGENT is not an id")
    assert not (tmp_path / "home" / "kernel.db").exists()


def _run(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fmos_memory"],
        env={**os.environ, "FMOS_HOME": str(home), **variables},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _complete(tool: dict[str, Any]) -> None:
    """A tool says what it is, when to use it, its four hints and the type of what it returns."""
    assert tool["title"]
    assert "Use " in tool["description"]
    hints = tool["annotations"]
    for hint in ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"):
        assert isinstance(hints[hint], bool)
    assert tool["outputSchema"]["properties"]
    assert tool["inputSchema"]["additionalProperties"] is False


@pytest.fixture(scope="session")
def mcp1_python(cached_venv: Callable[..., Path]) -> Path:
    """The Python of an environment with mcp 1.x."""
    return cached_venv("mcp1", MCP1)
