"""`import --watch`: says what comes in while a host directory is watched, until told to end."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agentfs.cli.render import count, letter, progress, safe, size, utc

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.hostwatch import HostWatch
    from agentfs.types import MirrorChange


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second signal ends the process as ever."""
    stop = threading.Event()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for each in before:
        signal.signal(each, end)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def follow(
    fs: AgentFS, host: Path, path: str, *, limit: int | None, timeout: float | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Watch, and print each burst and at the end a summary; JSON is one object per line."""
    from agentfs.hostwatch import watch_host  # noqa: PLC0415 - only where it is watched

    with stopped_by_signals() as stop, progress("import") as report:
        timer = _Timer(timeout, stop)
        with watch_host(fs, host, path, stop=stop, progress=report, **options) as watch:
            bursts = changed = 0
            for bursts, changes in enumerate(islice(watch, limit), 1):
                changed += len(changes)
                report.close()
                _say_burst(watch, bursts, changes, host, path, as_json)
                timer.again()
        timer.cancel()
    _say_end(watch, bursts, changed, host, path, as_json)


class _Timer:
    """Sets an event when nothing happened for so long."""

    def __init__(self, seconds: float | None, stop: threading.Event) -> None:
        """Wait for the first burst, however long that takes."""
        self._seconds = seconds
        self._stop = stop
        self._timer: threading.Timer | None = None

    def again(self) -> None:
        """Begin anew."""
        self.cancel()
        if self._seconds is not None:
            self._timer = threading.Timer(self._seconds, self._stop.set)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()


def _say_burst(
    watch: HostWatch, number: int, changes: list[MirrorChange], host: Path, path: str,
    as_json: bool,
) -> None:  # fmt: skip
    problems = _new_problems(watch)
    if as_json:
        rows = [{"path": each.path, "kind": each.kind} for each in changes]
        line: dict[str, Any] = {"time_ns": time.time_ns(), "changes": rows, "problems": problems}
        _print([json.dumps(line)])
        return
    if number == 1:
        _print(f"{letter(each.kind)} {safe(each.path)}" for each in changes)
        _print([f"Watching {safe(str(host))} for {safe(path)}; Ctrl-C ends it."])
    else:
        now = utc(time.time_ns())
        _print(f"{now} {letter(each.kind)} {safe(each.path)}" for each in changes)
    for each in problems:
        typer.echo(f"agentfs: left out {safe(each)}", err=True)


def _new_problems(watch: HostWatch) -> list[str]:
    """Take what could not come along off the totals, so that it is told once."""
    totals = watch.totals
    found = list(dict.fromkeys((*totals.skipped, *totals.failed)))
    totals.skipped.clear()
    totals.failed.clear()
    return found


def _say_end(
    watch: HostWatch, bursts: int, changed: int, host: Path, path: str, as_json: bool
) -> None:
    moved = dataclasses.asdict(watch.totals)
    if as_json:
        figures = {name: moved[name] for name in ("files", "directories", "symlinks", "bytes")}
        facts = {"from": str(host), "to": path, "bursts": bursts, "changed": changed}
        _print([json.dumps({**facts, **figures})])
    else:
        what = f"{count(changed, 'change')} in {count(bursts, 'burst')}"
        where = f"from {safe(str(host))} to {safe(path)}"
        _print([f"Imported {what} ({size(moved['bytes'])}) {where}."])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
