"""`fmos serve`: where it listens, what it refuses, how it stops."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fmos.client import connect
from fmos.types import Principal

from .conftest import PRINCIPAL, daemon, issue, port_of

ADA = Principal(agent="ada", session="s1")
SERVERS = ("memory", "context-policy", "trust-gate", "reasoning-budget")
_HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/list",
}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
_LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": _META}}


def _serve(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_paths_protection_and_clean_stop(home):
    """Each server has its path, all are at /mcp, web pages are shut out, SIGTERM leaves nothing."""
    bearer = {"Authorization": f"Bearer {issue(home, PRINCIPAL)}"}
    with daemon(home, "--port", "0") as (process, lines):
        base = f"http://127.0.0.1:{port_of(lines)}"
        found = {name: _listed(f"{base}/{name}/mcp", bearer) for name in SERVERS}
        tools = {name: {tool["name"] for tool in listed} for name, listed in found.items()}
        together = {tool["name"] for tool in _listed(f"{base}/mcp", bearer)}
        assert together == set().union(*tools.values())
        assert "memory_write" in tools["memory"]
        rebound = httpx.post(
            f"{base}/mcp", json=_LIST, headers={**_HEADERS, **bearer, "Host": "evil.example"}
        )
        assert rebound.status_code == 421
        page = {**_HEADERS, **bearer, "Origin": "http://evil.example"}
        assert httpx.post(f"{base}/mcp", json=_LIST, headers=page).status_code == 403
        path = home / "run" / "fmos.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "stopped\n")
        assert "Traceback" not in err
        assert not path.exists()


def test_interrupt_stops_cleanly(home):
    """Ctrl-C removes the socket and is not an error."""
    with daemon(home, "--no-http") as (process, lines):
        assert "http" not in "".join(lines)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert not (home / "run" / "fmos.sock").exists()


def test_live_daemon_is_refused_and_found(home):
    """A second daemon of a home is refused by name of the socket; `auto` uses the first."""
    with daemon(home, "--no-http") as (process, _):
        second = _serve(home, "--no-http")
        assert second.returncode == 3
        assert "fmos.sock" in second.stderr
        assert str(process.pid) in second.stderr
        with connect(ADA, home=home) as client:
            written = client.call("memory_write", {"text": "said through the daemon"})
    with connect(ADA, home=home, transport="inprocess") as client:
        assert client.call("memory_get", {"id": written["id"]}) == written


def test_stale_socket_is_replaced(home):
    """What a killed daemon left behind does not stand in the way."""
    with daemon(home, "--no-http") as (process, _):
        process.kill()
        process.wait(timeout=30)
    assert (home / "run" / "fmos.sock").exists()
    with daemon(home, "--no-http"), connect(ADA, home=home, transport="daemon") as client:
        assert client.call("memory_search", {"query": "x"}) == {"hits": []}


def test_port_in_use(home):
    """A port that is taken is named, and no socket is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = _serve(home, "--port", str(port))
    assert refused.returncode == 5
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "in use" in refused.stderr
    assert not (home / "run" / "fmos.sock").exists()


def test_home_is_a_file(tmp_path):
    """A file where the home should be is one sentence and exit code 3."""
    (tmp_path / "home").write_text("")
    refused = _serve(tmp_path / "home")
    assert refused.returncode == 3
    assert len(refused.stderr.splitlines()) == 1
    assert "is a file" in refused.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_home_without_permission(tmp_path):
    """A home that may not be written to is one sentence and exit code 3."""
    (tmp_path / "locked").mkdir(mode=0o500)
    refused = _serve(tmp_path / "locked" / "home")
    assert refused.returncode == 3
    assert "Permission denied" in refused.stderr


def test_long_socket_path(tmp_path):
    """A home too deep for a unix socket is refused with the reason."""
    refused = _serve(tmp_path / ("d" * 100), "--no-http")
    assert refused.returncode == 3
    assert "107 bytes" in refused.stderr


def _listed(url: str, bearer: dict[str, str]) -> list[dict[str, object]]:
    answer = httpx.post(url, json=_LIST, headers={**_HEADERS, **bearer})
    assert answer.status_code == 200
    return answer.json()["result"]["tools"]
