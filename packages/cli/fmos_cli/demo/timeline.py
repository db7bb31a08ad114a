"""The demo's timeline: collects what happened, prints it as it happens, and sums it up."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from fmos.types import Decision, Step

_STYLES = {"allow": "green", "deny": "bold red", "ask": "bold yellow", "transform": "cyan"}
_DETAIL = 150


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the demo or a person did: not a governed operation of the agent."""

    operation: str
    detail: str
    ms: float | None = None


@dataclass(slots=True)
class Timeline:
    """Lines of one run. With `quiet` nothing is printed on stdout; progress goes to stderr."""

    quiet: bool
    steps: list[Step] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    _out: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    _err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    _status: Status | None = None

    def __enter__(self) -> Timeline:
        if self._err.is_terminal:
            status = self._status = self._err.status("starting")
            status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def progress(self, text: str) -> None:
        """Say on stderr what is being worked on."""
        if self._status is not None:
            self._status.update(text)
        else:
            print(f"fmos demo: {text}", file=sys.stderr, flush=True)

    def pause(self) -> None:
        """Take the progress line away, so that a question can be asked."""
        if self._status is not None:
            self._status.stop()

    def resume(self) -> None:
        """Show the progress line again."""
        if self._status is not None:
            self._status.start()

    def section(self, title: str) -> None:
        """Begin a part of the run."""
        self.progress(title)
        self.say("")
        self.say(title, "bold")

    def step(self, step: Step) -> None:
        """Take one governed operation."""
        self.steps.append(step)
        reason = "" if step.verdict is Decision.ALLOW else step.reason
        self._line(
            f"{len(self.steps):>3}", step.operation, step.path, step.verdict.value,
            f"{step.added_ms:8.2f}", reason,
        )  # fmt: skip

    def event(self, operation: str, detail: str, ms: float | None = None) -> None:
        """Take something that the demo or a person did."""
        self.events.append(Event(operation, detail, ms))
        self._line("  .", operation, "", "", "" if ms is None else f"{ms:8.2f}", detail)

    def say(self, text: str, style: str = "") -> None:
        """Print a line for people."""
        if not self.quiet:
            self._out.print(Text(text, style=style))

    def _line(
        self, number: str, operation: str, path: str, verdict: str, ms: str, detail: str
    ) -> None:
        line = Text(f"{number}  {operation:<30} {path:<5} ")
        line.append(f"{verdict:<6}", _STYLES.get(verdict, ""))
        line.append(f"{ms:>9}  ")
        line.append(_printable(detail), "dim")
        if not self.quiet:
            self._out.print(line)

    def header(self) -> None:
        """Print the names of the columns."""
        names = f"{'step':>4} {'operation':<30} {'path':<5} {'verdict':<7} {'added ms':>8}"
        self.say(names, "bold")

    def added(self) -> tuple[float, float]:
        """Return the median and the 95th percentile of the time that FMOS added per step."""
        values = sorted(step.added_ms for step in self.steps)
        if len(values) < 2:
            return (values[0], values[0]) if values else (0.0, 0.0)
        return statistics.median(values), statistics.quantiles(values, n=20)[18]

    def count(self, decision: Decision) -> int:
        """Return how many steps got that verdict."""
        return sum(step.verdict is decision for step in self.steps)

    def traps(self) -> int:
        """Return how many steps went to a server before they ran."""
        return sum(step.path == "slow" for step in self.steps)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the steps as JSON-able data."""
        return [step.model_dump(mode="json") for step in self.steps]


def _printable(text: str) -> str:
    """Return one line without control characters: names and texts come from strangers."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= _DETAIL else f"{line[: _DETAIL - 3]}..."
