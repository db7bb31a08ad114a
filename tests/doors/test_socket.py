"""The unix socket: whose word counts, that its fast path says what the SDK says, and faults."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import apsw
import httpx
import pytest

from fmos.audit.record import verify
from fmos.client import Client, connect
from fmos.client.messages import headers
from fmos.client.unix_socket import UnixSocket
from fmos.errors import (
    ArgumentError,
    BudgetExceededError,
    NotFoundError,
    PrincipalError,
    ServerUnreachableError,
)
from fmos.runtime.kernel import Kernel
from fmos.serving.app import build_server
from fmos.serving.discovery import discover
from fmos.serving.protocol import ToolServer
from fmos.serving.socket_door import SocketDoor
from fmos.types import Principal

from .conftest import CONTRACT, PRINCIPAL, daemon

ACME = Principal(tenant="acme", application="crm", agent="ada", session="s1")
RUN = {
    "name": "run",
    "capability": "process.run",
    "effect": "execute",
    "roles": {"command": "command"},
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
WHO = {"fmos/principal": {"agent": "ada", "session": "s1"}}


@pytest.fixture(scope="module")
def served() -> Iterator[Path]:
    """A home with a daemon, for tests that leave both as they were."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        home = Path(folder)
        (home / "contracts").mkdir()
        (home / "contracts" / "ada.yaml").write_text(CONTRACT)
        with daemon(home, "--no-http"):
            yield home


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[ToolServer]:
    """The server of all tools, in this process."""
    with Kernel.open(served) as kernel:
        yield build_server(*(cls(kernel) for cls in discover().require().values()))


def _operation(number: int, **more: Any) -> dict[str, Any]:
    call = {"kind": "tool.call", "name": "run", "arguments": {"command": "make test"}}
    return {**call, "id": f"{number:032x}", **more}


def _daemon_client(home: Path, who: Principal = PRINCIPAL) -> Client:
    return connect(who, home=home, transport="daemon")


def test_any_principal_over_the_socket(served):
    """Tenant, application and session reach the daemon as the client was launched with them."""
    with connect(ACME, home=served) as client, _daemon_client(served) as other:
        assert client.where == f"unix:{served / 'run' / 'fmos.sock'}"
        item = client.call("memory_write", {"text": "acme's own secret plan"})
        assert other.call("memory_search", {"query": "secret plan"}) == {"hits": []}
        with pytest.raises(NotFoundError):
            other.call("memory_get", {"id": item["id"]})
        with connect(ACME, home=served, transport="inprocess") as local:
            assert local.call("memory_get", {"id": item["id"]}) == item
            assert client.public_key == local.public_key != other.public_key
        for arguments in ({"agent": "bob"}, {"agent": "ada", "session": "s2"}):
            with pytest.raises(PrincipalError, match="this call is made for"):
                client.call("context_open", arguments)


def test_raw_client_is_the_default_tenants(served):
    """A client that says nothing of itself names an agent of the default tenant by argument."""
    bare = _post(served, "budget_status", {"agent": "ada", "session": "s9"}, META)["result"]
    named = bare["structuredContent"]["account"]
    assert "default" in named
    assert "s9" in named
    nobody = _post(served, "budget_status", {}, META)["result"]
    assert nobody["content"][0]["text"].startswith("argument 'agent' is missing")


SAME: tuple[tuple[str, Any], ...] = (
    ("memory_search", {"query": "naïve ☃ plan"}),
    ("memory_search", {"query": "x", "limit": 1000}),
    ("memory_search", {}),
    ("memory_search", {"query": "x", "limt": 3}),
    ("memory_search", {"query": "x", "agent": "bob"}),
    ("memory_get", {"id": "nothing"}),
    ("memory_wirte", {"text": "x"}),
    ("budget_status", {}),
    ("budget_admit", {"operation": {**_operation(1), "kind": "model.generate"}}),
    ("set_reasoning_level", {"model": "gpt-5.2", "level": "high"}),
    ("set_reasoning_level", {"model": "gpt-5.2", "level": '"high"'}),
    ("context_open", {"system": "be brief", "max_tokens": 900}),
    ("context_read", {"handle": "p0-0123456789"}),
    ("trust_pending", {}),
    ("trust_check", {"operation": _operation(2)}),
    ("trust_check", {"operation": json.dumps(_operation(3))}),
    ("trust_check", {"operation": 3}),
    ("trust_check", {"operation": _operation(4, arguments={"command": "\ud800"})}),
)


@pytest.mark.parametrize(("tool", "arguments"), SAME)
def test_fast_path_says_what_the_sdk_says(served, tool, arguments):
    """The same call gets the same JSON from the fast path and, with one key more, from the SDK."""
    meta = {**META, **WHO}
    ours = _post(served, tool, arguments, meta)
    theirs = _post(served, tool, arguments, {**meta, "example.org/other": 1})
    assert ours == theirs
    assert ours["id"] == 5


@pytest.mark.parametrize("claim", [{"agent": "../x"}, 3, {"agent": "ada", "tenant": "acme"}])
def test_claims_read_alike(served, claim):
    """A client's principal counts, or is refused, alike on the fast path and through the SDK."""
    meta = {**META, "fmos/principal": claim}
    ours = _post(served, "memory_search", {"query": "x"}, meta)
    assert ours == _post(served, "memory_search", {"query": "x"}, {**meta, "example.org/other": 1})


def test_list_is_kept(served):
    """The list of tools is the SDK's own, the first time and every time after."""
    first, second, other = (_post(served, "", None, {**META, **more}) for more in ({}, {}, WHO))
    assert first == second == other
    assert len(first["result"]["tools"]) > 10


ODD: tuple[tuple[str, dict[str, str], dict[str, Any]], ...] = (
    ("an old revision", {"MCP-Protocol-Version": "2025-11-25"}, {}),
    ("another host", {"Host": "evil.example"}, {}),
    ("a web page", {"Origin": "http://localhost"}, {}),
    ("not JSON", {"Content-Type": "text/plain"}, {}),
    ("no JSON back", {"Accept": "text/event-stream"}, {}),
    ("another name", {"Mcp-Name": "memory_get"}, {}),
    ("a mirrored parameter", {"Mcp-Param-Query": "x"}, {}),
    ("another method", {"Mcp-Method": "tools/list"}, {}),
    ("no id", {}, {"id": None}),
    ("an id that is none", {}, {"id": True}),
    ("no version", {}, {"jsonrpc": "1.0"}),
    ("params that are none", {}, {"params": []}),
    ("arguments that are none", {}, {"params": {"name": "memory_search", "arguments": [1]}}),
    ("no meta", {}, {"params": {"name": "memory_search", "arguments": {}}}),
)


@pytest.mark.parametrize(("head", "change"), [odd[1:] for odd in ODD], ids=[odd[0] for odd in ODD])
def test_what_is_not_everyday_goes_to_the_sdk(server, head, change):
    """A request that is not quite right is left to the SDK, whole; an everyday one is not."""
    passed = _through_door(server, head, change)
    assert passed is not None
    assert json.loads(passed)["method"] == "tools/call"
    assert _through_door(server, {}, {}) is None


def test_many_clients_at_once(served):
    """Calls of many clients on many connections are all answered, each its own."""
    with ThreadPoolExecutor(12) as pool, _daemon_client(served) as shared:
        texts = [f"crowd number {number}" for number in range(60)]

        def write(text: str) -> str:
            if text.endswith("7"):
                with _daemon_client(served) as own:
                    return own.call("memory_write", {"text": text})["text"]
            return shared.call("memory_write", {"text": text})["text"]

        assert list(pool.map(write, texts)) == texts


def test_slow_and_half_sent_requests_hold_nobody_up(served):
    """Clients that stop in the middle cost the others nothing; one that comes back is answered."""
    whole = _request("memory_search", {"query": "slow"}, {**META, **WHO})
    with _open(served) as slow, _open(served) as headless, _open(served) as gone:
        slow.sendall(whole[:-20])
        headless.sendall(whole[:30])
        gone.sendall(whole[:-1])
        gone.close()
        with _daemon_client(served) as client:
            assert client.call("memory_search", {"query": "slow"}) == {"hits": []}
        for byte in whole[-20:]:
            slow.sendall(bytes([byte]))
        assert b"200 OK" in slow.recv(65536)


def test_large_bodies(served):
    """A body of megabytes is judged by the tool; one beyond the limit is refused unread."""
    with _daemon_client(served) as client:
        with pytest.raises(ArgumentError, match="2000000"):
            client.call("memory_write", {"text": "x" * 8_000_000})
        with pytest.raises(ArgumentError, match="larger than"):
            client.call("memory_write", {"text": "x" * 65 * 1024 * 1024})
        assert client.call("memory_search", {"query": "xx"}) == {"hits": []}


def test_budget_error_keeps_its_fields(served):
    """Which account has how little left reaches the client, in process and over the socket."""
    for agent, transport in (("ada", "daemon"), ("bea", "inprocess")):
        text = CONTRACT.replace("ada", agent).replace("tokens: 50k", "memory_writes: 1")
        (served / "contracts" / f"{agent}.yaml").write_text(text)
        with connect(Principal(agent=agent), home=served, transport=transport) as client:
            named = client.call("budget_status", {"session": "spent"})["account"]
            client.call("memory_write", {"text": "one", "session": "spent"})
            with pytest.raises(BudgetExceededError) as caught:
                client.call("memory_write", {"text": "two", "session": "spent"})
        error = caught.value
        assert (error.resource, error.asked, error.left) == ("memory_writes", 1, 0)
        assert error.account
        assert named.startswith(error.account)


def test_stop_drains(home):
    """A daemon that is told to stop answers the call it is at, then ends with exit code 0."""
    with daemon(home, "--no-http") as (process, _), _daemon_client(home) as client:
        client.call("memory_write", {"text": "first"})
        with _at_work(home, client, "in flight") as (answer, go_on):
            process.send_signal(signal.SIGTERM)
            go_on()
            assert answer.result(timeout=20)["text"] == "in flight"
        assert process.wait(timeout=20) == 0


def test_kill_and_restart(home):
    """A killed daemon loses no verdict; the call it was at is not repeated; the next goes on."""
    with ExitStack() as stack:
        process, _ = stack.enter_context(daemon(home, "--no-http"))
        client = stack.enter_context(_daemon_client(home))
        client.call("trust_register_tools", {"tools": [RUN]})
        verdicts = [client.call("trust_check", {"operation": _operation(n)}) for n in range(5)]
        assert {verdict["decision"] for verdict in verdicts} == {"allow"}
        with _at_work(home, client, "lost") as (answer, go_on):
            process.kill()
            with pytest.raises(ServerUnreachableError, match="may have had its effect"):
                answer.result(timeout=20)
            go_on()
        with pytest.raises(ServerUnreachableError, match=r"fmos\.sock"):
            client.call("memory_search", {"query": "x"})
        stack.enter_context(daemon(home, "--no-http"))
        assert client.call("trust_check", {"operation": _operation(9)})["decision"] == "allow"
        assert client.call("memory_search", {"query": "lost"}) == {"hits": []}
    with Kernel.open(home) as kernel:
        rows = kernel.volume("default").journal(since=0, operation="op.intent")
        noted = [row.detail["id"] for row in rows if row.detail["kind"] == "tool.call"]
        assert noted == [_operation(n)["id"] for n in (0, 1, 2, 3, 4, 9)]
        assert verify(kernel, "default")["ok"]


@pytest.mark.parametrize(("tool", "repeated"), [("look", True), ("act", False)])
def test_only_reading_calls_are_repeated(tool, repeated):
    """A lost answer is asked for again only where the tool says that it only reads."""
    with _forgetful() as (path, calls):
        client = UnixSocket(path, PRINCIPAL)
        if repeated:
            assert client.call(tool, {}) == {"ok": 1}
        else:
            with pytest.raises(ServerUnreachableError, match="may have had its effect"):
                client.call(tool, {})
        client.close()
    assert calls == ([tool, "", tool] if repeated else [tool, ""])


def _request(tool: str, arguments: Any, meta: dict[str, Any]) -> bytes:
    method = "tools/call" if tool else "tools/list"
    params = {"name": tool, "arguments": arguments, "_meta": meta} if tool else {"_meta": meta}
    message = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
    body = json.dumps(message).encode()
    lines = [f"{name}: {value}" for name, value in headers(method, tool).items()]
    head = ["POST /mcp HTTP/1.1", "Host: localhost", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def _post(home: Path, tool: str, arguments: Any, meta: dict[str, Any]) -> dict[str, Any]:
    transport = httpx.HTTPTransport(uds=str(home / "run" / "fmos.sock"))
    body = _request(tool, arguments, meta).split(b"\r\n\r\n", 1)[1]
    head = headers("tools/call" if tool else "tools/list", tool)
    with httpx.Client(transport=transport) as client:
        return client.post("http://localhost/mcp", content=body, headers=head).json()


def _open(home: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(home / "run" / "fmos.sock"))
    return connection


def _through_door(server: ToolServer, head: dict[str, str], change: dict[str, Any]) -> bytes | None:
    """Send one request to a socket door; return the body that it passed on, or None."""
    passed: list[bytes] = []
    meta = {**META, **WHO}
    params = {"name": "memory_search", "arguments": {"query": "x"}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **change}
    body = json.dumps(message).encode()

    async def sdk(scope: Any, receive: Any, send: Any) -> None:
        passed.append((await receive())["body"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert not passed

    door = SocketDoor(sdk, {"/mcp": server})
    chosen = {"Host": "localhost", "Content-Length": str(len(body))}
    chosen |= {**headers("tools/call", "memory_search"), **head}
    pairs = [(name.lower().encode(), value.encode()) for name, value in chosen.items()]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": pairs}
    anyio.run(door, scope, receive, send)
    return passed[0] if passed else None


@contextmanager
def _at_work(home: Path, client: Client, text: str) -> Iterator[tuple[Future[Any], Any]]:
    """A write that the daemon is in the middle of, and what lets it go on."""
    volume = apsw.Connection(str(home / "tenants" / "default.afs"))
    volume.set_busy_timeout(20_000)
    accounts = apsw.Connection(str(home / "kernel.db"))
    reserved = "SELECT count(*) FROM reservation"
    before = accounts.execute(reserved).fetchall()
    with ThreadPoolExecutor(1) as pool:
        volume.execute("BEGIN IMMEDIATE")
        try:
            answer = pool.submit(client.call, "memory_write", {"text": text})
            # The first thing that a write does is to reserve; the next needs the volume.
            deadline = time.monotonic() + 20
            while accounts.execute(reserved).fetchall() == before:
                assert time.monotonic() < deadline, "no call arrived"
                time.sleep(0.01)
            yield answer, lambda: volume.execute("ROLLBACK")
        finally:
            volume.close()
            accounts.close()


@contextmanager
def _forgetful() -> Iterator[tuple[Path, list[str]]]:
    """A server that takes its first call and hangs up, then answers all others."""
    calls: list[str] = []
    tools = [
        {"name": name, "annotations": {"readOnlyHint": name == "look"}} for name in ("look", "act")
    ]

    def answer(connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"}"):
            data += connection.recv(65536)
        message = json.loads(data.split(b"\r\n\r\n", 1)[1])
        calls.append(message["params"].get("name", ""))
        if len(calls) == 1:
            return
        named = message["method"] == "tools/call"
        result = {"structuredContent": {"ok": 1}} if named else {"tools": tools}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                answer(connection)

    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        path = Path(folder) / "s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield path, calls
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
