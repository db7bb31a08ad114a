"""What killed processes left is put right once: outcomes, reservations and steps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fmos.audit.record import record_intent, record_outcome, verify
from fmos.clock import FixedClock
from fmos.runtime.kernel import Kernel
from fmos.steps.reconcile import UNKNOWN_AFTER_S, Reconciled, reconcile
from fmos.steps.steps import Steps
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Verdict,
)

WHO = Principal(agent="worker", session="s1")


def operation(id: str) -> Operation:
    """A model call of the worker."""
    return Operation(id=id, kind=OperationKind.MODEL_GENERATE, name="m", principal=WHO)


def ask(kernel: Kernel, id: str, *, tokens: int = 0, decision: Decision = Decision.ALLOW) -> str:
    """Reserve, if tokens are given, and note the intent; return the reservation."""
    held = kernel.reserve(WHO, {"tokens": tokens}, operation=id).id if tokens else None
    verdict = Verdict(operation=id, decision=decision, reservation=held)
    record_intent(kernel, operation(id), verdict)
    return held or ""


def tell(kernel: Kernel, id: str, **usage: int) -> None:
    """Note the outcome."""
    record_outcome(kernel, WHO, Outcome(operation=id, status=OutcomeStatus.OK, usage=usage))


def in_dead_process(home: Path, work: Callable[[Kernel], object]) -> None:
    """Do something in a process that ends without closing anything."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work(Kernel.open(home))
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def outcomes(kernel: Kernel) -> list[tuple[str, str]]:
    """Return id and status of every outcome row."""
    rows = kernel.volume("default").journal(operation="op.outcome")
    return [(row.detail["id"], row.detail["status"]) for row in rows]


def test_what_a_dead_process_asked_for_becomes_unknown_once(tmp_path: Path) -> None:
    """One row in the name of who asked; denied, settled and living operations get none."""

    def work(kernel: Kernel) -> None:
        ask(kernel, "lost")
        ask(kernel, "denied", decision=Decision.DENY)
        ask(kernel, "settled")
        tell(kernel, "settled")

    in_dead_process(tmp_path, work)
    with Kernel.open(tmp_path) as kernel:
        ask(kernel, "mine")
        assert reconcile(kernel) == Reconciled(unknown=1)
        assert reconcile(kernel) == Reconciled()
        assert outcomes(kernel) == [("settled", "ok"), ("lost", "unknown")]
        row = list(kernel.volume("default").journal(operation="op.outcome"))[-1]
        assert (row.principal, row.branch, row.detail["reconciled"]) == (str(WHO), "worker", True)
        tell(kernel, "mine")
        assert reconcile(kernel) == Reconciled()
        assert verify(kernel, "default")["ok"]


def test_each_look_reads_only_what_is_new(tmp_path: Path) -> None:
    """A living operation stays known without reading its row again, until its process ends."""
    with Kernel.open(tmp_path) as kernel:
        ask(kernel, "mine")
        reconcile(kernel)
        seq = kernel.database.query("SELECT seq FROM reconciled")[0][0]
        assert kernel.database.query("SELECT id FROM open_intent") == [("mine",)]
        reconcile(kernel)
        assert kernel.database.query("SELECT seq FROM reconciled")[0][0] == seq
        tell(kernel, "mine")
        reconcile(kernel)
        assert kernel.database.query("SELECT id FROM open_intent") == []
        assert outcomes(kernel) == [("mine", "ok")]


def test_what_is_known_to_be_used_is_committed(tmp_path: Path) -> None:
    """A reservation whose outcome is in the journal is spent; one without any is given back."""

    def work(kernel: Kernel) -> None:
        ask(kernel, "used", tokens=100)
        tell(kernel, "used", tokens=70)
        ask(kernel, "lost", tokens=100)
        kernel.reserve(WHO, {"tokens": 100}, operation="no intent")

    in_dead_process(tmp_path, work)
    with Kernel.open(tmp_path) as kernel:
        found = reconcile(kernel)
        assert (found.unknown, found.settled) == (1, 1)
        assert reconcile(kernel) == Reconciled()
        balances = {row.resource: row for row in kernel.ledger.status(kernel.account(WHO))}
        assert (balances["tokens"].spent, balances["tokens"].reserved) == (70, 0)


def test_what_the_ledger_knows_is_in_the_unknown_outcome(tmp_path: Path) -> None:
    """Killed between the commit and the outcome row: the row has what was committed."""

    def work(kernel: Kernel) -> None:
        kernel.ledger.commit(ask(kernel, "paid", tokens=100), {"tokens": 40})

    in_dead_process(tmp_path, work)
    with Kernel.open(tmp_path) as kernel:
        reconcile(kernel)
        [row] = kernel.volume("default").journal(operation="op.outcome")
        assert (row.detail["status"], row.detail["usage"]) == ("unknown", {"tokens": 40})


def test_what_a_server_asked_for_others_is_given_up_after_a_time(tmp_path: Path) -> None:
    """The caller of a daemon may outlive it, so only time tells."""
    clock = FixedClock(4_000_000_000 * 10**9)
    with Kernel.open(tmp_path, clock) as kernel:
        kernel.serve_others()
        ask(kernel, "remote")
        [row] = kernel.volume("default").journal(operation="op.intent")
        clock.advance((row.time_ns - clock.now_ns()) / 1e9 + UNKNOWN_AFTER_S - 1)
        assert reconcile(kernel).unknown == 0
        clock.advance(2)
        assert reconcile(kernel).unknown == 1


@pytest.mark.parametrize(("effect", "state"), [("volume", "failed"), ("outside", "in_doubt")])
def test_steps_of_dead_processes_are_settled(tmp_path: Path, effect: str, state: str) -> None:
    """One whose outcome is in the volume is done; the others are free, or in doubt."""

    def work(kernel: Kernel) -> None:
        steps = Steps(kernel)
        end = steps._end
        steps._end = lambda *a, **n: os._exit(0) if a[1] == "done" else end(*a, **n)  # type: ignore[method-assign]
        steps.run(WHO, "r", "stored", lambda call: 7, effect=effect)  # type: ignore[arg-type]

    def die(kernel: Kernel) -> None:
        Steps(kernel).run(WHO, "r", "cut", lambda call: os._exit(0), effect=effect)  # type: ignore[arg-type]

    in_dead_process(tmp_path, work)
    in_dead_process(tmp_path, die)
    with Kernel.open(tmp_path) as kernel:
        assert reconcile(kernel).steps == 2
        assert reconcile(kernel).steps == 0
        states = {each.key: each.state for each in Steps(kernel).of_run("default", "r")}
        assert states == {"stored": "done", "cut": state}
