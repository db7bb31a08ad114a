"""Claim: the control of a whole agent turn, telemetry on, costs at most 25 ms in 19 of 20 turns.

What a governed turn adds to its model and tool: the context is composed, the model call admitted
and settled, the tool call checked (the user's words, which nobody has observed yet, ride along in
the same call) and settled. The governor does it, and the sum is timed, through the daemon's unix
socket with client and daemon writing every span to a file; model and tool themselves take no time
here. That the turn's three texts are appended to the context is a row of its own.

Beside it: the same without telemetry, and both in process. The layers are read from the spans
themselves: what a client's span lasted longer than the server's below it is transport.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import timeit
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from daemons import daemon
from fmos import telemetry
from fmos.client import Client, Governor, ToolDescriptor, connect
from fmos.settings import read_settings
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal
from harness import NORMAL, Report, Side, interleave, scale, workspace
from otlp import Told, spans

TURNS = scale(40, 3)
ROUNDS = scale(12, 1)
LIMIT_MS = 25
CALLS = 500
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: bench
class: { latency: SRT }
capabilities: [ "process.run" ]
budgets: { tokens: 900M }
"""
TOOL = ToolDescriptor(
    name="run", capability="process.run", effect="execute", roles={"command": "command"}
)
OUTPUT = "".join(f"test {number} passed\n" for number in range(100))
ON, OFF = "socket, telemetry on", "socket, telemetry off"
LOCAL_ON, LOCAL_OFF = "in process, telemetry on", "in process, telemetry off"
TIMED = {
    f"tools/call {tool}"
    for tool in ("context_compose", "budget_admit", "budget_settle", "trust_check", "trust_settle")
}
LAYERS = ("client", "transport", "service", "ledger", "journal", "context", "telemetry")

Samples = dict[str, list[tuple[float, float]]]


class Watched(Client):
    """A client that says how long its last append to the context took."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.principal, client._transport)
        self.appends = 0.0

    def call(self, tool: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool, and add up what appends take."""
        if tool != "context_append":
            return super().call(tool, arguments)
        begin = perf_counter()
        answer = super().call(tool, arguments)
        self.appends += perf_counter() - begin
        return answer


def home_at(folder: Path, settings: str, stack: ExitStack) -> Path:
    """Make a home with the contract and settings, reached through a link that a socket fits."""
    (folder / "contracts").mkdir(parents=True)
    (folder / "contracts" / "bench.yaml").write_text(CONTRACT, encoding="utf-8")
    (folder / "fmos.toml").write_text(settings, encoding="utf-8")
    short = stack.enter_context(tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp"))
    link = Path(short) / "h"
    link.symlink_to(folder)
    return link


def turn(governor: Governor, client: Watched, number: int) -> tuple[float, float]:
    """Take one turn; return the seconds of its control, and of its appends."""
    who = client.principal
    client.appends = 0.0
    governor.append("user", f"run the tests again, for the {number}th time")
    model = Operation(
        kind=OperationKind.MODEL_GENERATE,
        name="gpt-5",
        principal=who,
        cost_estimate={"tokens": 2000},
    )
    tool = Operation(
        kind=OperationKind.TOOL_CALL,
        name="run",
        arguments={"command": "make test"},
        principal=who,
    )
    outcome = Outcome(operation=tool.id, status=OutcomeStatus.OK, duration_ms=12)
    appended, begin = client.appends, perf_counter()
    governor.compose()
    admitted = governor.before_model(model)
    governor.after_model(model, {"input_tokens": 900, "output_tokens": 60})
    checked = governor.before_tool(tool)
    governor.close_tool(tool, outcome, OUTPUT)
    taken = perf_counter() - begin - (client.appends - appended)
    assert admitted.allowed, admitted
    assert checked.allowed, checked
    governor.append("assistant", "they pass")
    governor.flush()
    return taken, client.appends


def turns(home: Path, transport: str, number: int, kept: list[tuple[float, float]]) -> float:
    """Take the turns of one round in a session of its own; keep the seconds of each."""
    who = Principal(agent="bench", session=f"s{number + 10}")
    settings = read_settings(home).telemetry
    if settings.exporter != "none":
        telemetry.configure(settings, "fmos-client", home=home)
    try:
        with connect(who, home=home, transport=transport) as client:
            return _turns(Watched(client), kept)
    finally:
        telemetry.shutdown(30)


def _turns(client: Watched, kept: list[tuple[float, float]]) -> float:
    governor = Governor(client)
    governor.register_tools([TOOL])
    governor.open_session("You run tests.")
    turn(governor, client, 0)  # opens what is opened once
    taken = [turn(governor, client, number + 1) for number in range(TURNS)]
    kept.extend(taken)
    return sum(control for control, _ in taken)


def layers_of(told: list[Told]) -> dict[str, list[float]]:
    """Return the milliseconds of each layer, for each turn that the spans tell of."""
    by_trace: dict[str, list[Told]] = defaultdict(list)
    for span in told:
        by_trace[span.trace].append(span)
    found: dict[str, list[float]] = defaultdict(list)
    for each in by_trace.values():
        if any(span.name == "tools/call trust_check" for span in each):
            for name, taken in _layers(each).items():
                found[name].append(taken)
    return found


def _layers(turn_spans: list[Told]) -> dict[str, float]:
    """Return the milliseconds of each layer in one turn."""
    known = {span.span: span for span in turn_spans}
    total: dict[str, float] = dict.fromkeys(LAYERS[:-1], 0.0)
    for span in turn_spans:
        attributes = span.attributes
        if span.name.startswith(("execute_tool ", "chat ")):
            total["client"] += attributes["fmos.added_ms"] - attributes["fmos.calls_ms"]
        if span.kind != "server" or span.name not in TIMED:
            continue
        for layer in total:
            total[layer] += attributes.get(f"fmos.layer.{layer}_ms", 0.0)
        above = known.get(span.parent)
        if above is not None and above.kind == "client" and above.name == span.name:
            total["transport"] += above.ms - span.ms
    return total


def idle_ns() -> float:
    """Return the nanoseconds of the dearest call that instrumented code makes, telemetry off."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}

    def served() -> None:
        with telemetry.served("memory_get", "unix", meta):
            pass

    def requesting() -> None:
        with telemetry.requesting("memory_get", None):
            pass

    def layer() -> None:
        with telemetry.layer("journal"):
            pass

    calls = (served, requesting, layer, telemetry.carried, lambda: telemetry.recorded("x", 1))
    # Many short runs: the quickest is one that nobody interrupted.
    times = (min(timeit.repeat(call, number=CALLS, repeat=200)) for call in calls)
    return max(times) / CALLS * 1e9


def main() -> None:
    """Measure and save."""
    report = Report("turn_overhead", "the control of a whole agent turn, telemetry on")
    idle = idle_ns()  # before anything of OpenTelemetry is loaded
    samples: Samples = {name: [] for name in (ON, OFF, LOCAL_ON, LOCAL_OFF)}
    to_file = '[telemetry]\nexporter = "file"\nfile_megabytes = 4000\n'
    with workspace() as folder, ExitStack() as links, ExitStack() as stack:
        homes = {
            name: home_at(folder / str(number), "" if name in (OFF, LOCAL_OFF) else to_file, links)
            for number, name in enumerate(samples)
        }
        for name in (ON, OFF):
            stack.enter_context(daemon(homes[name], "--no-http"))

        def side(name: str) -> Side:
            where = "daemon" if name in (ON, OFF) else "inprocess"
            return Side(name, NORMAL, lambda r: turns(homes[name], where, r, samples[name]))

        sides = [side(name) for name in samples]
        measure = interleave(sides, ROUNDS)
        stack.close()
        report.add(f"{TURNS} turns", measure, sides)
        told = layers_of(spans(homes[ON] / "telemetry.jsonl"))
    # The turns of the warm-up round are in the file, and not in the figures.
    _rows(report, {name: kept[TURNS:] for name, kept in samples.items()}, told)
    report.at_most("the dearest instrumented call with telemetry off", idle, "ns", 1000)
    report.notes.append(
        f"{os.cpu_count()} cores hold client and daemon; {len(samples[ON]) - TURNS} turns a side,"
        f" {TURNS} in a session. The layers are medians of their own, so their sum is not the"
        " median of a turn; `telemetry` is what a turn over the socket takes longer with it."
    )
    report.save()


def _rows(report: Report, figures: Samples, told: dict[str, Any]) -> None:
    control = {name: [each for each, _ in kept] for name, kept in figures.items()}
    p50 = {name: statistics.median(kept) * 1000 for name, kept in control.items()}
    p95 = {name: statistics.quantiles(kept, n=20)[-1] * 1000 for name, kept in control.items()}
    appends = statistics.median(each for _, each in figures[ON]) * 1000
    report.at_most(f"a turn over the {ON}, p95", p95[ON], "ms", LIMIT_MS)
    report.tell(f"a turn over the {ON}, p50", p50[ON], "ms")
    report.tell(f"its three texts appended to the context, {ON}, p50", appends, "ms")
    for name in (OFF, LOCAL_ON, LOCAL_OFF):
        report.tell(f"a turn, {name}, p50", p50[name], "ms")
        report.tell(f"a turn, {name}, p95", p95[name], "ms")
    for layer in LAYERS[:-1]:
        report.tell(f"layer {layer}, p50 of a turn", statistics.median(told[layer]), "ms")
    report.tell("layer telemetry, p50 of a turn", p50[ON] - p50[OFF], "ms")
    report.sum_up(
        "control of a whole agent turn over the socket, telemetry on, p50 / p95",
        f"{p50[ON]:.1f} / {p95[ON]:.1f} ms",
        f"telemetry off {p50[OFF]:.1f} / {p95[OFF]:.1f} ms",
    )


if __name__ == "__main__":
    main()
