"""Claim: a privileged operation costs at most 2 ms, decided and noted before it runs.

A client asks the daemon for a verdict on a command through the home's unix socket, and the daemon
writes the intent row before it answers, so that it survives a killed process. Beside it: the same
daemon through the official SDK's client and server over loopback HTTP, the same service called in
process, and the daemon again with each journal row synced to the disk before the answer.

Each call has an id of its own and one client makes one call after the other; the figures are over
all calls of all rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client as SdkClient
from mcp.client.streamable_http import streamable_http_client

from daemons import daemon
from fmos.audit.record import verify
from fmos.client import connect
from fmos.runtime.kernel import Kernel
from fmos.types import Principal, new_id
from harness import FULL, NORMAL, Report, Side, interleave, scale, workspace

CALLS = scale(500, 20)
ROUNDS = scale(10, 2)
WHO = Principal(agent="bench", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: bench
class: { latency: SRT }
capabilities: [ "process.run" ]
"""
TOOL = {
    "name": "run",
    "capability": "process.run",
    "effect": "execute",
    "roles": {"command": "command"},
}
# The daemon of `fmos serve`, with the volume opened so that each commit is synced.
SYNCED = """
import sys
from agentfs import AgentFS
opened = AgentFS.open
AgentFS.open = lambda *given, **named: opened(*given, **{**named, "durability": "full"})
from fmos_cli.main import app
app(sys.argv[1:], prog_name="fmos")
"""

Samples = dict[str, list[float]]


def operation() -> dict[str, Any]:
    """Return an operation that traps: a command is never innocuous."""
    command = {"command": "make test"}
    return {"kind": "tool.call", "name": "run", "arguments": command, "id": new_id()}


def home_at(folder: Path) -> Path:
    """Make a home with the contract and the tool, in a folder on the disk to measure.

    A unix socket's path has little room, so the home is reached through a short link.
    """
    (folder / "contracts").mkdir(parents=True)
    (folder / "contracts" / "bench.yaml").write_text(CONTRACT, encoding="utf-8")
    with connect(WHO, home=folder, transport="inprocess") as client:
        client.call("trust_register_tools", {"tools": [TOOL]})
    link = Path(tempfile.mkdtemp(prefix="fmos", dir="/tmp")) / "h"
    link.symlink_to(folder)
    return link


def ask(call: Callable[[str, dict[str, Any]], dict[str, Any]], kept: list[float]) -> float:
    """Make the calls of one round, keep the seconds of each, and return their sum."""
    before = len(kept)
    for _ in range(CALLS):
        asked = operation()
        begin = time.perf_counter()
        verdict = call("trust_check", {"operation": asked})
        kept.append(time.perf_counter() - begin)
        assert verdict["decision"] == "allow", verdict
    return sum(kept[before:])


def ask_with_sdk(url: str, token: str, kept: list[float]) -> float:
    """Make the calls of one round with the official client over HTTP."""
    before = len(kept)

    async def calls() -> None:
        bearer = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
        transport = streamable_http_client(url, http_client=bearer)
        async with bearer, SdkClient(transport, mode="2026-07-28") as client:
            for _ in range(CALLS):
                asked = operation()
                begin = time.perf_counter()
                answer = await client.call_tool("trust_check", {"operation": asked})
                kept.append(time.perf_counter() - begin)
                assert not answer.is_error, answer

    anyio.run(calls)
    return sum(kept[before:])


def token_of(home: Path) -> str:
    """Issue a token for the principal of the benchmark."""
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), "token", "issue"]
    who = ["--agent", WHO.agent, "--session", WHO.session, "--json"]
    made = subprocess.run([*command, *who], capture_output=True, text=True, check=True)
    return json.loads(made.stdout)["token"]


def noted(home: Path) -> int:
    """Return how many verdicts are in the journal, whose chain must be whole."""
    with Kernel.open(home) as kernel:
        assert verify(kernel, WHO.tenant)["ok"]
        rows = kernel.volume(WHO.tenant).journal(since=0, operation="op.intent")
        return sum(1 for _ in rows)


def main() -> None:
    """Measure and save."""
    report = Report("privileged_call", "a privileged operation, decided and noted")
    samples: Samples = {"socket": [], "SDK": [], "in process": [], "socket, synced": []}
    with workspace() as folder, ExitStack() as stack:
        home, synced = home_at(folder / "normal"), home_at(folder / "full")
        url = stack.enter_context(daemon(home, "--port", "0"))
        stack.enter_context(daemon(synced, "--port", "0", program=("-c", SYNCED)))
        token = token_of(home)
        ours = stack.enter_context(connect(WHO, home=home, transport="daemon"))
        local = stack.enter_context(connect(WHO, home=home, transport="inprocess"))
        slow = stack.enter_context(connect(WHO, home=synced, transport="daemon"))
        sides = [
            Side("socket", NORMAL, lambda _: ask(ours.call, samples["socket"])),
            Side("SDK", NORMAL, lambda _: ask_with_sdk(url, token, samples["SDK"])),
            Side("in process", NORMAL, lambda _: ask(local.call, samples["in process"])),
            Side("socket, synced", FULL, lambda _: ask(slow.call, samples["socket, synced"])),
        ]
        measure = interleave(sides, ROUNDS)
        stack.close()
        report.add(f"{CALLS} calls", measure, sides)
        written = noted(home) + noted(synced)
    assert written == sum(len(kept) for kept in samples.values()), "a verdict has no intent row"
    # The calls of the warm-up round are in the journal, and not in the figures.
    figures = {name: kept[CALLS:] for name, kept in samples.items()}
    _rows(report, figures)
    report.notes.append(
        f"{os.cpu_count()} cores hold client and daemon; {len(figures['socket'])} calls a side,"
        " and each has its intent row in a journal whose chain is whole."
    )
    report.save()


def _rows(report: Report, figures: Samples) -> None:
    p50 = {name: statistics.median(kept) * 1000 for name, kept in figures.items()}
    p95 = {name: statistics.quantiles(kept, n=20)[-1] * 1000 for name, kept in figures.items()}
    report.at_most("over the unix socket, p50", p50["socket"], "ms", 2)
    report.at_most("over the unix socket, p95", p95["socket"], "ms", 5)
    for name, label in (
        ("socket, synced", "over the unix socket, intent synced to the disk"),
        ("SDK", "official SDK over loopback HTTP"),
        ("in process", "the service in process, without a door"),
    ):
        report.tell(f"{label}, p50", p50[name], "ms")
        report.tell(f"{label}, p95", p95[name], "ms")
    report.sum_up(
        "privileged operation through the daemon, verdict and intent row, p50 / p95",
        f"{p50['socket']:.2f} / {p95['socket']:.2f} ms; synced {p50['socket, synced']:.2f} ms",
        f"official SDK over HTTP {p50['SDK']:.2f} / {p95['SDK']:.2f} ms",
    )


if __name__ == "__main__":
    main()
