"""Runs one command of a trigger: bounded in time, with the end of what it said."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from agentfs.triggers.store import RunState

TAIL_BYTES = 4096
_CANNOT_START = 127
_GRACE_S = 5.0
_ASK_S = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    state: RunState
    exit_code: int | None
    output: str


def run(
    action: Sequence[str], *, cwd: str | None, environment: Mapping[str, str], given: bytes,
    timeout_s: float, stop: threading.Event, started: Callable[[str], None],
) -> Outcome:  # fmt: skip
    """Run a command to its end, to its time limit, or until `stop`; `given` is its stdin.

    It runs in a session of its own, so that what it started ends with it. `started` is told how
    to know the process again.
    """
    with tempfile.TemporaryFile() as stdin:
        stdin.write(given)
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                action, cwd=cwd, env=dict(environment), stdin=stdin, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return Outcome("failed", _CANNOT_START, f"cannot start {action[0]!r}: {error}")
    tail = _Tail(process.stdout)
    try:
        started(identity(process.pid))
        why = _wait(process, timeout_s, stop)
    except BaseException:
        _end(process.pid, signal.SIGKILL)
        process.wait()
        raise
    output = tail.text()
    if why == "timeout":
        return Outcome("failed", None, f"{output}\nkilled after {timeout_s:g} s".lstrip())
    if why == "stop":
        return Outcome("interrupted", None, f"{output}\nthe runner was stopped".lstrip())
    return Outcome("failed" if process.returncode else "done", process.returncode, output)


def _wait(process: subprocess.Popen[bytes], timeout_s: float, stop: threading.Event) -> str:
    deadline = time.monotonic() + timeout_s
    pause = 0.001
    while process.poll() is None:
        if stop.is_set():
            _end(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            _end(process.pid, signal.SIGKILL)
            process.wait()
            return "stop"
        left = deadline - time.monotonic()
        if left <= 0:
            _end(process.pid, signal.SIGKILL)
            process.wait()
            return "timeout"
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(pause, left))
        pause = min(pause * 2, _ASK_S)
    return ""


class _Tail:
    """Reads what a process says and keeps the end of it."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self._stream.fileno(), 65536):
            self._kept = (self._kept + piece)[-TAIL_BYTES:]

    def text(self) -> str:
        """Return the end; something that was left running may still hold the pipe."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._stream.close()
        return self._kept.decode("utf-8", "replace").strip()


def identity(process: int) -> str:
    """Return what names a process beyond its number, which is used again."""
    return f"{process} {_begun(process)}"


def is_alive(known: str) -> bool:
    """Say whether a process that `identity` named still runs."""
    number, _, begun = known.partition(" ")
    return _begun(int(number)) == begun != "-"


def end(known: str) -> None:
    """Kill what a process that `identity` named has started, and itself."""
    if is_alive(known):
        _end(int(known.partition(" ")[0]), signal.SIGKILL)


def _end(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, number)


def _begun(process: int) -> str:
    """Return when a process began, "-" for one that has ended."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except FileNotFoundError:
        return _begun_elsewhere(process)
    return "-" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _begun_elsewhere(process: int) -> str:
    """Say only whether it is there, on a system without /proc."""
    if os.path.isdir("/proc/self"):
        return "-"
    try:
        os.kill(process, 0)
    except OSError:
        return "-"
    return "?"
