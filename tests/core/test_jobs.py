"""Background jobs: one owner at a time, and one job's failure is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from tests.core.waiting import until

from fmos.errors import HomeError
from fmos.ledger.owners import owner_of, owner_text, this_process
from fmos.runtime.jobs import Job, JobRun, JobRuns, Jobs, Stop, doctor, kernel_jobs, lock_path
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.runtime.states import AgentState, AgentStates, StateRow
from fmos.settings import read_settings
from fmos.types import Principal

OWNER = """
import os, sys, time
from fmos.runtime.jobs import Job, Jobs
from fmos.runtime.kernel import Kernel

def note(kernel, stop):
    with open(sys.argv[2], "a") as file:
        file.write(f"{os.getpid()}\\n")

with Kernel.open(sys.argv[1]) as kernel:
    with Jobs(kernel, [Job("note", 0.05, note)], take_over_s=0.1):
        print("ready", flush=True)
        sys.stdin.read()
print("stopped", flush=True)
"""


@contextmanager
def owner(home: Path, notes: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that would do the jobs of a home."""
    command = [sys.executable, "-c", OWNER, str(home), str(notes)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def pids(notes: Path) -> list[int]:
    """Return which process ran the job each time."""
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


def test_one_of_two_owners_runs_and_the_other_takes_over(tmp_path: Path) -> None:
    """Two processes on one home: one does the jobs until it is killed, then the other does."""
    home, notes = tmp_path / "home", tmp_path / "notes"
    Kernel.open(home).close()
    with owner(home, notes) as first, owner(home, notes) as second:
        until(lambda: len(pids(notes)) >= 8)
        [running] = set(pids(notes))
        assert running in (first.pid, second.pid)
        said = owner_of((home / "run" / "jobs.lock").read_text())
        assert said is not None
        assert said.pid == running
        killed, left = (first, second) if running == first.pid else (second, first)
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        dead_at = time.monotonic()
        until(lambda: pids(notes)[-1] == left.pid, limit_s=5)
        assert time.monotonic() - dead_at < 5
        taken_over = pids(notes).index(left.pid)
        assert set(pids(notes)[taken_over:]) == {left.pid}
        left.communicate()  # the end of its input asks it to stop
        assert left.returncode == 0
    done = len(pids(notes))
    with Kernel.open(home) as kernel:
        with Jobs(kernel, []) as jobs:
            until(lambda: jobs.is_owner)
        [run] = JobRuns(kernel.database).all()
    assert (run.name, run.failures, run.owner) == ("note", 0, left.pid)
    assert len(pids(notes)) == done


def test_a_failing_job_stops_no_other_and_waits_longer_each_time(kernel: Kernel) -> None:
    """Its error can be read, the others go on, and the pause after it doubles."""
    ran: list[str] = []

    def fail(kernel: Kernel, stop: Stop) -> None:
        ran.append("fail")
        raise HomeError("no key", hint="restore it")

    jobs = [Job("fail", 0.01, fail), Job("good", 0.01, lambda k, s: ran.append("good"))]
    with Jobs(kernel, jobs):
        until(lambda: ran.count("good") >= 5 and "fail" in ran)
        until(lambda: JobRuns(kernel.database).get("fail") is not None)
    assert ran.count("fail") == 1
    runs = JobRuns(kernel.database)
    first = runs.get("fail")
    assert first is not None
    assert (first.failures, first.error) == (1, "no key; restore it")
    runs.put(first._replace(next_ns=0))  # as if the time had passed
    with Jobs(kernel, jobs):
        until(lambda: (found := runs.get("fail")) is not None and found.failures == 2)
    second = runs.get("fail")
    assert second is not None
    waits = [(run.next_ns - run.started_ns) / 1e9 for run in (first, second)]
    assert waits == pytest.approx([5, 10], abs=1)
    assert [each[1] for each in doctor(kernel.home.path, False)] == ["job fail"]


def test_a_daily_job_is_daily_over_restarts(kernel: Kernel) -> None:
    """What ran an hour ago does not run again because a process started."""
    ran = threading.Event()
    job = Job("daily", 86_400, lambda k, s: ran.set())
    runs = JobRuns(kernel.database)
    now_ns = kernel.clock.now_ns()
    hour_ago = now_ns - 3600 * 10**9
    runs.put(JobRun("daily", hour_ago, 1, 1, 0, hour_ago + 86_400 * 10**9, ""))
    other = threading.Event()
    with Jobs(kernel, [job, Job("other", 0.01, lambda k, s: other.set())]):
        assert other.wait(10)
        assert not ran.wait(0.1)
    runs.put(JobRun("daily", now_ns - 90_000 * 10**9, 1, 1, 0, 0, ""))
    with Jobs(kernel, [job]):
        assert ran.wait(10)


def test_a_long_job_is_asked_to_end(kernel: Kernel) -> None:
    """Stopping does not wait for a job that looks at its `Stop`, and the run does not count."""
    begun = threading.Event()

    def endless(kernel: Kernel, stop: Stop) -> None:
        begun.set()
        while True:
            stop.check()
            time.sleep(0.001)

    with Jobs(kernel, [Job("endless", 1, endless)]):
        assert begun.wait(10)
    assert JobRuns(kernel.database).get("endless") is None


def test_a_job_that_is_never_due_does_not_run(kernel: Kernel) -> None:
    """0 seconds in the settings turns a job off."""
    other, ran = threading.Event(), threading.Event()
    never = Job("never", 0, lambda k, s: ran.set())
    with Jobs(kernel, [never, Job("other", 0.01, lambda k, s: other.set())]):
        assert other.wait(10)
    assert not ran.is_set()


def test_the_kernels_jobs_do_what_they_are_for(tmp_path: Path) -> None:
    """Reservations of the dead end, owed rows are written, and volumes shrink."""
    tmp_path.joinpath("fmos.toml").write_text(
        "[audit]\nkeep_days = 0\n[jobs]\nexpire_s = 7\ncanaries_s = 0\n"
    )
    with Kernel.open(tmp_path) as kernel:
        who = Principal(agent="writer")
        kernel.serve_others()
        held = kernel.reserve(who, {"tokens": 5}, operation="o1", ttl_s=0)
        fs = kernel.agent_fs(who)
        fs.write("/big", os.urandom(2_000_000))
        fs.remove("/big")
        kernel.volume("default").set_retention(0)
        AgentStates(kernel.database).put(
            StateRow("default", "writer", AgentState.PAUSED, 1, "", "", "c1", "agent.pause", {})
        )
        jobs = {job.name: job for job in kernel_jobs(kernel)}
        assert jobs["ledger.expire"].every_s == 7
        assert jobs["versions.canaries"].every_s == 0
        before = fs.stats().chunk_bytes
        for job in jobs.values():
            job.run(kernel, Stop())
        known = kernel.ledger.find(held.id)
        assert known is not None
        assert known.state == "expired"
        assert fs.stats().chunk_bytes == 0 < 1_000_000 < before
        noted = AgentStates(kernel.database).get(who)
        assert noted is not None
        assert noted.noted
        assert Lifecycle(kernel).show(who).state == "paused"
        assert kernel.volume("default").verify_journal().ok


def test_the_doctor_tells_what_is_wrong(kernel: Kernel) -> None:
    """An owner that hangs or has ended is named; a home without jobs has nothing."""
    home = kernel.home.path
    assert list(doctor(home, False)) == []
    JobRuns(kernel.database).put(JobRun("late", 1, 1, 1, 0, 1, ""))
    assert list(doctor(home, False)) == []
    with Jobs(kernel, []) as jobs:
        until(lambda: jobs.is_owner)
        [(severity, thing, problem, _)] = doctor(home, False)
        assert (severity, thing) == ("warning", "job late")
        assert str(os.getpid()) in problem
        owner = this_process()
        assert owner is not None
        assert owner_of(lock_path(kernel).read_text()) == owner
        gone = owner._replace(pid=4194304)  # no process has this number
        lock_path(kernel).write_text(owner_text(gone) or "")
        assert next(doctor(home, False))[0] == "error"
        lock_path(kernel).write_text(owner_text(gone._replace(space="another")) or "")
        assert [each[0] for each in doctor(home, False)] == ["warning"]  # it cannot be known
        lock_path(kernel).write_text("4194304")  # as where /proc says nothing
        assert [each[0] for each in doctor(home, False)] == ["warning"]


@pytest.mark.parametrize(
    "part",
    [
        "fmos.steps.reconcile.reconcile_home",
        "fmos.workflow.waits.expire_waits",
        "fmos.audit.checkpoints.checkpoint_due",
        "fmos.versions.watch_canaries",
    ],
)
def test_a_job_whose_part_is_broken_fails(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A part that cannot be imported is a failure that is told, and no job with nothing to do."""
    import_module(part.rpartition(".")[0])
    monkeypatch.delattr(part)
    failed: list[str] = []
    for job in kernel_jobs(kernel):
        try:
            job.run(kernel, Stop())
        except ImportError:
            failed.append(job.name)
    assert len(failed) == 1


def test_an_interval_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """The settings name the key."""
    tmp_path.joinpath("fmos.toml").write_text("[jobs]\nexpire_s = -1\n")
    with pytest.raises(HomeError, match=r"jobs\.expire_s"):
        read_settings(tmp_path)


def test_the_daemon_does_the_jobs(tmp_path: Path) -> None:
    """`fmos serve` owns them while it runs, the gate's job among them, and ends cleanly."""
    pytest.importorskip("mcp", reason="extra `servers`")
    tmp_path.joinpath("fmos.toml").write_text("[jobs]\nexpire_s = 0.1\n")
    command = [sys.executable, "-m", "fmos_cli", "--home", str(tmp_path), "serve", "--no-http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline().startswith("serving")
            with Kernel.open(tmp_path) as kernel:
                runs = JobRuns(kernel.database)
                wanted = {"ledger.expire", "agents.recover", "approvals.expire"}
                until(lambda: wanted <= {run.name for run in runs.all() if not run.failures})
                assert {run.owner for run in runs.all()} == {daemon.pid}
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(20) == 0
        finally:
            daemon.kill()
    assert list(doctor(tmp_path, False)) == []
