"""The traces of one agent session, on the side of the agent: turns, and the calls in them.

A turn begins with what the user says and ends when the run does. Where the framework has a span
of its own open, its trace is the turn's; else the turn has a trace of its own. With telemetry off
there are no spans, and an operation still knows its trace.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fmos.telemetry import context, switch

if TYPE_CHECKING:
    from fmos.telemetry.spans import AgentSpan, OpenedSpan, TurnSpan
    from fmos.types import Operation, Outcome, Principal, Verdict

_HERE: AbstractContextManager[None] = nullcontext()


class Opened:
    """An operation under way, while telemetry is off."""

    __slots__ = ("span", "trace")

    def __init__(self, trace: str, span: str | None) -> None:
        self.trace = trace
        self.span = span

    def within(self) -> AbstractContextManager[None]:
        """Return what is held around calls that are made for the operation."""
        return _HERE

    def running(self) -> AbstractContextManager[None]:
        """Return what is held around the tool or the model itself."""
        return _HERE

    def decided(self, verdict: Verdict, *, fast: bool, added_ms: float) -> None:
        """Say what was decided; an operation that may not run ends here."""

    def tool_closed(self, outcome: Outcome, call_id: str, added_ms: float) -> None:
        """End a tool call."""

    def model_closed(self, usage: dict[str, int], added_ms: float) -> None:
        """End a model call, with what it used; nothing if it was not made."""

    def cancelled(self) -> None:
        """End an operation that was cut off."""


class Turns:
    """The turns of one session. Thread-safe."""

    def __init__(self, who: Principal) -> None:
        self._who = who
        self._lock = threading.Lock()
        self._trace = context.new_trace()
        self._turn: TurnSpan | None = None
        self._began = perf_counter()
        self._used = self._answered = False

    def began(self) -> None:
        """Begin a turn: the user has said something. One without an operation so far goes on."""
        if self._used:
            self.ended()
        with self._lock:
            self._began = perf_counter()

    def ended(self) -> None:
        """End the turn."""
        with self._lock:
            turn, self._turn = self._turn, None
            self._trace = context.new_trace()
            self._began = perf_counter()
            self._used = self._answered = False
        if turn is not None:
            turn.end()

    def opened(self, operation: Operation) -> Opened | OpenedSpan:
        """Open an operation: its span begins."""
        self._used = True
        recorder = switch.recorder()
        if recorder is not None:
            from fmos.telemetry.spans import OpenedSpan  # noqa: PLC0415 - needs OpenTelemetry

            return OpenedSpan(recorder, self._who, operation, self)
        given = context.trace_id(operation.trace)
        if given is not None:
            return Opened(given, context.span_id(operation.span))
        here = context.current()
        return Opened(here.trace, here.span) if here else Opened(self._trace, None)

    def within(self) -> AbstractContextManager[Any]:
        """Return what is held around calls for the turn as a whole."""
        span = self.agent_span()
        return _HERE if span is None else span.within()

    def agent_span(self) -> AgentSpan | None:
        """Return what the turn's operations are children of; None while telemetry is off."""
        recorder = switch.recorder()
        if recorder is None:
            return None
        from fmos.telemetry.spans import FrameworkSpan, TurnSpan  # noqa: PLC0415

        with self._lock:
            if self._turn is None:
                framework = FrameworkSpan.active()
                if framework is not None:
                    return framework
                self._turn = TurnSpan(recorder, self._who, self._trace)
            return self._turn

    def onset_ms(self) -> float | None:
        """Return the milliseconds from the user's words to the first answer, once for a turn."""
        with self._lock:
            if self._answered:
                return None
            self._answered = True
            onset = round((perf_counter() - self._began) * 1000, 3)
            if self._turn is not None:
                self._turn.first_answer(onset)
            return onset
