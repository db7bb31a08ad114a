"""The gate asks a person through the client, where the client says that it can."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import ElicitRequestParams, ElicitResult

from fmos.client import connect
from fmos.runtime.kernel import Kernel
from fmos.serving.app import build_server
from fmos.types import Principal
from fmos_trust.approvals import Approvals
from fmos_trust.tools import TrustTools

WHO = Principal(agent="ada", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: ["fs.write"]
security: { consent_for: ["fs.write"] }
"""
TOOL = {"name": "write_file", "capability": "fs.write", "effect": "write"}
OPERATION = {"id": "0" * 32, "kind": "tool.call", "name": "write_file",
             "arguments": {"path": "/a.txt", "text": "hi \u202e"}}  # fmt: skip
ERAS = ["legacy", "2026-07-28"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an agent whose writes are asked about."""
    with Kernel.open(tmp_path / "home") as kernel:
        kernel.contracts.save(CONTRACT)
        with connect(WHO, kernel=kernel) as client:
            client.call("trust_register_tools", {"tools": [TOOL]})
    return tmp_path / "home"


def check(
    home: Path,
    era: str,
    answer: Callable[[str], ElicitResult] | None,
    settled: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Put a write to the gate, with a client that answers its questions."""
    with Kernel.open(home) as kernel:
        server = build_server(TrustTools(kernel, WHO))
        return talk(server, era, answer, settled)


def talk(
    server: Any,
    era: str,
    answer: Callable[[str], ElicitResult] | None,
    settled: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Let the SDK's own client put the write to a server."""

    async def ask(context: Any, params: ElicitRequestParams) -> ElicitResult:
        assert answer is not None
        return answer(params.message)

    async def run() -> dict[str, Any]:
        given = {"elicitation_callback": ask} if answer is not None else {}
        with anyio.fail_after(60):
            async with Client(server, mode=era, **given) as client:
                arguments = {"operation": OPERATION, "settled": settled or []}
                found = await client.call_tool("trust_check", arguments)
        assert found.structured_content is not None, found
        return found.structured_content

    return anyio.run(run)


def says(action: str, **content: Any) -> Callable[[str], ElicitResult]:
    """Return a person who always answers the same."""
    return lambda message: ElicitResult(action=action, content=content or None)  # type: ignore[arg-type]


@pytest.mark.parametrize("era", ERAS)
def test_a_yes_lets_it_run(home: Path, era: str) -> None:
    """The person sees what a terminal would show; the verdict is not a question any more."""
    seen: list[str] = []

    def answer(message: str) -> ElicitResult:
        seen.append(message)
        return ElicitResult(action="accept", content={"approve": True, "comment": "fine"})

    verdict = check(home, era, answer)
    assert verdict["decision"] == "allow", verdict
    (message,) = seen
    for part in ("write_file", "agent ada", "/a.txt", "hi \\u202e", "consent", "s left"):
        assert part in message, message
    assert "\u202e" not in message
    with Kernel.open(home) as kernel:
        (row,) = kernel.agent_fs(WHO).journal(operation="approval.decide")
        assert row.detail["approver"].startswith("client:")


def test_a_server_on_stdio_asks(home: Path) -> None:
    """It is the same with the process that a client starts."""
    environ = {**os.environ, "FMOS_HOME": str(home), "FMOS_AGENT": "ada", "FMOS_SESSION": "s1"}
    server = StdioServerParameters(command=sys.executable, args=["-m", "fmos_trust"], env=environ)
    assert talk(server, "auto", says("accept", approve=True))["decision"] == "allow"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        (says("decline"), "deny"),
        (says("accept", approve=False, comment="not now"), "deny"),
        (says("accept", approve="yes"), "deny"),
        (says("accept"), "deny"),
        (says("cancel"), "ask"),
    ],
)
def test_anything_but_a_plain_yes_does_not(
    home: Path, era: str, answer: Callable[[str], ElicitResult], decision: str
) -> None:
    """A no is a no; who goes away leaves the call waiting for `fmos approve`."""
    verdict = check(home, era, answer)
    assert verdict["decision"] == decision, verdict
    with Kernel.open(home) as kernel:
        assert len(Approvals(kernel).pending()) == (decision == "ask")


@pytest.mark.parametrize("era", ERAS)
def test_a_client_that_cannot_ask_gets_the_question(home: Path, era: str) -> None:
    """Without the capability the verdict is that a person must be asked."""
    assert check(home, era, None)["decision"] == "ask"


def test_it_is_a_setting(home: Path) -> None:
    """A home may want its questions answered at a terminal only."""
    (home / "fmos.toml").write_text("[trust]\nelicit = false\n")
    assert check(home, "2026-07-28", says("accept", approve=True))["decision"] == "ask"


def test_only_named_people_answer(home: Path) -> None:
    """Where the settings say who may answer, a client is none of them."""
    (home / "fmos.toml").write_text('[trust]\napprovers = ["user:ann"]\n')
    assert check(home, "2026-07-28", says("accept", approve=True))["decision"] == "ask"


@pytest.mark.parametrize("era", ERAS)
def test_what_ran_before_is_noted_once(home: Path, era: str) -> None:
    """A question in the middle of a call does not count what the call brought twice."""
    ran = {"operation": {**OPERATION, "id": "1" * 32}, "outcome": {
        "operation": "1" * 32, "status": "ok"}}  # fmt: skip
    check(home, era, says("accept", approve=True), [ran])
    with Kernel.open(home) as kernel:
        rows = kernel.agent_fs(WHO).journal(operation="op.outcome")
        assert [row.detail["id"] for row in rows] == ["1" * 32]
