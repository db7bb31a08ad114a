"""The work in the background of a home, done by one owner at a time.

Whoever holds `run/jobs.lock` is the owner; the system frees the lock when a process dies, and
another that waits takes over within `TAKE_OVER_S`. Each job has a thread of its own, so one that
fails or is slow stops no other. kernel.db remembers the last run of each, so that a daily job is
daily over restarts, and one that fails is tried again after ever longer times.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from time import monotonic, time_ns
from types import TracebackType
from typing import Literal, NamedTuple

import apsw

from agentfs.errors import AgentFSError
from agentfs.looking import look_at
from fmos.errors import FmosError
from fmos.ledger.owners import is_dead, owner_of, owner_text, this_process
from fmos.runtime.kernel import Kernel
from fmos.storage import locks
from fmos.storage.database import Database

#: How bad something is that `doctor` says.
Said = Literal["warning", "error"]

#: How often who waits for the lock tries to have it.
TAKE_OVER_S = 1.0

_NS = 1_000_000_000
_FIRST_RUN_S = 30.0
_FIRST_RETRY_S = 5.0
_LAST_RETRY_S = 3600.0
_CLOCK_STEP_S = 5.0
_OVERDUE_NS = 600 * _NS
_LOCK = "jobs.lock"

_FIELDS = "name, started_ns, took_ms, owner, failures, next_ns, error"
_GET = f"SELECT {_FIELDS} FROM job_run WHERE name = ?"
_ALL = f"SELECT {_FIELDS} FROM job_run ORDER BY name"
_PUT = f"INSERT OR REPLACE INTO job_run({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)"

_log = logging.getLogger(__name__)


class Stopping(Exception):
    """Raised in a job that was asked to end; what it did so far is kept."""


class Stop:
    """What a job looks at to know whether it shall end soon."""

    def __init__(self, event: threading.Event | None = None) -> None:
        self._event = event or threading.Event()

    def check(self, *_: object) -> None:
        """Raise if the job shall end; may be handed over wherever progress is told.

        Raises:
            Stopping: then.
        """
        if self._event.is_set():
            raise Stopping


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done every so many seconds.

    `run` gets the kernel and a `Stop`, which it asks now and then when it takes long, and returns
    how much it did.
    """

    name: str
    every_s: float
    run: Callable[[Kernel, Stop], object]


class JobRun(NamedTuple):
    """The last run of a job; `error` is what the last failure said, until one goes well."""

    name: str
    started_ns: int
    took_ms: int
    owner: int
    failures: int
    next_ns: int
    error: str


class JobRuns:
    """The last runs of a home's jobs; all SQL of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = resources.files("fmos.runtime").joinpath("jobs.sql")
        database.install("jobs", [schema.read_text(encoding="utf-8")])

    def get(self, name: str) -> JobRun | None:
        """Return the last run of a job."""
        rows = self._database.query(_GET, (name,))
        return JobRun(*rows[0]) if rows else None

    def all(self) -> list[JobRun]:
        """Return the last run of every job, by name."""
        return [JobRun(*row) for row in self._database.query(_ALL)]

    def put(self, run: JobRun) -> None:
        """Keep a run in place of the one before."""
        self._database.execute(_PUT, run)


class Jobs:
    """The jobs of one home, as this process would do them. A context manager."""

    def __init__(
        self, kernel: Kernel, jobs: Sequence[Job], *, take_over_s: float = TAKE_OVER_S
    ) -> None:
        self._kernel = kernel
        self._jobs = [job for job in jobs if job.every_s > 0]
        self._runs = JobRuns(kernel.database)
        self._take_over_s = take_over_s
        self._stop = threading.Event()
        self._began = monotonic()
        self._keeper = threading.Thread(target=self._keep, name="fmos-jobs", daemon=True)
        self._owns = threading.Event()

    @property
    def is_owner(self) -> bool:
        """Whether this process does the jobs now."""
        return self._owns.is_set()

    def start(self) -> None:
        """Begin to try for the lock, and to do the jobs while it is held."""
        self._keeper.start()

    def stop(self) -> None:
        """End the jobs and let go of the lock; a job that runs ends at its next look at `Stop`."""
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join()

    def __enter__(self) -> Jobs:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _keep(self) -> None:
        """Wait for the lock, then do the jobs until the end."""
        with open(lock_path(self._kernel), "a+", encoding="ascii") as lock:
            while not locks.take(lock):
                if self._stop.wait(self._take_over_s):
                    return
            locks.write_holder(lock, owner_text(this_process()) or str(os.getpid()))
            self._owns.set()
            threads = [
                threading.Thread(target=self._repeat, args=(job,), name=f"fmos-job-{job.name}")
                for job in self._jobs
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._stop.wait()
            self._owns.clear()

    def _repeat(self, job: Job) -> None:
        """Do one job whenever it is due."""
        try:
            while not self._stop.wait(self._until_due_s(job)):
                if not self._until_due_s(job):
                    self._run(job)
        except Exception:  # the table of runs itself: nothing else can end one job for ever
            _log.exception("the background job %r ends", job.name)

    def _until_due_s(self, job: Job) -> float:
        """Return how long to wait; never for so long that a clock set back would matter."""
        last = self._runs.get(job.name)
        if last is None:  # who has just started has other things to do first
            return max(0.0, self._began + min(job.every_s, _FIRST_RUN_S) - monotonic())
        now_ns = self._kernel.clock.now_ns()
        due_ns = last.next_ns if last.failures else last.started_ns + int(job.every_s * _NS)
        if now_ns < last.started_ns:  # the clock was set back
            return 0.0
        return min(max(0.0, (due_ns - now_ns) / _NS), _CLOCK_STEP_S)

    def _run(self, job: Job) -> None:
        started_ns, begun = self._kernel.clock.now_ns(), monotonic()
        failures, error = 0, ""
        try:
            job.run(self._kernel, Stop(self._stop))
        except Stopping:
            return
        except Exception as problem:
            before = self._runs.get(job.name)
            failures, error = (before.failures if before else 0) + 1, _sentence(problem)
            _log.warning("the background job %r failed: %s", job.name, error)
        ended_ns = self._kernel.clock.now_ns()
        next_ns = ended_ns + int(_wait_s(job, failures) * _NS)
        took_ms = int((monotonic() - begun) * 1000)
        owner = os.getpid()
        self._runs.put(JobRun(job.name, started_ns, took_ms, owner, failures, next_ns, error))


def lock_path(kernel: Kernel) -> Path:
    """Return the file whose lock the owner of the jobs holds; it says who that is."""
    return kernel.home.path / "run" / _LOCK


def kernel_jobs(kernel: Kernel) -> tuple[Job, ...]:
    """Return the kernel's own jobs, as often as the settings say."""
    every = kernel.settings.jobs
    return (
        Job("ledger.expire", every.expire_s, lambda kernel, stop: kernel.ledger.expire()),
        Job("agents.recover", every.expire_s, _recover),
        Job("steps.reconcile", every.expire_s, _reconcile),
        Job("workflows.waits", every.expire_s, _expire_waits),
        Job("volumes.gc", every.gc_s, _collect),
        Job("audit.checkpoints", every.checkpoints_s, _checkpoint),
        Job("versions.canaries", every.canaries_s, _watch_canaries),
    )


def _recover(kernel: Kernel, stop: Stop) -> int:
    """Finish what killed processes left of changes to agents."""
    from fmos.runtime.agent_import import recover  # noqa: PLC0415
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - seldom anything to do

    return Lifecycle(kernel).settle_all() + recover(kernel)


def _collect(kernel: Kernel, stop: Stop) -> int:
    """Let go of what no state of any volume leads to, and of history past its retention."""
    from fmos.audit.checkpoints import let_go  # noqa: PLC0415 - the audit is above

    rows, failed = 0, ""
    for tenant in kernel.home.tenants():
        stop.check()
        try:
            rows += let_go(kernel, tenant)
        except (AgentFSError, FmosError) as error:  # the other tenants' volumes all the same
            failed = failed or f"{tenant}: {error}"
    if failed:
        raise FmosError(failed)
    return rows


def _reconcile(kernel: Kernel, stop: Stop) -> object:
    """Settle steps and intents that have no outcome."""
    from fmos.steps.reconcile import reconcile_home  # noqa: PLC0415 - the steps are above

    return reconcile_home(kernel)


def _expire_waits(kernel: Kernel, stop: Stop) -> int:
    """Deny or escalate what people did not answer in time."""
    from fmos.workflow.waits import expire_waits  # noqa: PLC0415 - the workflows are above

    return expire_waits(kernel)


def _checkpoint(kernel: Kernel, stop: Stop) -> int:
    """Sign the checkpoints of journals that are due."""
    from fmos.audit.checkpoints import checkpoint_due  # noqa: PLC0415 - the audit is above

    return checkpoint_due(kernel)


def _watch_canaries(kernel: Kernel, stop: Stop) -> int:
    """Take back the canaries that do worse than their control."""
    from fmos.versions import watch_canaries  # noqa: PLC0415 - the versions are above

    return watch_canaries(kernel)


def doctor(home: Path, deep: bool) -> Iterator[tuple[Said, str, str, str]]:
    """Yield what is wrong with the background jobs: severity, thing, what is wrong, remedy."""
    path = home / "run" / _LOCK
    owner, ended = _owner(path)
    if ended:
        problem = f"its owner, process {owner}, has ended, and something it started keeps the lock"
        yield "error", str(path), problem, "end what `fmos serve` started, then start it again"
    now_ns = time_ns()
    for run in _known_runs(home / "kernel.db"):
        thing = f"job {run.name}"
        if run.failures:
            problem = f"failed {run.failures} times in a row, at last with: {run.error}"
            yield "warning", thing, problem, "mend what it says; it is tried again by itself"
        elif owner and now_ns > run.next_ns + _OVERDUE_NS:
            problem = f"process {owner} owns the jobs and has not done this one for too long"
            yield "warning", thing, problem, "restart `fmos serve`"


def _owner(path: Path) -> tuple[int, bool]:
    """Return the process that says it holds the lock, 0 where nobody does; and whether it ended."""
    text = locks.holder(path) or ""
    owner = owner_of(text)
    if owner is not None:
        return owner.pid, is_dead(owner)
    return int(text) if text.isdecimal() else 0, False  # where /proc does not tell who it is


def _known_runs(path: Path) -> list[JobRun]:
    """Return the last runs without making or changing anything."""
    try:
        with closing(look_at(str(path))) as connection:
            return [JobRun(*row) for row in connection.execute(_ALL)]
    except apsw.Error:  # no home, or no job was ever run: another check says what is broken
        return []


def _wait_s(job: Job, failures: int) -> float:
    """Return how long after its end a job is done again; longer after each failure in a row."""
    if not failures:
        return job.every_s
    return min(_FIRST_RETRY_S * 2 ** (failures - 1), max(job.every_s, _LAST_RETRY_S))


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, FmosError) else f"{type(error).__name__}: {error}"
