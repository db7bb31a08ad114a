"""What `connect` chooses, refuses and loads."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import anyio
import pytest

from fmos.client import connect
from fmos.errors import (
    ArgumentError,
    HomeError,
    NotFoundError,
    ServerUnreachableError,
)
from fmos.types import Principal

ADA = Principal(agent="ada", session="s1")


def test_import_is_light():
    """Importing the client loads no MCP SDK, no model library and no HTTP library."""
    code = (
        "import sys, agentfs, fmos.client;"
        "print([m for m in ('mcp', 'torch', 'numpy', 'httpx', 'fmos_memory') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_in_process_call_loads_no_sdk(home):
    """A call in process needs the services but not the MCP SDK."""
    code = (
        "import sys; from fmos.client import connect; from fmos.types import Principal;"
        f"c = connect(Principal(agent='ada'), home={str(home)!r}, transport='inprocess');"
        "c.call('memory_write', {'text': 'x'}); print('mcp' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_auto_without_daemon_is_in_process(home):
    """`auto` calls the services in process where no daemon listens."""
    with connect(ADA, home=home) as client:
        assert client.call("memory_search", {"query": "anything"}) == {"hits": []}


def test_daemon_that_is_not_there(home):
    """Asking for the daemon where none listens names the socket and the way out."""
    with pytest.raises(ServerUnreachableError, match=r"fmos\.sock.*fmos serve"):
        connect(ADA, home=home, transport="daemon")


def test_unknown_transport():
    """A transport that does not exist is refused with those that do."""
    with pytest.raises(ArgumentError, match=r"'carrier-pigeon'.*inprocess"):
        connect(ADA, transport="carrier-pigeon")


def test_token_is_not_sent_in_the_clear():
    """A token is refused for a plain address of another machine, and taken for a loopback one."""
    with pytest.raises(ArgumentError, match="unencrypted"):
        connect(ADA, transport="http://fmos.example:8077", token="fmos_1_2")
    connect(ADA, transport="https://fmos.example", token="fmos_1_2").close()
    connect(ADA, transport="http://localhost:1", token="fmos_1_2").close()


def test_token_and_key_from_the_environment(monkeypatch):
    """Over HTTP the token and the public key come from the caller, else from the environment."""
    monkeypatch.setenv("FMOS_TOKEN", "fmos_1_2")
    monkeypatch.setenv("FMOS_PUBLIC_KEY", "abc=")
    seen: list[str | None] = []
    with _other_server(b"{}", "application/json", seen) as url:
        for token in (None, "fmos_3_4"):
            with connect(ADA, transport=url, token=token) as client:
                assert client.public_key == "abc="
                assert client.where == f"{url}/mcp"
                with pytest.raises(ServerUnreachableError):
                    client.call("memory_search", {"query": "x"})
    assert seen == ["Bearer fmos_1_2", "Bearer fmos_3_4"]


def test_where_and_public_key_in_process(home):
    """In process, a client says so and reads the tenant's public key from the home."""
    with connect(ADA, home=home, transport="inprocess") as client:
        assert client.where == "in process"
        shown = (home / "keys" / "default" / "audit.pub").read_text() if client.public_key else ""
        assert client.public_key == shown.strip()


def test_nobody_answers(home):
    """An address where nothing listens is named in the error."""
    with (
        connect(ADA, transport="http://127.0.0.1:9") as client,
        pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1:9"),
    ):
        client.call("memory_search", {"query": "x"})


def test_something_else_answers():
    """A web server that does not speak MCP is told from a dead one."""
    with (
        _other_server(b"<html>hello</html>", "text/html") as url,
        connect(ADA, transport=url) as client,
        pytest.raises(ServerUnreachableError, match="does not speak MCP"),
    ):
        client.call("memory_search", {"query": "x"})


def test_event_stream_reply():
    """A reply that comes as an event stream, after a notification, is understood."""
    stream = (
        b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress"}\r\n\r\n'
        b": ping\r\n\r\n"
        b'event: message\r\ndata: {"jsonrpc":"2.0","id":7,"result":{"tools":[]}}\r\n\r\n'
        b'event: message\r\ndata: {"jsonrpc":"2.0","id":1,"result":'
        b'{"structuredContent":{"hits":[]}}}\r\n\r\n'
    )
    with (
        _other_server(stream, "text/event-stream") as url,
        connect(ADA, transport=url) as client,
    ):
        assert client.call("memory_search", {"query": "x"}) == {"hits": []}


def test_home_is_a_file(tmp_path):
    """A file where the home should be is refused by name."""
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeError, match="is a file"):
        connect(ADA, home=tmp_path / "home", transport="inprocess")


def test_unknown_tool_names_the_known(home):
    """A tool that no server has is answered with those there are."""
    with (
        connect(ADA, home=home, transport="inprocess") as client,
        pytest.raises(NotFoundError, match=r"memory_write.*trust_check"),
    ):
        client.call("memory_wirte")


def test_threads_share_a_client(home):
    """Calls from many threads at once are all answered."""
    with connect(ADA, home=home, transport="inprocess") as client, ThreadPoolExecutor(8) as pool:
        texts = [f"note number {number}" for number in range(24)]
        written = list(pool.map(lambda text: client.call("memory_write", {"text": text}), texts))
    assert sorted(item["text"] for item in written) == sorted(texts)


def test_async_call(home):
    """`acall` gives what `call` gives."""

    async def both() -> None:
        with connect(ADA, home=home, transport="inprocess") as client:
            item = await client.acall("memory_write", {"text": "later"})
            assert client.call("memory_get", {"id": item["id"]}) == item

    anyio.run(both)


class _other_server:
    """A plain web server that answers every POST with the same bytes."""

    def __init__(
        self, body: bytes, content_type: str, seen: list[str | None] | None = None
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if seen is not None:
                    seen.append(self.headers["Authorization"])
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_contract_names_its_file(home: Path):
    """A broken contract is reported by the call that needs it, through the same error class."""
    (home / "contracts" / "bob.yaml").write_text("name: bob\nkind: [")
    with connect(Principal(agent="bob", session="s"), home=home, transport="inprocess") as client:
        verdict = client.call(
            "trust_check", {"operation": {"kind": "tool.call", "name": "read_file"}}
        )
    assert verdict["decision"] == "deny"
