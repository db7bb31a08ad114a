"""How results look: text lines for people, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from agentfs.types import Totals

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="WHEN", help="A branch, snapshot, journal row (@12) or time (-2h, ISO)."
    ),
]

_PROGRESS_AFTER_S = 1.0
_REPORT_EVERY = 100
_Item = TypeVar("_Item")
_LETTERS = {"added": "A", "modified": "M", "removed": "D", "mode": "P", "type": "T"}


def emit_json(document: Any) -> None:
    """Print one JSON document; names that are not UTF-8 appear with escaped surrogates."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def emit_rows(rows: Iterable[Any]) -> int:
    """Print a JSON array, each row as it comes, and return how many there were."""
    number = 0
    for number, row in enumerate(rows, 1):
        sys.stdout.write(("[\n  " if number == 1 else ",\n  ") + json.dumps(row))
    sys.stdout.write("\n]\n" if number else "[]\n")
    return number


def emit_lines(lines: Iterable[str]) -> int:
    """Print lines as they come, so that a long listing starts at once; return how many."""
    number = 0
    for line in lines:
        sys.stdout.write(line + "\n")
        number += 1
    return number


def safe(name: str) -> str:
    """A name on one line: agents choose names, and a terminal obeys control characters."""
    if name.isprintable():
        return name
    return "".join(
        char if char.isprintable() or 0xDC80 <= ord(char) <= 0xDCFF else repr(char)[1:-1]
        for char in name
    )


def utc(time_ns: int) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def size(count: int) -> str:
    """A byte count with a unit that people read."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `1 branch`, `2 branches`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"


def letter(kind: str) -> str:
    """The one-letter form of a change: A(dded), M(odified), D(eleted), P(ermissions), T(ype)."""
    return _LETTERS[kind]


class Progress:
    """A progress line on stderr that appears when work takes over a second on a terminal."""

    def __init__(self, verb: str) -> None:
        """Start the clock; nothing is shown yet."""
        self._verb = verb
        self._start = time.monotonic()
        self._wanted = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, totals: Totals) -> None:
        """Report what is through so far."""
        self.report(totals.files, "files", size(totals.bytes))

    def report(self, done: int, unit: str, what: str = "") -> None:
        """Report how many of something are done, and a word on it."""
        if not self._wanted or time.monotonic() - self._start < _PROGRESS_AFTER_S:
            return
        bar = self._show() if self._bar is None else self._bar
        bar.update(self._task, completed=done, unit=unit, what=what)

    def counting(self, items: Iterable[_Item], unit: str) -> Iterator[_Item]:
        """Yield items and report how many went by."""
        for number, item in enumerate(items, 1):
            if not number % _REPORT_EVERY:
                self.report(number, unit)
            yield item

    def _show(self) -> Any:
        from rich.console import Console  # noqa: PLC0415 - only where it is seen
        from rich.progress import Progress as Bar  # noqa: PLC0415
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        self._bar = Bar(
            SpinnerColumn(),
            TextColumn(f"{self._verb} {{task.completed}} {{task.fields[unit]}}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._verb, total=None, unit="", what="")
        return self._bar

    def close(self) -> None:
        """Take the line off the terminal."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(verb: str) -> Iterator[Progress]:
    """A progress reporter that is gone when the work ends, however it ends."""
    reporter = Progress(verb)
    try:
        yield reporter
    finally:
        reporter.close()
