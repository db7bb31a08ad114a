"""A process that writes to a home all the time; run as `python home_writer.py HOME NAME`.

Each operation is a reservation, an intent, a file, an outcome and a commit, in that order, as the
servers do it. It prints the number of each operation that is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from agentfs import AgentFS
from fmos.audit.record import record_intent, record_outcome
from fmos.care.examine import examine
from fmos.runtime.kernel import Kernel
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Verdict,
)

_RESERVED = "SELECT key, state FROM reservation"


def write(home: Path, name: str) -> None:
    """Write until killed."""
    who = Principal(agent=name, session="s")
    with Kernel.open(home) as kernel:
        files = kernel.agent_files(who)
        number = 0
        while True:
            operation = Operation(
                id=f"{name}-{number}", kind=OperationKind.TOOL_CALL, name="w", principal=who
            )
            held = kernel.reserve(who, {"tokens": 3}, operation=operation.id)
            verdict = Verdict(operation=operation.id, decision=Decision.ALLOW)
            record_intent(kernel, operation, verdict)
            files.write(f"/{number % 20}.txt", f"{name} {number}\n" * 200)
            done = Outcome(operation=operation.id, status=OutcomeStatus.OK)
            record_outcome(kernel, who, done)
            kernel.ledger.commit(held.id, {"tokens": 2})
            print(number, flush=True)
            number += 1


@contextmanager
def writing(home: Path, *names: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Run writers, each after its first operation, and kill them at the end."""
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(home), name], stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    try:
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline(), "the writer ended"
        yield started
        assert all(each.poll() is None for each in started), "a writer failed"
    finally:
        for each in started:
            each.send_signal(signal.SIGKILL)
            each.wait()
            if each.stdout is not None:
                each.stdout.close()


def faults_of(home: Path) -> list[str]:
    """Return what a crash at one instant cannot leave in a home that `write` wrote to."""
    found = [str(fault) for fault in examine(home)]
    connection = apsw.Connection(str(home / "kernel.db"))
    states = dict(connection.execute(_RESERVED).fetchall())
    connection.close()
    intents: set[str] = set()
    outcomes: set[str] = set()
    with AgentFS.open(home / "tenants/default.afs", create=False, system=True) as volume:
        for row in volume.journal():
            if row.operation == "op.intent":
                intents.add(row.detail["id"])
            elif row.operation == "op.outcome":
                outcomes.add(row.detail["id"])
    found += [f"{each} has an outcome and no intent" for each in outcomes - intents]
    found += [f"{each} was begun without a reservation" for each in intents - states.keys()]
    paid = {key for key, state in states.items() if state == "committed"}
    found += [f"{each} was paid for and has no outcome" for each in paid - outcomes]
    return found


if __name__ == "__main__":
    os.environ.pop("FMOS_HOME", None)
    write(Path(sys.argv[1]), sys.argv[2])
