"""The four doors as one fixture: in process, stdio, HTTP and unix socket."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from mcp import Client as SdkClient
from mcp import StdioServerParameters

from fmos.client import connect
from fmos.errors import error_from_meta
from fmos.runtime.kernel import Kernel
from fmos.serving.credentials.tokens import Tokens
from fmos.types import Principal

CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
class: { latency: SRT }
capabilities: [ "fs.read", "fs.write", "process.run" ]
security: { consent_for: ["fs.write"] }
budgets: { tokens: 50k }
"""

PRINCIPAL = Principal(agent="ada", session="s1")

Call = Callable[[str, dict[str, Any]], dict[str, Any]]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a contract for `ada`, at a path short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        contracts = Path(folder) / "contracts"
        contracts.mkdir()
        (contracts / "ada.yaml").write_text(CONTRACT)
        yield Path(folder)


def launch(home: Path) -> dict[str, str]:
    """The environment of a server process started for `ada`."""
    return {**os.environ, "FMOS_HOME": str(home), "FMOS_AGENT": "ada", "FMOS_SESSION": "s1"}


@contextmanager
def daemon(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run `fmos serve` and yield the process and the lines it prints until it is ready."""
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), "serve", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            while not (lines and lines[-1].strip().startswith("unix:")):
                line = process.stdout.readline()
                if not line:
                    assert process.stderr is not None
                    pytest.fail(f"fmos serve ended: {process.stderr.read()}")
                lines.append(line)
            yield process, lines
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def port_of(lines: list[str]) -> int:
    """The port in what `fmos serve` printed."""
    found = re.search(r"127\.0\.0\.1:(\d+)", "".join(lines))
    assert found
    return int(found.group(1))


def issue(home: Path, principal: Principal, *, any_agent: bool = False) -> str:
    """Issue a token of the home, good for an hour."""
    with Kernel.open(home) as kernel:
        tokens = Tokens(kernel.database, kernel.clock)
        return tokens.issue(principal, 3600, any_agent=any_agent)[0]


@contextmanager
def stdio_call(module: str, home: Path) -> Iterator[Call]:
    """Call tools of a stdio command with the official client."""

    def call(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = portal.call(client.call_tool, tool, arguments)
        if result.is_error:
            raise error_from_meta(result.content[0].text, result.meta)
        return result.structured_content

    server = StdioServerParameters(command=sys.executable, args=["-m", module], env=launch(home))
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(SdkClient(server)) as client,
    ):
        yield call


@pytest.fixture(params=["inprocess", "stdio", "http", "unix"])
def memory(request: pytest.FixtureRequest, home: Path) -> Iterator[Call]:
    """A way to call the memory server's tools for `ada`, through each door."""
    if request.param == "stdio":
        with stdio_call("fmos_memory", home) as call:
            yield call
        return
    if request.param == "inprocess":
        with connect(PRINCIPAL, home=home, transport="inprocess") as client:
            yield client.call
        return
    with daemon(home, "--port", "0") as (_, lines):
        url = f"http://127.0.0.1:{port_of(lines)}"
        transport = url if request.param == "http" else "daemon"
        token = issue(home, PRINCIPAL) if request.param == "http" else None
        with connect(PRINCIPAL, home=home, transport=transport, token=token) as client:
            yield client.call
