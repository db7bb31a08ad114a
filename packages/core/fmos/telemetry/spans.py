"""The spans of an agent's side: the turn, its model calls and its tool calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import context as contexts
from opentelemetry import trace as traces
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from fmos.telemetry import names
from fmos.telemetry.recorder import Recorder, of_principal, signals_of, wanted_trace
from fmos.telemetry.turns import Opened, Turns
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal, Verdict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_SHOWN = 128
_ERROR_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}(?=:|$)")

#: In which words a provider counts what went in, and what came out.
_INPUT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")


class AgentSpan(Protocol):
    """What the operations of a turn are children of."""

    @property
    def context(self) -> Context:
        """The context below it."""
        ...

    def within(self) -> AbstractContextManager[None]:
        """Return what makes it the current span of a block."""
        ...


class FrameworkSpan:
    """The span that the framework has open: it is current already."""

    def __init__(self) -> None:
        self.context = contexts.get_current()

    @classmethod
    def active(cls) -> FrameworkSpan | None:
        """Return the framework's span, if it has one."""
        valid = traces.get_current_span().get_span_context().is_valid
        return cls() if valid else None

    @contextmanager
    def within(self) -> Iterator[None]:
        """Change nothing."""
        yield


class TurnSpan:
    """A turn of an agent that no framework traces: `invoke_agent NAME`."""

    def __init__(self, recorder: Recorder, who: Principal, trace: str) -> None:
        attributes = {names.OPERATION_NAME: names.INVOKE_AGENT, **of_principal(who)}
        if who.agent:
            attributes[names.AGENT_NAME] = who.agent
        token = wanted_trace.set(int(trace, 16))
        try:
            self._span = recorder.tracer.start_span(
                f"{names.INVOKE_AGENT} {who.agent}".strip(), Context(), attributes=attributes
            )
        finally:
            wanted_trace.reset(token)
        self.context = traces.set_span_in_context(self._span, Context())
        self._open = recorder.open_turns
        self._open.add(self)

    def within(self) -> AbstractContextManager[None]:
        """Make it the current span of a block."""
        return _current(self._span)

    def first_answer(self, onset_ms: float) -> None:
        """Say how long the first answer took."""
        self._span.set_attribute(names.ONSET_MS, onset_ms)

    def end(self) -> None:
        """End the turn."""
        self._open.discard(self)
        self._span.end()


class OpenedSpan(Opened):
    """An operation under way: `execute_tool NAME` or `chat MODEL`, around the real call."""

    def __init__(
        self, recorder: Recorder, who: Principal, operation: Operation, turns: Turns
    ) -> None:
        above = turns.agent_span()
        self._recorder = recorder
        self._operation = operation
        self._turns = turns
        self._begin = perf_counter()
        self._model = operation.kind is OperationKind.MODEL_GENERATE
        self._span: Span = recorder.tracer.start_span(
            self._name(),
            above.context if above is not None else None,
            SpanKind.CLIENT if self._model else SpanKind.INTERNAL,
            {**self._attributes(), **of_principal(who)},
        )
        ids = self._span.get_span_context()
        # A trace that is not kept has no span to be below of.
        below = f"{ids.span_id:016x}" if ids.trace_flags.sampled else None
        super().__init__(f"{ids.trace_id:032x}", below)
        self._calls_ms = 0.0

    @contextmanager
    def within(self) -> Iterator[None]:
        """Make it the current span of calls that are made for the operation, and time them."""
        begin = perf_counter()
        try:
            with _current(self._span):
                yield
        finally:
            self._calls_ms += (perf_counter() - begin) * 1000

    def running(self) -> AbstractContextManager[None]:
        """Return what is held around the tool or the model: its own spans are below this one."""
        return _current(self._span)

    def decided(self, verdict: Verdict, *, fast: bool, added_ms: float) -> None:
        """Say what was decided; an operation that may not run ends here."""
        instruments = self._recorder.instruments
        (instruments.fast if fast else instruments.slow).add(
            1, {names.OPERATION_KIND: self._operation.kind.value}
        )
        attributes: dict[str, Any] = {
            names.DECISION: verdict.decision.value,
            names.PATH: "fast" if fast else "slow",
        }
        if verdict.policy:
            attributes[names.POLICY] = verdict.policy
        signals = dict.fromkeys((*verdict.signals, *signals_of(self._operation)))
        if signals:
            attributes[names.SIGNALS] = list(signals)
        if verdict.approval:
            attributes[names.APPROVAL] = verdict.approval
        self._span.set_attributes(attributes)
        if not verdict.allowed:
            self._end(added_ms)

    def tool_closed(self, outcome: Outcome, call_id: str, added_ms: float) -> None:
        """End a tool call."""
        attributes: dict[str, Any] = {
            names.STATUS: outcome.status.value,
            names.TOOL_MS: outcome.duration_ms,
        }
        if call_id:
            attributes[names.TOOL_CALL_ID] = call_id
        labels = {names.TOOL_NAME: self._operation.name[:_SHOWN]}
        if outcome.status is not OutcomeStatus.OK:
            # The error's name only: what it says may hold what the tool was given.
            found = _ERROR_NAME.match(outcome.error)
            attributes[names.ERROR_TYPE] = found.group() if found else "_OTHER"
            labels[names.ERROR_TYPE] = attributes[names.ERROR_TYPE]
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attributes(attributes)
        self._recorder.instruments.tools.record(outcome.duration_ms / 1000, labels)
        self._end(added_ms)

    def model_closed(self, usage: dict[str, int], added_ms: float) -> None:
        """End a model call, with what it used; nothing if it was not made."""
        seconds = max(0.0, perf_counter() - self._begin - added_ms / 1000)
        if not usage:
            self._span.set_attribute(names.ERROR_TYPE, "not_made")
            self._end(added_ms)
            return
        given, made = _counted(usage, _INPUT), _counted(usage, _OUTPUT)
        labels = {
            names.OPERATION_NAME: names.CHAT,
            names.PROVIDER: names.provider_of(self._operation.name),
            names.REQUEST_MODEL: self._operation.name[:_SHOWN],
        }
        attributes: dict[str, Any] = {names.STATUS: "ok"}
        instruments = self._recorder.instruments
        if given is not None:
            attributes[names.INPUT_TOKENS] = given
            instruments.tokens.record(given, {**labels, names.TOKEN_TYPE: "input"})
        if made is not None:
            attributes[names.OUTPUT_TOKENS] = made
            instruments.tokens.record(made, {**labels, names.TOKEN_TYPE: "output"})
            if seconds:
                attributes[names.TOKENS_PER_SECOND] = round(made / seconds, 3)
        if usage.get("tokens"):
            attributes[names.TOKENS] = usage["tokens"]
        onset = self._turns.onset_ms()
        if onset is not None:
            attributes[names.ONSET_MS] = onset
        self._span.set_attributes(attributes)
        instruments.models.record(seconds, labels)
        self._end(added_ms)

    def cancelled(self) -> None:
        """End an operation that was cut off."""
        self._span.set_attributes(
            {names.STATUS: OutcomeStatus.UNKNOWN.value, names.ERROR_TYPE: "cancelled"}
        )
        self._span.set_status(Status(StatusCode.ERROR))
        self._end(self._calls_ms)

    def _name(self) -> str:
        name = self._operation.name[:_SHOWN]
        return f"{names.CHAT if self._model else names.EXECUTE_TOOL} {name}"

    def _attributes(self) -> dict[str, Any]:
        operation = self._operation
        attributes: dict[str, Any] = {
            names.OPERATION_ID: operation.id,
            names.OPERATION_KIND: operation.kind.value,
        }
        if self._model:
            attributes[names.OPERATION_NAME] = names.CHAT
            attributes[names.PROVIDER] = names.provider_of(operation.name)
            attributes[names.REQUEST_MODEL] = operation.name[:_SHOWN]
        else:
            attributes[names.OPERATION_NAME] = names.EXECUTE_TOOL
            attributes[names.TOOL_NAME] = operation.name[:_SHOWN]
            attributes[names.TOOL_TYPE] = "function"
        return attributes

    def _end(self, added_ms: float) -> None:
        calls_ms = self._calls_ms
        self._span.set_attributes(
            {names.ADDED_MS: round(added_ms, 3), names.CALLS_MS: round(calls_ms, 3)}
        )
        own = max(0.0, added_ms - calls_ms) / 1000
        self._recorder.instruments.overhead.record(own, {names.LAYER: "client"})
        self._span.end()


def _counted(usage: dict[str, int], words: tuple[str, ...]) -> int | None:
    """Return a count by whichever of its names the usage has."""
    return next((usage[word] for word in words if word in usage), None)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    token = contexts.attach(traces.set_span_in_context(span))
    try:
        yield
    finally:
        contexts.detach(token)
