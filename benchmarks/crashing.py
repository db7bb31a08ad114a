"""Kills a workflow at every write and around every effect, and resumes it in another process.

A point is: before an effect, after it, before each statement that changes kernel.db, and before and
after each commit of the volume. The process is forked from this one and killed by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agentfs.transaction
from fmos.contract.parse import load_as
from fmos.contract.workflow import Workflow
from fmos.errors import CompensationError
from fmos.runtime.kernel import Kernel
from fmos.steps.model import NotDone, StepContext
from fmos.steps.saga import BackOff
from fmos.storage import database
from fmos.types import Principal
from fmos.workflow.actors import Actor, StepCall
from fmos.workflow.runner import Runner

WORKFLOW = """
workflow: crashing
steps:
  - { id: count, agent: counter, contract: { capabilities: [ fs.write ] }, out: { n: integer } }
  - { id: send, agent: sender, in: { n }, out: { sent: string } }
  - { id: recount, agent: counter, contract: { capabilities: [ fs.write ] }, out: { n: integer } }
  - { id: resend, agent: sender, in: { n }, out: { sent: string } }
  - { id: last, agent: judge, in: { sent }, out: { ok: boolean } }
"""
STEPS = ("count", "send", "recount", "resend", "last")
RUN = "r"


class Points:
    """Counts the points of this process, and kills it at one of them."""

    def __init__(self, kill_at: int = 0) -> None:
        """Kill at the point of this number, counted from 1; 0 never kills."""
        self.passed = 0
        self.kill_at = kill_at

    def reach(self) -> None:
        """Pass a point, or end here."""
        self.passed += 1
        if self.passed == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Make a point of every write of this process."""
        execute, leave = database.Database.execute, agentfs.transaction.WriteScope.__exit__

        def executing(this: Any, sql: str, bindings: Any = ()) -> int:
            self.reach()
            return execute(this, sql, bindings)

        def leaving(this: Any, *raised: Any) -> None:
            self.reach()
            leave(this, *raised)
            self.reach()

        database.Database.execute = executing  # type: ignore[method-assign]
        agentfs.transaction.WriteScope.__exit__ = leaving  # type: ignore[method-assign]


@dataclass(slots=True)
class Outside:
    """A file as the world outside: a line for each effect, in one write."""

    path: Path

    def add(self, line: str) -> None:
        """Have an effect."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def lines(self) -> list[str]:
        """Return the effects, oldest first."""
        return self.path.read_text(encoding="utf-8").split() if self.path.exists() else []


def actors(outside: Outside, points: Points, *, fails: bool) -> dict[str, Actor]:
    """Return actors with an effect of each kind; with `fails` the last step undoes the run."""

    def count(call: StepCall) -> Mapping[str, Any]:
        n = int(call.read("/n")) if call.attempt and _there(call, "/n") else 0
        points.reach()
        call.write("/n", str(n + 1))
        return {"n": n + 1}

    def uncount(call: StepCall) -> None:
        call.write("/n", str(int(call.read("/n")) - 1))
        points.reach()

    def send(call: StepCall) -> Mapping[str, Any]:
        points.reach()
        outside.add(call.idempotency_key)
        points.reach()
        return {"sent": call.idempotency_key}

    def sent(context: StepContext) -> object:
        done = context.idempotency_key in outside.lines()
        return {"sent": context.idempotency_key} if done else False

    def unsend(call: StepCall) -> None:
        points.reach()
        line = f"undo:{(call.outputs or {}).get('sent')}"
        if line not in outside.lines():  # what is idempotent looks before it acts
            outside.add(line)
        points.reach()

    def judge(call: StepCall) -> Mapping[str, Any]:
        points.reach()
        if fails:
            raise NotDone("it shall not be")
        return {"ok": True}

    return {
        "counter": Actor(count, "volume", uncount, "volume"),
        "sender": Actor(send, "outside", unsend, "idempotent", sent),
        "judge": Actor(judge, "idempotent"),
    }


def _there(call: StepCall, path: str) -> bool:
    try:
        call.read(path)
    except FileNotFoundError:
        return False
    return True


def run_once(home: Path, points: Points, *, fails: bool) -> str:
    """Start the run, or go on with it, and return its state."""
    outside = Outside(home / "outside")
    with Kernel.open(home) as kernel:
        runner = Runner(
            kernel, actors(outside, points, fails=fails), back_off=BackOff(3, 0.001), wait_s=10
        )
        try:
            return runner.start(load_as(Workflow, WORKFLOW), run=RUN).state
        except CompensationError:
            return "stuck"


def in_process(work: Callable[[], object]) -> int:
    """Do something in a forked process, and return how that ended: as `os.waitpid` says it."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def killed_at(home: Path, point: int, *, fails: bool) -> bool:
    """Run the workflow up to a point; return whether it was killed there."""

    def work() -> None:
        points = Points(point)
        points.install()
        run_once(home, points, fails=fails)

    status = in_process(work)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the run failed without being killed"
    return False


def resumed(home: Path, *, fails: bool) -> float:
    """Go on with the run in another process, and return the seconds until it has ended."""
    expected = "failed" if fails else "done"

    def work() -> None:
        state = run_once(home, Points(), fails=fails)
        assert state == expected, state

    begin = time.perf_counter()
    status = in_process(work)
    taken = time.perf_counter() - begin
    assert os.waitstatus_to_exitcode(status) == 0, "the resumed run did not end as it should"
    return taken


def duplicates(home: Path, *, fails: bool) -> int:
    """Return how many effects happened more or less than once, inside and outside."""
    lines = Outside(home / "outside").lines()
    with Kernel.open(home) as kernel:
        counted = int(kernel.agent_files(Principal(agent="counter", session=RUN)).read("/n"))
        rows = [
            row.detail["key"]
            for row in kernel.volume("default").journal(operation="step.done")
            if row.detail["run"] == RUN
        ]
    sent = [line for line in lines if not line.startswith("undo:")]
    undone = [line.removeprefix("undo:") for line in lines if line.startswith("undo:")]
    wrong = len(sent) - len(set(sent)) + abs(len(set(sent)) - 2)
    wrong += abs(counted - (0 if fails else 2))
    wrong += len(rows) - len(set(rows))
    if fails:
        wrong += 0 if undone == sent[::-1] else 1
    return wrong
