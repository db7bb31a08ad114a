"""Claim: an innocuous operation is classed in microseconds, without asking a server.

Target: <= 5 us p50 and <= 20 us p99 in process, with 1,000 rules and signals on.

Beside it a call that traps to the gate of the same home, in process.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fmos.client import Client, Governor, ToolDescriptor, connect
from fmos.traps.features import NAMES
from fmos.traps.judge import Judge
from fmos.traps.learned import Line, TrapModel
from fmos.traps.table import TrapTable, read_table
from fmos.types import Operation, OperationClass, OperationKind, Principal, new_id
from harness import NORMAL, Report, Side, interleave, scale, workspace

RULES = scale(1000, 50)
CALLS = scale(20_000, 500)
GATE_CALLS = scale(100, 3)
ROUNDS = scale(7, 2)
WHO = Principal(agent="a", session="s")
NOTHING = "nothing is written"
#: Operations of a session come four a second by its own clock, as an agent's do.
PACE_NS = 250_000_000
CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: a
capabilities: [fs.read, fs.write]
security: { paths: { read: ["/src/**", "/doc/*.md"], write: ["/src/**"] } }
"""


@dataclass(slots=True)
class Timed:
    """One side: what is done to one operation, and the nanoseconds of each."""

    one: Callable[[Operation], object]
    operations: list[Operation]
    calls: int
    samples: list[int] = field(default_factory=list)

    def run(self, turn: int) -> float:
        """Do all operations once; a warm-up leaves no samples."""
        one, clock, taken = self.one, time.perf_counter_ns, []
        for operation in itertools.islice(itertools.cycle(self.operations), self.calls):
            begin = clock()
            one(operation)
            taken.append(clock() - begin)
        if turn >= 0:
            self.samples += taken
        return sum(taken) / 1e9

    def percentile_us(self, percent: int) -> float:
        """Return a percentile of all samples, in microseconds."""
        return statistics.quantiles(self.samples, n=100)[percent - 1] / 1000


def main() -> None:
    """Measure and write the result."""
    claim = f"one operation against a table of {RULES:,} rules"
    report = Report("trap_table", claim)
    with workspace() as home, session(home) as client:
        sides = prepare(client)
        durability = dict.fromkeys(sides, NOTHING) | {"gate": f"intent row; {NORMAL}"}
        runs = [Side(name, durability[name], side.run) for name, side in sides.items()]
        found = interleave(runs, ROUNDS)
    report.add("operations", found, runs)
    ours = sides["ours"]
    report.at_most("ours, p50", ours.percentile_us(50), "us", 5)
    report.at_most("ours, p99", ours.percentile_us(99), "us", 20)
    for name, side in sides.items():
        if name != "ours":
            report.tell(f"{name}, p50", side.percentile_us(50), "us")
            report.tell(f"{name}, p99", side.percentile_us(99), "us")
    report.notes.append(
        "*Ours* is table, scope of one path, seven signals and the session's memory, where paths"
        " come again; *new paths* the same where none was seen before; *table* the table alone;"
        " *learned* is ours with a model of 17 features; *governor* all that a caller waits for,"
        f" verdict included; *gate* a trap, in process, with {RULES:,} tools registered. The"
        " timer's own cost is included."
    )
    report.sum_up(
        f"class an innocuous operation, {RULES:,} rules, p50",
        f"{ours.percentile_us(50):.1f} us",
        f"asking the gate in process {sides['gate'].percentile_us(50):,.0f} us",
    )
    report.save()


@contextmanager
def session(home: Path) -> Iterator[Client]:
    """Open a home whose agent has as many tools as there are rules."""
    (home / "contracts").mkdir()
    (home / "contracts" / "a.yaml").write_text(CONTRACT, encoding="utf-8")
    with connect(WHO, home=home, transport="inprocess") as client:
        yield client


def prepare(client: Client) -> dict[str, Timed]:
    """Register the tools, and return every side with its operations."""
    reading = {"capability": "fs.read", "effect": "read", "roles": {"path": "path"}}
    tools = [ToolDescriptor.model_validate({"name": f"read{n}", **reading}) for n in range(RULES)]
    tools[-1] = ToolDescriptor(
        name="write", capability="fs.write", effect="write", roles={"path": "path"}
    )
    governor = Governor(client)
    governor.register_tools(tools)
    table = read_table(client.call("trust_table"))
    reads = [call(f"read{n}", f"/src/part{n % 40}/module_{n}.py") for n in range(RULES - 1)]
    fast = {
        "ours": judged(Judge(), table),
        "new paths": judged(Judge(), table),
        "table": lambda operation: table.classify(operation, table.issued_ns),
        "learned": judged(learned(), table),
        "governor": governor.before_tool,
    }
    for one in fast.values():
        one(reads[0])
    assert governor.before_tool(reads[0]).reasons[0].code == "trap.innocuous"
    assert table.classify(reads[0], table.issued_ns) is OperationClass.INNOCUOUS
    sides = {name: Timed(one, reads, CALLS) for name, one in fast.items()}
    sides["new paths"].operations = [
        call(f"read{n % (RULES - 1)}", f"/src/part{n % 40}/module_{n}.py") for n in range(CALLS)
    ]
    writes = [call("write", f"/src/out{n}.txt") for n in range(GATE_CALLS)]
    return sides | {"gate": Timed(asked(governor), writes, GATE_CALLS)}


def judged(judge: Judge, table: TrapTable) -> Callable[[Operation], object]:
    """Return what classes one operation of a session, signals included."""
    steady = itertools.count(0, PACE_NS)

    def one(operation: Operation) -> None:
        found = judge.judge(table, operation, table.issued_ns, next(steady))
        assert found.innocuous

    return one


def asked(governor: Governor) -> Callable[[Operation], object]:
    """Return what asks the gate about an operation, each time as a new one."""
    return lambda operation: governor.before_tool(operation.model_copy(update={"id": new_id()}))


def learned() -> Judge:
    """Return a judge with learned traps that use every feature and never trap."""
    line = Line(weights=dict.fromkeys(NAMES, 0.001), bias=-9.0, threshold=0.5)
    model = TrapModel(
        name="bench",
        full=line,
        operation_only=line,
        trained_on="",
        split_by="run",
        held_out=0.3,
        created="",
    )
    judge = Judge(model.sealed())
    judge.past.note_text("please read the modules of every part of my source", of_user=True)
    judge.past.note_text("part1 has module_1.py, part2 has module_2.py", of_user=False)
    return judge


def call(tool: str, path: str) -> Operation:
    """Return a call of a tool on a path."""
    arguments = {"path": path, "limit": 200}
    return Operation(kind=OperationKind.TOOL_CALL, name=tool, arguments=arguments, principal=WHO)


if __name__ == "__main__":
    main()
