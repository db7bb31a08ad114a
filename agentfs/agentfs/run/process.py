"""Starts a command, passes signals on, and waits until it and all that it started are gone."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

Stream = int | IO[bytes] | IO[str] | None
TIMED_OUT = 124
_GRACE_S = 2.0
_PASSED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_STATUS_BYTES = 65536


@dataclass(slots=True)
class Streams:
    """The command's standard streams, as `subprocess` takes them; None is this process's own."""

    stdin: Stream = None
    stdout: Stream = None
    stderr: Stream = None


def at_terminal(streams: Streams) -> bool:
    """Say whether a person sits at stdin and stdout, in the foreground, and `setsid` is there."""
    if streams != Streams() or threading.current_thread() is not threading.main_thread():
        return False
    if not (os.isatty(0) and os.isatty(1)) or shutil.which("setsid") is None:
        return False
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


@dataclass(slots=True)
class Child:
    """A command that was started; `status` is where bubblewrap tells its inner process, or -1.

    With `alone` the command has a session of its own inside the sandbox.
    """

    process: subprocess.Popen[bytes]
    status: int = -1
    alone: bool = False
    was_not_set_up: bool = field(default=False, init=False)
    """Whether the sandbox, or the mount before it, failed before it came to the command."""
    _first: int = field(default=0, init=False)
    _told: bytes = field(default=b"", init=False)

    def first(self) -> int:
        """Return the id of the sandbox's first process, or 0 where there is none."""
        if not self._first and self.status >= 0:
            self._told += os.read(self.status, _STATUS_BYTES)
            with suppress(ValueError, KeyError):
                self._first = int(json.loads(self._told.split(b"\n")[0])["child-pid"])
        return self._first

    def send(self, number: int) -> None:
        """Send a signal to the command and its group, not to what holds it."""
        with suppress(ProcessLookupError, PermissionError):
            if self.status < 0:
                os.killpg(self.process.pid, number)
                return
            first = self.first()
            for each in _children(first) if self.alone else [first] if first else []:
                os.killpg(each, number)

    def kill(self) -> None:
        """End it and all that it started at once."""
        with suppress(ProcessLookupError, PermissionError):
            if self.status < 0:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                os.kill(self.first() or self.process.pid, signal.SIGKILL)

    def wait(self, deadline: float | None) -> int:
        """Wait for its end and return its exit code, 128 + n for a signal.

        After the deadline (of the monotonic clock) it gets SIGTERM, and two seconds later SIGKILL.
        """
        try:
            code = self.process.wait(_left(deadline))
        except subprocess.TimeoutExpired:
            self.send(signal.SIGTERM)
            try:
                self.process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                self.process.wait()
            code = TIMED_OUT
        self.finish()
        return 128 - code if code < 0 else code

    def finish(self) -> None:
        """Wait until nothing that the command started can write any more."""
        if self.status < 0:
            self.kill()
            return
        if self.first():
            with suppress(OSError):
                watched = os.pidfd_open(self.first())
                try:
                    select.select([watched], [], [], _GRACE_S)
                finally:
                    os.close(watched)
        while more := os.read(self.status, _STATUS_BYTES):
            self._told += more
        failed = self.process.returncode == 1 or (self.process.returncode > 0 and not self._first)
        self.was_not_set_up = failed and b"exit-code" not in self._told
        os.close(self.status)
        self.status = -1


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(each) for each in file.read().split()]
    except OSError:
        return []


def start(
    command: Sequence[str], environment: dict[str, str], streams: Streams, *,
    status: tuple[int, int] | None, lock: int, own_terminal: bool = False,
) -> Child:  # fmt: skip
    """Start a command line.

    `status` are the ends of the pipe that bubblewrap tells its news in, and `lock` is what the
    sandbox holds while it lives.

    It gets a session of its own, unless it makes one to have a terminal of its own (`terminal`).

    No working directory may be given here: Python holds its lock while the child changes to it,
    and a view that this process serves would wait for that lock for ever.
    """
    inherited = () if status is None else (status[1], lock)
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=streams.stdin, stdout=streams.stdout,
            stderr=streams.stderr, pass_fds=inherited,
            start_new_session=not own_terminal or status is not None,
        )  # fmt: skip
    finally:
        if status is not None:
            os.close(status[1])
    return Child(process, -1 if status is None else status[0], own_terminal)


class Signals:
    """What this process does with signals: before, during and after the command."""

    def __init__(self) -> None:
        """Begin before the command."""
        self._child: Child | None = None
        self._waiting: list[int] = []
        self._raises = True

    @property
    def started(self) -> bool:
        """Say whether the command was about to start, or did."""
        return not self._raises

    def starting(self) -> None:
        """From now on a signal waits for the command, or for the end."""
        self._raises = False

    def pass_to(self, child: Child) -> None:
        """Pass signals on to the command, first those that came while it was started."""
        self._child = child
        while self._waiting:
            child.send(self._waiting.pop(0))

    def done(self) -> None:
        """Let what follows run to its end: the command's changes are being kept."""
        self._child = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """End before the command starts, pass on while it runs, and only note it afterwards."""
        if self._child is not None:
            self._child.send(number)
        elif not self._raises:
            self._waiting.append(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)


@contextmanager
def signals() -> Iterator[Signals]:
    """Take over the signals that end a process; in a thread other than the main one do nothing."""
    found = Signals()
    before = {}
    try:
        for each in _PASSED_ON:
            if signal.getsignal(each) is not signal.SIG_IGN:  # as under nohup
                before[each] = signal.signal(each, found.handle)
    except ValueError:
        yield found
        return
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
