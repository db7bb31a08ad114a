"""From a LangGraph agent over the daemon's socket to the row: one trace, and a span for each row.

The agent is real, the model is scripted, the daemon is a process of its own; both write into the
home's `telemetry.jsonl`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra `otel`")

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from tests.adapters.desk import CONTRACT, DESCRIPTORS, asked
from tests.adapters.scripted import ScriptedModel, call, calls, in_turn
from tests.core.otlp_lines import Told, spans

from fmos import telemetry
from fmos.client import Client, connect
from fmos.runtime.kernel import Kernel
from fmos.serving.credentials.tokens import Tokens
from fmos.telemetry import names
from fmos.types import Principal
from fmos_langgraph import FmosMiddleware
from fmos_trust.service import TrustService

WHO = Principal(agent="worker", session="s1")


@contextmanager
def daemon(home: Path) -> Iterator[str]:
    """Run `fmos serve` and yield its address over HTTP."""
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = ""
        try:
            for line in process.stdout:
                url = line.strip() if "http://" in line else url
                if line.strip().startswith("unix:"):
                    break
            yield url.removesuffix("/mcp")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def read_file(path: str) -> str:
    """Read a file."""
    return f"what is in {path}"


def write_file(path: str, content: str) -> str:
    """Write a file."""
    return f"wrote {path}"


def broken() -> str:
    """Fail."""
    raise ZeroDivisionError("as always")


def run(client: Client) -> None:
    """Let the agent read twice, write, try what it may not, and answer."""
    script = in_turn(
        call("write_file", "c1", path="/work/a", content="text"),
        calls(("read_file", "c2", {"path": "/work/a"}), ("read_file", "c3", {"path": "/work/b"})),
        call("write_file", "c4", path="/etc/passwd", content="x"),
        AIMessage("done"),
    )
    tools = [StructuredTool.from_function(each) for each in (read_file, write_file, broken)]
    agent = create_agent(
        ScriptedModel(answer=script),
        tools,
        system_prompt="You are a test.",
        middleware=[FmosMiddleware(client, DESCRIPTORS)],
    )
    agent.invoke(asked("write, read, and answer"))


def rows(home: Path) -> list[Any]:
    """Return the intent rows of the journal."""
    with Kernel.open(home) as kernel:
        return list(kernel.volume("default").journal(operation="op.intent"))


def above(found: dict[str, Told], span: Told) -> list[str]:
    """Return what a span is below of, from its parent to the root: kind and name of each."""
    chain: list[str] = []
    while span.parent:
        span = found[span.parent]
        chain.append(f"{span.service} {span.kind} {span.name}")
    return chain


class Run(NamedTuple):
    """What one run left behind: its spans, its intent rows, and the door it went through."""

    door: str
    told: list[Told]
    journal: list[Any]


@pytest.fixture(scope="module", params=["unix", "http"])
def ended(request: pytest.FixtureRequest) -> Iterator[Run]:
    """A run of the agent through one door of a daemon, both telling into the home's file."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        home = Path(folder)
        (home / "contracts").mkdir()
        (home / "contracts" / "worker.yaml").write_text(CONTRACT)
        (home / "fmos.toml").write_text('[telemetry]\nexporter = "file"\n')
        with daemon(home) as url, client_of(home, url, request.param) as client:
            run(client)
            telemetry.shutdown()
        yield Run(request.param, spans(home / "telemetry.jsonl"), rows(home))


def client_of(home: Path, url: str, door: str) -> Client:
    """Connect through a door; the home turns the telemetry of this process on."""
    client = connect(WHO, home=home, transport="daemon")
    if door == "unix":
        return client
    client.close()  # a client at a URL has no home that says anything
    with Kernel.open(home) as kernel:
        token = Tokens(kernel.database, kernel.clock).issue(WHO, 3600, any_agent=False)[0]
        key = kernel.keys_of("default").public_key
        TrustService(kernel).register(WHO, list(DESCRIPTORS))  # a token's holder would wait
    return connect(WHO, transport=url, token=token, public_key=key)


def test_one_trace_from_the_agent_to_the_row(ended: Run) -> None:
    """Adapter, client, daemon and row share a trace, and each row is exactly one span of it."""
    found = {span.span: span for span in ended.told}
    assert len(ended.journal) == 8
    assert len(found) == len(ended.told), "no span is told twice"
    (trace,) = {span.trace for span in ended.told}
    for row in ended.journal:
        assert row.detail["trace"] == trace
        own = [span for span in ended.told if span.attributes.get(names.JOURNAL_SEQ) == row.seq]
        assert [span.span for span in own] == [row.detail["span"]]
        assert own[0].attributes[names.OPERATION_ID] == row.detail["id"]
        (agent,) = [
            span
            for span in ended.told
            if span.service == "fmos-client"
            and span.attributes.get(names.OPERATION_ID) == row.detail["id"]
        ]
        _check_chain(found, own[0], agent, ended.door)


def _check_chain(found: dict[str, Told], decision: Told, agent: Told, door: str) -> None:
    model = decision.attributes[names.OPERATION_KIND] == "model.generate"
    what = decision.attributes["fmos.operation.name"]
    around = f"fmos-client {'client chat' if model else 'internal execute_tool'} {what}"
    top = [around, "fmos-client internal invoke_agent worker"]
    if decision.attributes[names.PATH] == "fast":
        assert above(found, decision) == top
        return
    tool = "budget_admit" if model else "trust_check"
    called = [f"fmos server tools/call {tool}", f"fmos-client client tools/call {tool}"]
    assert above(found, decision) == [*called, *top]
    assert found[decision.parent].attributes[names.DOOR] == door
    assert above(found, agent) == top[1:]


def test_fast_calls_and_tokens_are_told(ended: Run) -> None:
    """The run's reads went the fast path, and its model calls say what they used."""
    paths = [
        (span.name, span.attributes[names.PATH], span.attributes[names.DECISION])
        for span in ended.told
        if span.name.startswith("execute_tool")
    ]
    assert sorted(paths) == [
        ("execute_tool read_file", "fast", "allow"),
        ("execute_tool read_file", "fast", "allow"),
        ("execute_tool write_file", "slow", "allow"),
        ("execute_tool write_file", "slow", "deny"),
    ]
    chats = [span for span in ended.told if span.name == "chat scripted"]
    assert len(chats) == 4
    assert all(span.attributes[names.INPUT_TOKENS] > 0 for span in chats)
    assert [names.ONSET_MS in span.attributes for span in chats] == [True, False, False, False]
