"""Claim: more than 99 of 100 operations of a run have a span of their own.

Agents run in threads against the daemon: model calls that are made, cut off or refused, tool calls
that run at once, trap, fail, are denied or wait for a person, memories and contexts. Then the
journal, which has every operation, is held against the spans that client and daemon wrote: an
operation is covered if exactly one span says its row's number and has the ids that the row says.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from daemons import daemon
from fmos import telemetry
from fmos.client import Governor, ToolDescriptor, connect
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal
from harness import NORMAL, Measure, Report, Side, scale, workspace
from otlp import Told, spans

AGENTS = scale(8, 2)
TURNS = scale(40, 3)
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: bench
class: { latency: SRT }
capabilities: [ "process.run", "fs.read", "fs.write" ]
security:
  consent_for: ["fs.write"]
  paths: { read: ["/work/**"], write: ["/work/**"] }
budgets: { tokens: 900M }
"""
TOOLS = (
    ToolDescriptor(name="read", capability="fs.read", effect="read", roles={"path": "path"}),
    ToolDescriptor(name="write", capability="fs.write", effect="write", roles={"path": "path"}),
    ToolDescriptor(
        name="run", capability="process.run", effect="execute", roles={"command": "command"}
    ),
)


def session(home: Path, number: int) -> None:
    """Take the turns of one session."""
    who = Principal(agent="bench", session=f"s{number}")
    with connect(who, home=home, transport="daemon") as client:
        governor = Governor(client)
        governor.register_tools(TOOLS)
        governor.open_session("You do all kinds of things.")
        for turn in range(TURNS):
            governor.append("user", f"turn {turn}")
            governor.compose()
            _models(governor, who)
            _tools(governor, who)
            client.call("memory_write", {"text": f"turn {turn} of {number}"})
            client.call("memory_search", {"query": "turn"})
            governor.flush()


def _models(governor: Governor, who: Principal) -> None:
    for estimate, cut in ((100, False), (100, True), (10**9, False)):
        kind = OperationKind.MODEL_GENERATE
        call = Operation(kind=kind, name="m", principal=who, cost_estimate={"tokens": estimate})
        if not governor.before_model(call).allowed:
            continue
        if cut:
            governor.cancelled(call)
        else:
            governor.after_model(call, {"input_tokens": 60, "output_tokens": 20})


def _tools(governor: Governor, who: Principal) -> None:
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("run", {"command": "make test"}),
        ("read", {"path": "/work/a"}),
        ("read", {"path": "/etc/shadow"}),
        ("write", {"path": "/work/a"}),
        ("unknown", {}),
        ("read", {"path": "/work/b"}),
    )
    for number, (name, arguments) in enumerate(asked):
        kind = OperationKind.TOOL_CALL
        call = Operation(kind=kind, name=name, arguments=arguments, principal=who)
        if governor.before_tool(call).allowed:
            status = OutcomeStatus.FAILED if number == 1 else OutcomeStatus.OK
            error = "OSError: gone" if number == 1 else ""
            outcome = Outcome(operation=call.id, status=status, error=error, duration_ms=1)
            governor.close_tool(call, outcome, "text")


def rows(home: Path) -> list[Any]:
    """Return the rows of the journal that the kernel wrote."""
    with Kernel.open(home) as kernel:
        everything = kernel.volume("default").journal(since=0)
        return [row for row in everything if "." in row.operation]


def covered(intents: list[Any], told: list[Told]) -> int:
    """Return how many rows are exactly one span, which has the row's ids."""
    by_row: dict[int, list[Told]] = {}
    for span in told:
        number = span.attributes.get("fmos.journal.seq")
        if number is not None:
            by_row.setdefault(number, []).append(span)
    return sum(
        [(span.trace, span.span) for span in by_row.get(row.seq, ())]
        == [(row.detail["trace"], row.detail["span"])]
        for row in intents
    )


def main() -> None:
    """Run, compare and save."""
    report = Report("span_coverage", "operations of a run that have a span of their own")
    side = Side("run", NORMAL, lambda _: 0.0)
    short = tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp")
    with workspace() as folder, short as link:
        (folder / "contracts").mkdir()
        (folder / "contracts" / "bench.yaml").write_text(CONTRACT, encoding="utf-8")
        said = '[telemetry]\nexporter = "file"\nfile_megabytes = 4000\n'
        (folder / "fmos.toml").write_text(said, encoding="utf-8")
        home = Path(link) / "h"
        home.symlink_to(folder)
        begin = perf_counter()
        with daemon(home, "--no-http"), ThreadPoolExecutor(AGENTS) as pool:
            list(pool.map(lambda number: session(home, number), range(AGENTS)))
            telemetry.shutdown(60)
        taken = perf_counter() - begin
        told, journal = spans(home / "telemetry.jsonl"), rows(home)
    report.add(f"{AGENTS} sessions", Measure({side.name: [taken]}), [side])
    _rows(report, told, journal)
    report.save()


def _rows(report: Report, told: list[Told], journal: list[Any]) -> None:
    intents = [row for row in journal if row.operation == "op.intent"]
    share = covered(intents, told) / len(intents) * 100
    around = Counter(
        span.attributes["fmos.operation.id"]
        for span in told
        if span.name.startswith(("execute_tool ", "chat "))
    )
    agents = sum(around[row.detail["id"]] == 1 for row in intents) / len(intents) * 100
    named = {number for span in told for number in span.rows}
    whole = sum(row.seq in named for row in journal) / len(journal) * 100
    report.at_least("operations with exactly one span, which is their row's", share, "%", 99)
    report.tell("operations with exactly one span around the call itself", agents, "%")
    report.tell("rows of the kernel in the journal that a span names", whole, "%")
    report.tell("operations", len(intents), "operations")
    report.tell("spans", len(told), "spans")
    report.sum_up(
        f"operations with a span of their own, of {len(intents):,} in {AGENTS} sessions",
        f"{share:.2f} %",
        f"around the call itself {agents:.2f} %",
    )
    report.notes.append(
        "The operations are those of the journal (`op.intent`): allowed, denied, asked, refused by"
        " the ledger, cut off, failed, and on the fast path."
    )


if __name__ == "__main__":
    main()
