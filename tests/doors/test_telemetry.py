"""Trace context at the doors: the socket's quick way takes it, and none of it breaks a call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from fmos.client.messages import headers
from fmos.runtime.kernel import Kernel
from fmos.serving.app import build_server, launch_principal
from fmos.serving.discovery import discover
from fmos.serving.protocol import ToolServer
from fmos.serving.socket_door import SocketDoor

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
    "fmos/principal": {"agent": "ada", "session": "s1"},
}
ADMIT = {"operation": {"kind": "model.generate", "name": "m"}}


@pytest.fixture
def server(kernel: Kernel) -> ToolServer:
    """The server of all tools, in this process."""
    return build_server(*(cls(kernel) for cls in discover().require().values()))


def through_socket(server: ToolServer, meta: dict[str, Any]) -> dict[str, Any] | None:
    """Send one call to a socket door; return its own answer, or None if it was left to the SDK."""
    params = {"name": "budget_admit", "arguments": ADMIT, "_meta": {**META, **meta}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    body = json.dumps(message).encode()
    sent: list[bytes] = []

    async def sdk(scope: Any, receive: Any, send: Any) -> None:
        sent.clear()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))

    chosen = {"Host": "localhost", "Content-Length": str(len(body))}
    chosen |= headers("tools/call", "budget_admit")
    pairs = [(name.lower().encode(), value.encode()) for name, value in chosen.items()]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": pairs}
    anyio.run(SocketDoor(sdk, {"/mcp": server}), scope, receive, send)
    return json.loads(b"".join(sent)) if sent else None


def last_trace(kernel: Kernel) -> str:
    """Return the trace of the last intent row."""
    return list(kernel.volume("default").journal(operation="op.intent"))[-1].detail["trace"]


def test_the_quick_way_takes_trace_context(server: ToolServer, kernel: Kernel) -> None:
    """A call with the three keys is answered without the SDK, and its row has the trace."""
    meta = {"traceparent": PARENT, "tracestate": "rojo=1", "baggage": "user=ada"}
    answer = through_socket(server, meta)
    assert answer is not None
    assert not answer["result"].get("isError")
    assert last_trace(kernel) == TRACE
    assert through_socket(server, {"traceparents": PARENT}) is None


@pytest.mark.parametrize(
    "meta",
    [
        {"traceparent": "00-nothing"},
        {"traceparent": 7},
        {"traceparent": {"a": []}},
        {"traceparent": PARENT, "tracestate": ["x"], "baggage": 3},
        {"traceparent": PARENT, "tracestate": "=,=,", "baggage": "=;=,%"},
        {"traceparent": "0" * 100_000},
    ],
    ids=["text", "number", "object", "others", "odd others", "long"],
)
@pytest.mark.parametrize("told", [False, True], ids=["off", "on"])
def test_malformed_context_breaks_no_call(
    server: ToolServer, kernel: Kernel, meta: dict[str, Any], told: bool
) -> None:
    """Whatever is in the three keys, the call is made, and its row has a trace."""
    from fmos import telemetry

    if told:
        sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra `otel`")
        telemetry.attach(sdk.TracerProvider(shutdown_on_exit=False))
    try:
        answer = through_socket(server, meta)
    finally:
        telemetry.shutdown(0)
    assert answer is not None
    assert not answer["result"].get("isError")
    assert (last_trace(kernel) == TRACE) == (meta["traceparent"] == PARENT)
    assert len(last_trace(kernel)) == 32


def test_a_stdio_server_tells_of_its_calls(home: Path) -> None:
    """A server on stdio has one span for each call, with its door and whom it was launched for."""
    pytest.importorskip("opentelemetry.sdk", reason="needs the extra `otel`")
    from tests.core.otlp_lines import spans

    from .conftest import launch, stdio_call

    (home / "fmos.toml").write_text('[telemetry]\nexporter = "file"\n')
    with stdio_call("fmos_memory", home) as call:
        call("memory_write", {"text": "remember"})
    told = spans(home / "telemetry.jsonl")
    (span,) = [each for each in told if each.name == "tools/call memory_write"]
    assert (span.service, span.kind) == ("fmos-memory", "server")
    who = launch_principal(launch(home))
    assert span.attributes["fmos.agent"] == who.agent
    assert span.attributes["fmos.door"] == "stdio"
    assert span.attributes["network.transport"] == "pipe"
