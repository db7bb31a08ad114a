"""Runs one command on a branch, from the view to the journal row."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentfs import journal
from agentfs.errors import InvalidArgument, NoBackend, NoSandbox
from agentfs.paths import is_inside
from agentfs.types import Overlay

from . import (
    backends,
    environment,
    landing,
    places,
    process,
    records,
    recovery,
    sandbox,
)  # fmt: skip
from .backends import Backend, Choice, Prepared, Target, Unprepared
from .landing import Landed
from .process import Signals, Stream, Streams
from .records import Changes, Open
from .recovery import Recovered
from .sandbox import Confinement

if TYPE_CHECKING:
    from agentfs.filesystem import AgentFS

    from .places import Place
    from .terminal import Terminal

Say = Callable[[str], None]
_IN_DIRECTORY = 'cd -- "$1" && shift && exec "$@"'
_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended: `exit_code` is the command's, 128 + n for a signal, 124 after a timeout.

    `before_seq` is the journal row before it, `over_host` says that it saw an overlay.
    With `kept_on` the changes are on that branch, because others changed the same paths.
    """

    exit_code: int
    backend: str
    confined: bool
    changes: Changes
    duration_s: float
    branch: str
    journal_seq: int
    before_seq: int
    over_host: bool
    kept_on: str | None = None
    conflicts: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    recovered: tuple[Recovered, ...] = ()


def run(
    fs: AgentFS, command: Sequence[str], *, overlay: Overlay | str | None = None,
    network: bool = False, backend: str = "auto", unconfined: bool = False,
    timeout_s: float | None = None, stdin: Stream = None, stdout: Stream = None,
    stderr: Stream = None, env: Mapping[str, str] | None = None, hide: Iterable[str] = (),
    bare: bool = False, inside: str = "", say: Say | None = None,
) -> RunResult:  # fmt: skip
    """Run a command on this handle's branch and keep what it changed there.

    The view is the `overlay` (or the directory of the volume that is named), by default the
    branch's only one, else its root. A confined command sees it at the host directory's own path,
    or at `/view`; an unconfined one begins in it. `env` is added to the environment, which else
    has no secrets; `hide` are host paths to mask; `say` is told what a person should know. `bare`
    shows a confined command nothing of the host but its programs, and no environment but what
    every program expects; `inside` is where it then finds the view.

    Streams are as for `subprocess.Popen`. Runs that were killed are finished first.

    Raises:
        NoSandbox: bubblewrap does not work here, and `unconfined` is not given.
        NoBackend: the back end that was named does not work here.
        NotFound, InvalidArgument: there is no such overlay, or several.
    """
    if not command or not all(command[:1]):
        raise InvalidArgument("run", "it needs a command")
    if fs.system:  # no program sees the servers' state
        fs = fs.on(str(fs.branch), system=False)
    with process.signals() as signals:
        say = say or _quiet
        recovered = tuple(recovery.recover(fs))
        for each in recovered:
            say(describe(each))
        confinement = Confinement(network, tuple(hide), bare, inside)
        job = _Job(
            fs, tuple(command), find_target(fs, overlay), confinement,
            Streams(stdin, stdout, stderr), dict(env or {}), timeout_s, say, signals,
        )  # fmt: skip
        return job.run(backend, unconfined, recovered)


def check(program: str, backend: str, unconfined: bool) -> Choice:
    """Return the back end that a run would try first, before anything is made for it.

    Whether bubblewrap works is seen when it is used: to try it costs as much as to run something.

    Raises:
        NoSandbox, NoBackend, InvalidArgument: as of `run`.
    """
    reason = "" if unconfined else sandbox.missing()
    if reason:
        raise NoSandbox(program, reason)
    return backends.choose(backend)


def _quiet(sentence: str) -> None:
    """Tell nobody."""


def find_target(fs: AgentFS, overlay: Overlay | str | None) -> Target:
    """Return what a command sees: an overlay, a directory, the only overlay, or the root.

    Raises:
        InvalidArgument: none is named and there are several.
        NotFound, NotADirectory: a path that is named is no directory.
    """
    if isinstance(overlay, Overlay):
        return Target(overlay.at, overlay.host)
    known = fs.overlays()
    if overlay is not None:
        found = next((each for each in known if each.at == overlay), None)
        if found is None:
            fs.listdir(overlay)
            return Target(overlay, None)
        return Target(found.at, found.host)
    if len(known) > 1:
        places_of = ", ".join(each.at for each in known)
        raise InvalidArgument("run", f"there are several overlays ({places_of}); name one with at")
    return Target(known[0].at, known[0].host) if known else Target("/", None)


def describe(found: Recovered) -> str:
    """Return a sentence about a run that was killed and is finished now."""
    what = f"the run of {shlex.join(found.command)!r} on {found.branch!r} was killed"
    if found.lost:
        return f"{what}: {found.lost}"
    total = found.changes.total
    changes = "its 1 change is" if total == 1 else f"its {total} changes are"
    where = f"on the branch {found.kept_on!r} now" if found.kept_on else "in the branch"
    return f"{what}; {changes} {where}"


@dataclass(slots=True)
class _Job:
    """One call of `run`."""

    fs: AgentFS
    command: tuple[str, ...]
    target: Target
    confinement: Confinement
    streams: Streams
    environment: dict[str, str]
    timeout_s: float | None
    say: Say
    signals: Signals

    def run(self, backend: str, unconfined: bool, recovered: tuple[Recovered, ...]) -> RunResult:
        choice = check(self.command[0], backend, unconfined)
        self._require_outside()
        if self.target.host == "/" and not unconfined:
            raise InvalidArgument("/", "the whole host cannot be replaced by a view; overlay less")
        while True:
            try:
                return self._on(choice, not unconfined, recovered)
            except Unprepared as error:
                if backend != "auto":
                    raise NoBackend(choice.backend.name, str(error)) from error
                choice = _next(choice, str(error))

    def _require_outside(self) -> None:
        """Refuse a view in which the view itself would be."""
        base = places.base()
        if self.target.host is not None and is_inside(base, self.target.host):
            raise InvalidArgument(
                base, "the overlaid directory holds the runs; set TMPDIR to one outside of it"
            )

    def _on(self, choice: Choice, confined: bool, recovered: tuple[Recovered, ...]) -> RunResult:
        backend = choice.backend
        with self._begun(backend, confined) as (run, place):
            with backend.prepare(self.fs, self.target, place) as prepared:
                self.say(_headline(choice, confined, self.confinement.network))
                code, seconds = self._execute(run, place, prepared)
            landed, row = self._end(backend, run, place, code, seconds)
        if landed.kept_on:
            self.say(landing.explain(landed, run.branch))
        return RunResult(
            code, backend.name, confined, landed.changes, seconds, run.branch, row, run.seq,
            self.target.host is not None, landed.kept_on, landed.conflicts,
            landed.skipped, recovered,
        )  # fmt: skip

    @contextmanager
    def _begun(self, backend: Backend, confined: bool) -> Iterator[tuple[Open, Place]]:
        """Note the run in the volume and make its place.

        A run that fails before its command leaves nothing; after it, what the command did stays
        for `recover`.
        """
        name = os.urandom(_ID_BYTES).hex()
        place = places.new(name)
        run = Open(
            name, str(self.fs.branch), self.command, backend.name, self.target, place.path,
            _newest(self.fs), time.time_ns(), confined, self.confinement.network, os.getpid(),
        )  # fmt: skip
        try:
            with self.fs.at(run.seq):  # kept from gc until the end
                records.begin(self.fs, run)
                yield run, place
        except BaseException as error:
            if self.signals.started and not isinstance(error, NoSandbox):
                place.leave()
                self.say("what the command did is not lost: `agentfs run --recover` finishes it")
            else:
                records.forget(self.fs, run)
                place.remove()
            raise
        place.remove()

    def _own_terminal(self) -> Terminal | None:
        if not process.at_terminal(self.streams):
            return None
        from .terminal import Terminal  # noqa: PLC0415 - only at a terminal

        return Terminal()

    def _execute(self, run: Open, place: Place, prepared: Prepared) -> tuple[int, float]:
        own = self._own_terminal()
        inner = (*(own.wrap() if own else ()), "env", "--", *self.command)
        status = os.pipe() if run.confined else None
        line = self._command_line(prepared, place, status, inner)
        variables = environment.build(
            run.branch, self.environment, confined=run.confined, bare=self.confinement.bare
        )
        streams = own.streams() if own else self.streams
        started = time.monotonic()
        deadline = None if self.timeout_s is None else started + self.timeout_s
        self.signals.starting()
        child = process.start(
            line, variables, streams, status=status, lock=place.lock, own_terminal=own is not None
        )
        self.signals.pass_to(child)
        try:
            code = own.relay(child, deadline) if own else child.wait(deadline)
        except BaseException:
            child.kill()
            raise
        finally:
            self.signals.done()
        if child.was_not_set_up:
            reason = sandbox.why_not() if run.confined else ""
            raise NoSandbox(
                self.command[0], reason or "the sandbox could not be set up, and said why above"
            )
        return code, time.monotonic() - started

    def _command_line(
        self, prepared: Prepared, place: Place, status: tuple[int, int] | None,
        inner: Sequence[str],
    ) -> list[str]:  # fmt: skip
        if status is None:
            return [*prepared.wrap, "/bin/sh", "-c", _IN_DIRECTORY, "run", prepared.source, *inner]
        confined = sandbox.arguments(
            self.fs, self.target, prepared, self.confinement, status_fd=status[1],
            lock_fd=place.lock,
        )  # fmt: skip
        return [*prepared.wrap, *confined, *inner]

    def _end(
        self, backend: Backend, run: Open, place: Place, code: int, seconds: float
    ) -> tuple[Landed, int]:
        """Bring the changes in and write the journal row, in one transaction."""
        found = backend.difference(place) if backend.keeps else None
        with self.fs.transaction():
            if found is None:
                landed = Landed(landing.changes_since(self.fs, run))
            else:
                landed = landing.land(self.fs, run, found)
            row = records.end(
                self.fs, run, landed.changes, seconds, exit_code=code,
                kept_on=landed.kept_on, conflicts=list(landed.conflicts),
            )  # fmt: skip
        return landed, row or 0


def _next(choice: Choice, reason: str) -> Choice:
    """Return the next back end that works, after one that did not."""
    passed = [*choice.passed, (choice.backend.name, reason)]
    for name in backends.ORDER[backends.ORDER.index(choice.backend.name) + 1 :]:
        backend = backends.get(name)
        why = backend.why_not()
        if not why:
            return Choice(backend, passed)
        passed.append((name, why))
    raise NoBackend("auto", backends.explain(passed))


def _headline(choice: Choice, confined: bool, network: bool) -> str:
    """Say which back end runs the command, what holds it, and why others do not work."""
    if confined:
        held = "bubblewrap, " + ("with network" if network else "no network")
    else:
        held = "UNCONFINED: it can reach whatever you can"
    passed = f"; {backends.explain(choice.passed)}" if choice.passed else ""
    return f"back end {choice.backend.name} ({held}){passed}"


def _newest(fs: AgentFS) -> int:
    with fs.view_for_reading() as view:
        return journal.bounds(view.session)[1]
