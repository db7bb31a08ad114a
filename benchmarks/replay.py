"""Claim: recording costs an operation less than 100 us, and a report reads a million rows at once.

An operation here is what an adapter does around a tool call that traps: a verdict, a settlement
with its text, and the text appended to the context, each recorded. The same calls run in process
on two homes, one of which says `record = false`; the cost is the difference of the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.core.journals import write_journal

from fmos.client import connect
from fmos.client.client import Client
from fmos.config import Home
from fmos.replay import reading
from fmos.replay.again import run_again
from fmos.types import Principal, new_id
from harness import NORMAL, Report, Side, interleave, scale, workspace

CALLS = scale(300, 10)
ROUNDS = scale(12, 2)
TURNS = scale(255_000, 500)
WHO = Principal(agent="bench", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: bench
class: { latency: SRT, slo: { turn_ms: 1000 } }
capabilities: [ "process.run" ]
"""
TOOL = {
    "name": "run",
    "capability": "process.run",
    "effect": "execute",
    "roles": {"command": "command"},
}
TEXT = "a line of what a command printed\n" * 20
REPORT = """
import json, resource, sys, time
from pathlib import Path
from fmos.report.analysis import Analysis
from fmos.report.source import volumes
begin = time.perf_counter()
with Analysis() as analysis:
    analysis.load(volumes(Path(sys.argv[1]) / "tenants"), slo_ms={"writer": 1200})
    tables = analysis.overview()
took = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"took_s": took, "peak_mb": peak, "rows": analysis.rows}))
"""


def home_at(folder: Path, *, record: bool) -> Path:
    """Make a home with the contract, which records or does not."""
    (folder / "contracts").mkdir(parents=True)
    (folder / "contracts" / "bench.yaml").write_text(CONTRACT, encoding="utf-8")
    settings = f"[replay]\nrecord = {str(record).lower()}\n"
    (folder / "fmos.toml").write_text(settings, encoding="utf-8")
    return folder


def work(client: Client, kept: dict[str, list[float]]) -> float:
    """Make the calls of one round and keep the seconds of each."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        operation = new_id()
        asked = {"kind": "tool.call", "name": "run", "id": operation}
        outcome = {"operation": operation, "status": "ok", "duration_ms": 2.0}
        observation = {"operation": operation, "source": "run", "text": TEXT}
        calls: tuple[tuple[str, dict[str, Any]], ...] = (
            ("trust_check", {"operation": {**asked, "arguments": {"command": "make test"}}}),
            ("trust_settle", {"outcome": outcome, "observation": observation}),
            ("context_append", {"role": "tool", "name": "run", "text": TEXT}),
        )
        for tool, arguments in calls:
            before = time.perf_counter()
            client.call(tool, arguments)
            kept[tool].append(time.perf_counter() - before)
    return time.perf_counter() - begin


def measure_recording(report: Report, folder: Path) -> None:
    """Compare operations with and without a recording, and run the recorded session again."""
    tools = ("trust_check", "trust_settle", "context_append")
    samples = {side: {name: [] for name in tools} for side in ("recorded", "not recorded")}
    recorded = home_at(folder / "on", record=True)
    with ExitStack() as stack:
        sides: list[Side] = []
        for name, home in (
            ("recorded", recorded),
            ("not recorded", home_at(folder / "off", record=False)),
        ):
            client = stack.enter_context(connect(WHO, home=home, transport="inprocess"))
            client.call("trust_register_tools", {"tools": [TOOL]})
            client.call("context_open", {})
            kept = samples[name]
            sides.append(Side(name, NORMAL, lambda _, c=client, k=kept: work(c, k)))
        measure = interleave(sides, ROUNDS)
        report.add(f"{CALLS} operations of three calls", measure, sides)
    for tool in tools:
        on, off = (statistics.median(samples[side][tool][CALLS:]) for side in samples)
        report.at_most(f"recording, {tool}", (on - off) * 1e6, "us", 100)
    rerun(report, recorded)


def rerun(report: Report, home: Path) -> None:
    """Run the recorded session again; it must come out equal."""
    place = Home(home)
    with reading.opened(place.volume(WHO.tenant)) as volume:
        begin = time.perf_counter()
        again = run_again(place, volume, WHO.tenant, reading.find(volume, WHO.session))
        took = time.perf_counter() - begin
    assert again.equal, again.differences[:3]
    report.tell("recorded calls made again and compared", again.calls / took, "a second")


def measure_report(report: Report, folder: Path) -> dict[str, float]:
    """Report a journal of about a million rows, in a process of its own."""
    home = folder / "report"
    written = write_journal(home / "tenants" / "default.afs", TURNS, days=90)
    best: dict[str, float] = {}
    for _ in range(scale(3, 1)):
        command = [sys.executable, "-c", REPORT, str(home)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout)
        assert found["rows"] == written
        if not best or found["took_s"] < best["took_s"]:
            best = found
    report.at_most(f"all tables of a report over {written:,} rows", best["took_s"], "s", 10)
    report.at_most("memory of that report, at its highest", best["peak_mb"], "MB", 1500)
    return best


def main() -> None:
    """Measure and save."""
    report = Report(
        "replay", "recording an operation, running a session again, reporting a journal"
    )
    with workspace() as folder:
        measure_recording(report, folder)
        best = measure_report(report, folder)
    report.notes.append(
        f"{os.cpu_count()} cores; recording is the difference of the medians of"
        f" {ROUNDS * CALLS:,} calls a side, in process."
    )
    cost = max(row["value"] for row in report.rows if row["label"].startswith("recording, "))
    report.sum_up(
        "recording an operation for replay, beside its journal row; a report over a million rows",
        f"{cost:.0f} µs; {best['took_s']:.1f} s",
        "not recorded: 0 µs",
    )
    report.save()


if __name__ == "__main__":
    main()
